"""The command as people start it: a process of its own, in a home of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Place, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """Starts `python -m backup_ops` for a home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = sys.executable
        # No COLUMNS, no NO_COLOR of the developer: what a pipe gets is what is tested.
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
        } | {"BACKUP_OPS_HOME": str(home), "PYTHONPATH": str(ROOT)}

    def __call__(
        self, *words: object, env: dict[str, str] | None = None, **options
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backup_ops", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=90,
            env=self.environment | (env or {}),
            **options,
        )

    def start(self, *words: object, **options) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell's job is."""
        return subprocess.Popen(
            [sys.executable, "-m", "backup_ops", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            process_group=0,
            **options,
        )

    def data(self, *words: object):
        """What `--json` gives, of a command that has to succeed."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def shell(place):
    return Shell(place.home)


@pytest.fixture(scope="module")
def past_home(tmp_path_factory):
    """A home with two good runs of `photos`, then two runs of `gone` that failed; for tests that only read."""
    place = Place(tmp_path_factory.mktemp("past"))
    place.fill()
    place.write_jobs(f"gone: {{source: {place.folder}/gone, repository: mirror}}\n")
    for words in (["photos"], ["photos"], ["gone"], ["gone"]):
        Shell(place.home)("run", *words)
    return place


@pytest.fixture
def filled(place):
    """A place with files and the job `photos`."""
    place.fill()
    place.write_jobs()
    return place


SLOW = "slow: {{source: {folder}, repository: mirror, limits: {{bandwidth: 100K}}}}\n"


@pytest.fixture
def slow(place):
    """The job `slow`, which takes some forty seconds unless it is cancelled, and `photos` on the same repository."""
    place.fill()
    folder = place.folder / "slow"
    place.fill(4, 1_000_000, folder=folder)
    place.write_jobs(SLOW.format(folder=folder))
    return place


def is_running(shell, job):
    return [row for row in shell.data("status")["running"] if row["job"] == job]


def goes_on(shell, job):
    """Whether the run of the job still moves bytes."""
    before = wait_until(lambda: [row["progress"] for row in is_running(shell, job) if row["progress"]])
    return wait_until(lambda: [row["progress"] for row in is_running(shell, job) if row["progress"]] != before)


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every path below the folder with its mode, modification time and content; locks are no state."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "locks" in path.relative_to(folder).parts or path.name.startswith("history.duckdb"):
            continue  # the second is an index that whoever reads keeps up to date
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, 0 if path.is_dir() else status.st_mtime_ns, content)
    return found
