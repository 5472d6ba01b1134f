"""Files that cannot be had as they are: what is kept, what is left out, what is said."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_of_engines import CHILD_ENVIRONMENT, Bench

from backup_ops.errors import EngineError
from backup_ops.job import Guard, Limits
from backup_ops.progress import Progress

HERE = Path(__file__).parent


def as_a_user_like_any_other(bench: Bench, run_id: str) -> dict[str, Any]:
    """A backup by somebody whom rights keep out: root without its power to read everything, if we are root."""
    scratch = bench.folder / f"scratch-{run_id}"
    scratch.mkdir()
    arguments = [
        sys.executable,
        str(HERE / "one_backup.py"),
        str(bench.source),
        str(bench.location),
        run_id,
        str(scratch),
    ]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root can read everything, and setpriv is not installed")
        arguments = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *arguments]
    done = subprocess.run(arguments, capture_output=True, env=CHILD_ENVIRONMENT)
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def restored_by_us(bench: Bench, run_id: str) -> dict[str, bytes]:
    bench.restore(run_id, f"restored-{run_id}")
    root = bench.folder / f"restored-{run_id}"
    (root / "folder").chmod(0o700)  # it comes back as it was, unreadable for one
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_unreadable_file_is_left_out_and_said(small: Bench) -> None:
    (small.source / "one").chmod(0)
    said = as_a_user_like_any_other(small, "20261124T095500-000001")
    assert [(path, kind) for path, kind, _ in said["items"]] == [("one", "permission_denied")]
    assert "left out" in said["items"][0][2]
    assert said["files_total"] == 1
    assert restored_by_us(small, "20261124T095500-000001") == {"folder/two": b"two" * 1000}
    assert not small.engine.snapshots(small.repository)[0].is_complete


def test_version_before_of_a_file_that_became_unreadable_is_kept(small: Bench) -> None:
    as_a_user_like_any_other(small, "20261124T095500-000001")
    (small.source / "one").write_bytes(b"newer")
    (small.source / "one").chmod(0)
    said = as_a_user_like_any_other(small, "20261124T095500-000002")
    assert [(path, kind) for path, kind, _ in said["items"]] == [("one", "permission_denied")]
    assert "version before is kept" in said["items"][0][2]
    assert restored_by_us(small, "20261124T095500-000002")["one"] == b"one"
    (small.source / "one").chmod(0o600)
    said = as_a_user_like_any_other(small, "20261124T095500-000003")
    assert said["items"] == []
    assert restored_by_us(small, "20261124T095500-000003")["one"] == b"newer"


def test_what_is_below_an_unreadable_folder_is_unknown_not_deleted(small: Bench) -> None:
    as_a_user_like_any_other(small, "20261124T095500-000001")
    (small.source / "folder").chmod(0)
    said = as_a_user_like_any_other(small, "20261124T095500-000002")
    (small.source / "folder").chmod(0o700)
    assert [(path, kind) for path, kind, _ in said["items"]] == [("folder", "permission_denied")]
    assert said["files_deleted"] == 0
    assert restored_by_us(small, "20261124T095500-000002")["folder/two"] == b"two" * 1000
    restored = small.restore("20261124T095500-000002", "again")
    assert any("older versions" in note for note in restored.notes)


def test_nothing_readable_is_a_failure_not_an_empty_snapshot(small: Bench) -> None:
    (small.source / "one").chmod(0)
    (small.source / "folder" / "two").chmod(0)
    said = as_a_user_like_any_other(small, "20261124T095500-000001")
    assert said["error_type"] == "permission_denied"
    assert not small.engine.is_committed(small.repository, "20261124T095500-000001")
    assert not (small.location / "runs" / "20261124T095500-000001").exists()


def test_unreadable_source_is_refused(small: Bench) -> None:
    small.source.chmod(0)
    said = as_a_user_like_any_other(small, "20261124T095500-000001")
    small.source.chmod(0o700)
    assert said["error_type"] == "permission_denied"
    assert not small.location.exists()


def test_repository_that_may_not_be_written_fails_the_run_not_the_files(small: Bench) -> None:
    as_a_user_like_any_other(small, "20261124T095500-000001")
    (small.source / "one").write_bytes(b"changed")
    (small.location / "runs").chmod(0o500)
    said = as_a_user_like_any_other(small, "20261124T095500-000002")
    (small.location / "runs").chmod(0o700)
    assert said["error_type"] == "permission_denied"
    assert "write access" in said["message"]
    assert len(small.engine.snapshots(small.repository)) == 1


class AtFirstCopy:
    """Does something to the source while rclone copies it."""

    def __init__(self, bench: Bench, act: Any) -> None:
        self._act = act
        self._done = threading.Event()
        bench.limits = Limits(bandwidth_bytes_s=2_000_000)

    def __call__(self, progress: Progress) -> None:
        if progress.phase == "copying" and (progress.bytes_done or 0) > 0 and not self._done.is_set():
            self._done.set()
            self._act()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()


def test_file_that_grows_while_it_is_copied_is_kept_as_it_was_before(small: Bench) -> None:
    log = small.source / "growing.log"
    log.write_bytes(b"old")
    small.backup()
    log.write_bytes(os.urandom(4_000_000))

    def grow() -> None:
        with log.open("ab") as stream:
            stream.write(b"more")

    grows = AtFirstCopy(small, grow)
    result = small.backup(on_progress=grows)
    assert grows.is_done
    assert [(item.path, item.failure.error_type) for item in result.item_failures] == [
        ("growing.log", "source_changed")
    ]
    small.restore(result.snapshot_id)
    assert (small.folder / "restored" / "growing.log").read_bytes() == b"old"


def test_file_rewritten_in_place_while_it_is_copied_is_not_believed(small: Bench) -> None:
    """Same size, mtime set back: only the second look at ctime tells."""
    database = small.source / "database"
    database.write_bytes(b"\x00" * 4_000_000)
    before = database.stat()

    def rewrite() -> None:
        with database.open("r+b") as stream:
            stream.write(b"\x01" * 4_000_000)
        os.utime(database, ns=(before.st_mtime_ns, before.st_mtime_ns))

    result = small.backup(on_progress=AtFirstCopy(small, rewrite))
    assert [item.path for item in result.item_failures] == ["database"]
    assert result.files_total == 2
    assert not (small.location / "runs" / str(result.snapshot_id) / "database").exists(), "no torn file is left"


def test_new_rights_while_it_is_copied_do_not_make_it_another_file(small: Bench) -> None:
    big = small.source / "big"
    big.write_bytes(os.urandom(4_000_000))
    result = small.backup(on_progress=AtFirstCopy(small, lambda: big.chmod(0o640)))
    assert result.item_failures == ()
    small.restore(result.snapshot_id)
    assert (small.folder / "restored" / "big").stat().st_mode & 0o777 == 0o640


def test_file_that_vanishes_while_others_are_copied(small: Bench) -> None:
    (small.source / "a big one").write_bytes(os.urandom(4_000_000))
    for number in range(30):
        (small.source / f"late {number:02}").write_bytes(os.urandom(300_000))

    def delete() -> None:
        (small.source / "late 29").unlink()

    result = small.backup(on_progress=AtFirstCopy(small, delete))
    assert [(item.path, item.failure.severity) for item in result.item_failures] == [("late 29", "LOW")]
    assert "vanished" in result.item_failures[0].failure.message


def test_folder_swapped_for_a_symlink_while_it_is_copied_smuggles_nothing_in(small: Bench) -> None:
    secret = small.folder / "secret"
    secret.mkdir()
    (secret / "z").write_bytes(b"secret!" * 100)
    (small.source / "a big one").write_bytes(os.urandom(6_000_000))
    (small.source / "sub").mkdir()
    (small.source / "sub" / "z").write_bytes(b"normal!" * 100)

    def swap() -> None:
        shutil.rmtree(small.source / "sub")
        (small.source / "sub").symlink_to(secret)

    small.engine.backup(small.job(), small.repository, small.context(on_progress=AtFirstCopy(small, swap)))
    stored = b"".join(path.read_bytes() for path in (small.location / "runs").rglob("z") if path.is_file())
    assert b"secret!" not in stored


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk]).returncode:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


def on_disk(bench: Bench, disk: Path) -> None:
    bench.location = disk / "repository"
    bench.repository = type(bench.repository)(name="mirror", engine="rclone", url=str(bench.location))


def test_full_disk_fails_the_run_and_gives_the_room_back(small: Bench, tiny_disk: Path) -> None:
    on_disk(small, tiny_disk)
    first = small.backup()
    for number in range(6):
        (small.source / f"big-{number}").write_bytes(os.urandom(700_000))
    with pytest.raises(EngineError) as caught:
        small.backup()
    assert caught.value.failure.error_type == "disk_full"
    assert caught.value.failure.message.startswith(f"repository {small.location} is full: big-")
    assert [snapshot.snapshot_id for snapshot in small.engine.snapshots(small.repository)] == [first.snapshot_id]
    for number in range(6):
        (small.source / f"big-{number}").unlink()
    assert small.backup().item_failures == ()


def test_disk_with_room_for_the_content_and_not_for_the_manifest_is_full_too(small: Bench, tiny_disk: Path) -> None:
    on_disk(small, tiny_disk)
    small.backup()
    before = sorted((small.location / "snapshots").iterdir())
    for number in range(3000):
        (small.source / f"folder {number} {os.urandom(4).hex()}").mkdir()
    with contextlib.suppress(OSError), (tiny_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with pytest.raises(EngineError) as caught:
        small.backup()
    assert caught.value.failure.error_type == "disk_full"
    assert caught.value.failure.message.startswith(f"repository {small.location} is full: ")
    assert sorted((small.location / "snapshots").iterdir()) == before


def test_read_only_disk_fails_the_run(small: Bench, tiny_disk: Path) -> None:
    on_disk(small, tiny_disk)
    small.backup()
    (small.source / "new").write_bytes(b"new")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(EngineError) as caught:
        small.backup()
    assert caught.value.failure.error_type == "read_only"


@pytest.mark.parametrize(
    ("state", "error_type"), [("missing", "source_missing"), ("empty", "source_missing"), ("file", "config_invalid")]
)
def test_source_that_cannot_be_meant_is_refused_before_anything_is_written(
    bench: Bench, state: str, error_type: str
) -> None:
    if state == "empty":
        bench.source.mkdir()
    elif state == "file":
        bench.source.touch()
    with pytest.raises(EngineError) as caught:
        bench.backup()
    assert caught.value.failure.error_type == error_type
    assert str(bench.source) in caught.value.failure.message
    assert caught.value.failure.remedy
    assert not bench.location.exists()


def test_unmounted_source_does_not_become_the_newest_snapshot(small: Bench) -> None:
    first = small.backup()
    small.source.rename(small.folder / "away")
    small.source.mkdir()
    with pytest.raises(EngineError):
        small.backup()
    assert [snapshot.snapshot_id for snapshot in small.engine.snapshots(small.repository)] == [first.snapshot_id]


def test_guard_against_too_few_files(small: Bench) -> None:
    small.guard = Guard(min_files=3)
    with pytest.raises(EngineError, match=r"holds 2 files, and guard.min_files is 3"):
        small.backup()
    small.guard = Guard(min_files=2)
    small.backup()


def test_guard_against_too_many_deletions(small: Bench) -> None:
    for number in range(8):
        (small.source / f"file-{number}").write_bytes(b"x" * number)
    small.backup()
    small.guard = Guard(max_delete_percent=30)
    for number in range(4):
        (small.source / f"file-{number}").unlink()
    with pytest.raises(EngineError, match="4 of 10 files") as caught:
        small.backup()
    assert caught.value.failure.error_type == "too_many_deletes"
    assert small.backup(force=True).files_deleted == 4


def test_moving_all_files_is_no_deletion(small: Bench) -> None:
    small.backup()
    small.guard = Guard(max_delete_percent=10)
    (small.source / "folder").rename(small.source / "moved")
    (small.source / "one").rename(small.source / "moved" / "one")
    small.backup()
