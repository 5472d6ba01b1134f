"""The demo as a person meets it: made by the shell command, its failures real, the README's story true in it."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backup_ops import lock
from backup_ops.demo.jobs import JOBS
from backup_ops.demo.samples import DAYS

ROOT = Path(__file__).resolve().parent.parent
LINUX_ROOT = sys.platform == "linux" and os.geteuid() == 0


class DemoUser:
    """Somebody with an empty home directory, who types commands."""

    def __init__(self, home_directory: Path) -> None:
        self.home_directory = home_directory
        self.environment = {name: os.environ[name] for name in ("LANG", "TZ", "LC_ALL") if name in os.environ} | {
            "HOME": str(home_directory),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "XDG_DATA_HOME": str(home_directory / ".local/share"),
        }
        self.said = ""
        self.demo_home = home_directory / ".local/share/backup-ops-demo"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "backup_ops", *arguments]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.home_directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def call(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=280)
        return process.returncode, said

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        code, said = self.call("--home", str(self.demo_home), "--json", *arguments)
        assert code == 0, said
        return json.loads(said)

    def bash(self, script: str) -> subprocess.CompletedProcess[str]:
        script = script.replace("source .venv/bin/activate", 'backup-ops() { python -m backup_ops "$@"; }')
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self.environment, cwd=self.home_directory, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> DemoUser:
    """The demo was begun once and killed in the middle of its first day, then made."""
    user = DemoUser(tmp_path_factory.mktemp("person"))
    first = user.start("demo", "--no-serve")
    end = time.monotonic() + 60
    while not list((user.demo_home / "queue").glob("*.json")) and time.monotonic() < end and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert json.loads((user.demo_home / "demo.json").read_text())["state"] == "building"
    code, said = user.call("demo", "--no-serve")
    assert code == 0, said
    user.said = said
    return user


pytestmark = pytest.mark.timeout(300)


def test_runs_end_in_every_way_a_run_can_end(user: DemoUser) -> None:
    outcomes = {run["outcome"] for run in user.json("runs", "--limit", "1000")}
    assert outcomes >= {"succeeded", "warning", "failed", "cancelled", "interrupted", "skipped"}


def test_jobs_that_nothing_happens_to_succeed_every_day(user: DemoUser) -> None:
    failed = {"team", "scans", "camera-card", "web-logs", "films", "research"}
    bad = [
        (run["job"], run["outcome"], run["reason"])
        for run in user.json("runs", "--limit", "1000")
        if run["job"] not in failed and run["outcome"] not in ("succeeded", "cancelled", "interrupted", "skipped")
    ]
    assert bad == []


def test_failures_are_of_many_kinds(user: DemoUser) -> None:
    found = {(error["job"], error["error_type"]) for error in user.json("errors", "--limit", "1000")}
    expected = {
        ("camera-card", "source_missing"),
        ("research", "repository_missing"),
        ("team", "too_many_deletes"),
        ("web-logs", "source_changed"),
        ("website", "interrupted"),
    }
    if LINUX_ROOT:
        # What a machine does not allow is said, and only then missing.
        expected |= {("scans", "permission_denied")} if "nothing is unreadable" not in user.said else set()
        expected |= {("films", "disk_full")} if "the stick never gets full" not in user.said else set()
    assert expected <= found


def test_every_failure_says_what_to_do(user: DemoUser) -> None:
    errors = user.json("errors", "--limit", "1000")
    assert [error for error in errors if not error["message"] or not error["remedy"]] == []


def test_there_are_files_jobs_and_days_enough(user: DemoUser) -> None:
    files = [path for path in (user.demo_home / "demo" / "files").rglob("*") if path.is_file()]
    assert len(files) > 500
    assert len(user.json("jobs")) >= 8
    assert len(user.json("snapshots", "documents")) == 5


def test_nothing_is_left_mounted_or_running(user: DemoUser) -> None:
    if Path("/proc/self/mountinfo").exists():
        assert str(user.demo_home) not in Path("/proc/self/mountinfo").read_text()
    assert list((user.demo_home / "queue").iterdir()) == []


def test_a_whole_demo_is_left_as_it_is(user: DemoUser) -> None:
    before = [run["run_id"] for run in user.json("runs", "--limit", "1000")]
    code, said = user.call("demo", "--no-serve")
    assert code == 0, said
    assert "made before" in said
    assert [run["run_id"] for run in user.json("runs", "--limit", "1000")] == before


def test_a_folder_with_other_things_is_refused_and_not_touched(user: DemoUser, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    code, said = user.call("demo", "--no-serve", "--home", str(tmp_path))
    assert code == 2
    assert str(tmp_path) in said
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.txt", "ten years of work")]


def test_two_do_not_make_the_same_demo_at_once(user: DemoUser, tmp_path: Path) -> None:
    with lock.hold(tmp_path / "demo.lock"):
        code, said = user.call("demo", "--no-serve", "--home", str(tmp_path))
    assert code == 2
    assert "is being made" in said


def test_the_readme_counts_jobs_and_days_right() -> None:
    numbers = {5: "five", 12: "twelve"}
    first = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{numbers[len(JOBS)]} jobs, {numbers[DAYS]} days" in first


def test_the_story_of_the_readme_is_true(user: DemoUser) -> None:
    """Last: it changes the demo."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stories = re.findall(r"<!-- story -->\n```sh\n(.*?)```\n<!-- end story -->", readme, re.DOTALL)
    assert len(stories) == 2
    picture = user.demo_home / "demo/files/photos/2025-08 Coast/IMG_1205.png"
    before = picture.read_bytes()
    assert before.startswith(b"\x89PNG")
    done = user.bash("\n".join(stories))
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture.read_bytes() == before
    with (user.home_directory / "errors.csv").open(newline="", encoding="utf-8") as file:
        assert {row["job"] for row in csv.DictReader(file)} >= {"camera-card", "research"}
