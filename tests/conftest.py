"""Homes, sources and repositories of their own for each test; nothing outlives the session."""

from __future__ import annotations

import gc
import os
import random
import signal
import textwrap
import time
from pathlib import Path

import psutil
import pytest

# A shell that starts the tests in the background has them, and all they start, ignore what Ctrl-C and a hangup send.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))


def pytest_runtest_teardown(item, nextitem):
    """What a file of tests left open is found now, and not whenever the collector comes, in a test of another file."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()


@pytest.fixture(autouse=True)
def _no_home_of_the_user(monkeypatch, tmp_path):
    """A test that forgets to name its home must not find the developer's."""
    monkeypatch.setenv("BACKUP_OPS_HOME", str(tmp_path / "home-by-default"))


@pytest.fixture
def chance():
    """Random numbers whose seed is printed with a failing test; BACKUP_OPS_SEED repeats it."""
    seed = int(os.environ.get("BACKUP_OPS_SEED", random.randrange(1 << 32)))
    print(f"BACKUP_OPS_SEED={seed}")
    return random.Random(seed)


class Place:
    """A home with a source folder and a repository folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.source = folder / "source"
        self.repository = folder / "repository"
        self.home.mkdir(mode=0o700)
        self.source.mkdir()

    def write_jobs(self, jobs: str = "", *, settings: str = "{}", repositories: str = "") -> None:
        """jobs.yaml with a repository `mirror` and a job `photos`, and what else is given."""
        lines = [
            "version: 1",
            f"settings: {settings}",
            "repositories:",
            f"  mirror: {{engine: rclone, url: {self.repository}}}",
            textwrap.indent(textwrap.dedent(repositories), "  ").rstrip(),
            "jobs:",
            f"  photos: {{source: {self.source}, repository: mirror}}",
            textwrap.indent(textwrap.dedent(jobs), "  ").rstrip(),
        ]
        (self.home / "jobs.yaml").write_text("\n".join(line for line in lines if line) + "\n")

    def fill(self, files: int = 5, size: int = 1000, *, folder: Path | None = None) -> None:
        folder = folder or self.source
        folder.mkdir(exist_ok=True)
        for number in range(files):
            (folder / f"file-{number}.bin").write_bytes(random.Random(number).randbytes(size))


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    end_processes_of(made.home)


@pytest.fixture
def ops(place):
    """Five files, one job `photos`, and its Ops."""
    import backup_ops as bo

    place.fill()
    place.write_jobs()
    with bo.open(place.home) as opened:
        yield opened


def processes_of(home: Path) -> list[psutil.Process]:
    """Runners of this home and the tools below them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if str(home) in " ".join(process.info["cmdline"] or []):
                found += [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def end_processes_of(home: Path) -> None:
    for process in processes_of(home):
        try:
            if "backup_ops.runner" in process.cmdline():
                process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def wait_until(condition, timeout_s: float = 30.0, what: str = "it"):
    """The first true value of the condition. Fails when it does not come in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"waited {timeout_s} s for {what} in vain")
