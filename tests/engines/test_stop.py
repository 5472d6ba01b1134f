"""However a backup ends before its time: nothing is committed, nothing keeps running."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bench_of_engines import CHILD_ENVIRONMENT, Bench

from backup_ops.engines.base import Stopped
from backup_ops.job import Limits
from backup_ops.progress import Progress

HERE = Path(__file__).parent


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def slow(small: Bench) -> Bench:
    """A repository with one snapshot, and a source whose next backup takes half a minute."""
    small.backup()
    for number in range(20):
        (small.source / f"big-{number}").write_bytes(os.urandom(300_000))
    small.limits = Limits(bandwidth_bytes_s=200_000)
    return small


def assert_nothing_came_of_it(bench: Bench, run_id: str) -> None:
    assert not bench.engine.is_committed(bench.repository, run_id)
    assert len(bench.engine.snapshots(bench.repository)) == 1
    assert not (bench.location / "runs" / run_id).exists()
    assert not (bench.location / "snapshots" / f"{run_id}.parquet").exists()
    bench.limits = Limits()
    after = bench.backup()
    assert after.files_total == 22
    assert after.item_failures == ()


def test_cancel_while_copying(slow: Bench) -> None:
    cancel = threading.Event()

    def cancel_when_copying(progress: Progress) -> None:
        if progress.phase == "copying":
            cancel.set()

    started = time.monotonic()
    with pytest.raises(Stopped) as caught:
        slow.backup(cancel=cancel, on_progress=cancel_when_copying, run_id="20261124T095500-cccccc")
    assert caught.value.reason == "cancelled"
    assert time.monotonic() - started < 15
    assert_nothing_came_of_it(slow, "20261124T095500-cccccc")


def test_timeout_while_copying(slow: Bench) -> None:
    with pytest.raises(Stopped) as caught:
        slow.backup(deadline_at=time.monotonic() + 3, run_id="20261124T095500-dddddd")
    assert caught.value.reason == "timeout"
    assert_nothing_came_of_it(slow, "20261124T095500-dddddd")


def test_cancelled_before_it_began_touches_nothing(small: Bench) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Stopped):
        small.backup(cancel=cancel)
    assert not small.location.exists()


def test_cancel_while_sealing_commits_nothing(small: Bench) -> None:
    small.backup()
    cancel = threading.Event()

    def cancel_when_sealing(progress: Progress) -> None:
        if progress.phase == "sealing":
            cancel.set()

    with pytest.raises(Stopped):
        small.backup(cancel=cancel, on_progress=cancel_when_sealing, run_id="20261124T095500-eeeeee")
    assert not small.engine.is_committed(small.repository, "20261124T095500-eeeeee")
    assert [path.suffix for path in (small.location / "snapshots").iterdir()].count(".json") == 1


def test_last_moment_to_cancel_is_right_before_the_seal(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    small.backup()
    cancel = threading.Event()
    monkeypatch.setattr("backup_ops.engines.rclone.repository._flush", lambda _: cancel.set())
    with pytest.raises(Stopped):
        small.backup(cancel=cancel, run_id="20261124T095500-aaaaaa")
    assert not small.engine.is_committed(small.repository, "20261124T095500-aaaaaa")


def test_kill_minus_nine_of_the_run_leaves_no_rclone_and_no_commit(slow: Bench) -> None:
    scratch = slow.folder / "scratch-killed"
    scratch.mkdir()
    run_id = "20261124T095500-ffffff"
    runner = subprocess.Popen(
        [sys.executable, HERE / "one_backup.py", slow.source, slow.location, run_id, scratch, "200000"],
        stdout=subprocess.PIPE,
        env=CHILD_ENVIRONMENT,
    )
    assert runner.stdout is not None
    with runner.stdout:
        while not list((slow.location / "runs").glob(f"{run_id}/*")):
            time.sleep(0.05)
            assert runner.poll() is None
        runner.kill()
        runner.wait()
        pids = [int(line.split()[1]) for line in runner.stdout if line.startswith(b"tool ") and b"None" not in line]
    end = time.monotonic() + 3
    while any(is_running(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)
    assert not slow.engine.is_committed(slow.repository, run_id)
    # The same run tried again finds what it left, and is not confused by it.
    slow.limits = Limits()
    assert slow.backup(run_id=run_id).item_failures == ()
    slow.restore(run_id)
    assert (slow.folder / "restored" / "big-7").read_bytes() == (slow.source / "big-7").read_bytes()
