"""What is written through a mapping while its page is dirty leaves the times of the file as they are."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest
from bench_of_engines import Bench
from servers import serving

from backup_ops.engines.base import Stopped
from backup_ops.engines.rclone.copying import Copying
from backup_ops.engines.rclone.manifest import read_manifest
from backup_ops.engines.rclone.node import Node
from backup_ops.job import Repository

_PAGE = 4096
_FRESH_NS = 100_000_000


@dataclass
class Mapped:
    """A file of one page that some program keeps mapped, as databases do."""

    file: Path

    def __post_init__(self) -> None:
        self.file.write_bytes(b"0" * _PAGE)
        with self.file.open("r+b") as stream:
            os.fsync(stream.fileno())
            self._mapping = mmap.mmap(stream.fileno(), _PAGE)

    def __enter__(self) -> Mapped:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._mapping.close()

    def store(self, text: bytes) -> None:
        self._mapping[: len(text)] = text

    @property
    def is_unseen(self) -> bool:
        """Whether the next store moves nothing. Somebody else may sync the disk now: that once is not enough."""
        for _ in range(5):
            self.store(b"probe")
            before = self.file.stat().st_ctime_ns
            time.sleep(0.03)  # more than a tick of the clock
            self.store(b"again")
            if self.file.stat().st_ctime_ns == before:
                return True
        return False


@pytest.fixture
def disk(bench: Bench) -> Iterator[Path]:
    """A disk that nobody else syncs, if mounting is allowed: whoever does makes each store one that is seen."""
    image, mounted = bench.folder / "image", bench.folder / "disk"
    mounted.mkdir()
    with image.open("wb") as stream:
        stream.truncate(16_000_000)
    commands = [["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, mounted]]
    if not all(shutil.which(command[0]) and is_done(command) for command in commands):
        yield bench.folder
        return
    yield mounted
    subprocess.run(["umount", "--lazy", mounted], check=True)


@pytest.fixture
def data(bench: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapped]:
    """The mapped file in the source. Times are trusted after a tenth of a second; outside of tests that takes two."""
    monkeypatch.setattr("backup_ops.engines.rclone.backup.FRESH_NS", _FRESH_NS)
    bench.source = disk / "source"
    bench.source.mkdir()
    with Mapped(disk / "probe") as probe:
        if not probe.is_unseen:
            pytest.skip("each store into a mapping moves ctime on the file system of the test")
    with Mapped(bench.source / "data") as mapped:
        yield mapped


@pytest.fixture
def elsewhere(bench: Bench) -> Iterator[Bench]:
    """With the repository on another file system: what its commit syncs is not that of the source."""
    folder = Path("/dev/shm") / f"backup-ops-test-{os.getpid()}-elsewhere"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("there is no /dev/shm here")
    bench.location = folder / "repository"
    bench.repository = Repository(name="mirror", engine="rclone", url=str(bench.location))
    yield bench
    shutil.rmtree(folder)


@pytest.fixture
def remote(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("backup_ops.engines.rclone.marker._SETTLE_S", 0.01)  # nobody else founds it
    with serving("sftp", bench.folder / "served") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        bench.repository = Repository(name="mirror", engine="rclone", url=server.url)
        yield bench


def is_done(command: Sequence[str | Path]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def settle() -> None:
    time.sleep(1.5 * _FRESH_NS / 1e9)


def change_while_copied(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Once: rclone has sent the files, and the run has not looked at them again."""
    copy = Copying.run

    def run(self: Copying, *arguments: object) -> object:
        ended = copy(self, *arguments)
        with contextlib.suppress(IndexError):
            waiting.pop()()
        return ended

    waiting = [change]
    monkeypatch.setattr(Copying, "run", run)


def restored(bench: Bench, snapshot_id: str | None) -> bytes:
    bench.restore(snapshot_id, f"restored-{snapshot_id}")
    return (bench.folder / f"restored-{snapshot_id}" / "data").read_bytes()[:4]


def manifest_of(bench: Bench, snapshot_id: str | None) -> dict[bytes, Node]:
    return read_manifest(bench.location / "snapshots" / f"{snapshot_id}.parquet")


def test_store_after_the_run_is_found_by_the_next_one(elsewhere: Bench, data: Mapped) -> None:
    data.store(b"AAAA")
    settle()
    first = elsewhere.backup()
    data.store(b"BBBB")
    second = elsewhere.backup()
    assert second.files_changed == 1
    assert restored(elsewhere, first.snapshot_id) == b"AAAA"
    assert restored(elsewhere, second.snapshot_id) == b"BBBB"


def test_what_was_synced_is_trusted(elsewhere: Bench, data: Mapped) -> None:
    """Or else each run reads every file again, and no store is ever missed."""
    data.store(b"AAAA")
    settle()
    first = elsewhere.backup()
    assert manifest_of(elsewhere, first.snapshot_id)[b"data"].ctime_ns is not None


def test_store_while_it_is_copied_to_a_remote_is_not_taken_for_what_was_sent(
    remote: Bench, data: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    (remote.source / "other").write_bytes(b"other")
    data.store(b"AAAA")
    settle()
    change_while_copied(monkeypatch, lambda: data.store(b"BBBB"))
    first = remote.backup()
    assert [item.path for item in first.item_failures] == ["data"]
    assert first.item_failures[0].failure.error_type == "source_changed"
    second = remote.backup()
    assert second.item_failures == ()
    assert restored(remote, second.snapshot_id) == b"BBBB"
    assert remote.engine.verify(remote.repository, context=remote.context(), level="full").is_sound


def test_store_while_it_is_copied_from_what_cannot_be_synced_is_not_taken_for_what_was_sent(
    remote: Bench, data: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times of a network file system move late: here they are trusted, and do not move at all."""
    monkeypatch.setattr("backup_ops.engines.rclone.file_systems._AT_THE_FAULT", set())
    monkeypatch.setattr("backup_ops.engines.rclone.backup.UNSYNCED_FRESH_NS", _FRESH_NS)
    data.store(b"AAAA")
    settle()
    change_while_copied(monkeypatch, lambda: data.store(b"BBBB"))
    before = data.file.stat().st_ctime_ns
    first = remote.backup()
    if data.file.stat().st_ctime_ns != before:
        pytest.skip("somebody synced the disk meanwhile")
    assert restored(remote, first.snapshot_id) == b"AAAA"
    assert remote.engine.verify(remote.repository, context=remote.context(), level="full").is_sound


def test_where_nothing_is_synced_times_are_trusted_after_forty_seconds(
    elsewhere: Bench, data: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup_ops.engines.rclone.file_systems._AT_THE_FAULT", set())
    data.store(b"AAAA")
    settle()
    first = elsewhere.backup()
    assert manifest_of(elsewhere, first.snapshot_id)[b"data"].ctime_ns is None
    data.store(b"BBBB")
    assert elsewhere.backup().files_changed == 1


def test_disk_that_cannot_be_synced_is_one_of_those(
    elsewhere: Bench, data: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: type("Libc", (), {"syncfs": lambda self, _: -1})())
    data.store(b"AAAA")
    settle()
    first = elsewhere.backup()
    assert manifest_of(elsewhere, first.snapshot_id)[b"data"].ctime_ns is None


def test_disk_mounted_below_the_source_is_synced_too(elsewhere: Bench, data: Mapped) -> None:
    """The source itself is on another file system than the mapped file."""
    source = elsewhere.location.parent / "source"
    (source / "mounted").mkdir(parents=True)
    if not is_done(["mount", "--bind", elsewhere.source, source / "mounted"]):
        pytest.skip("mounting is not allowed here")
    try:
        job = elsewhere.job(source=[source])
        data.store(b"AAAA")
        settle()
        elsewhere.backup(job)
        data.store(b"BBBB")
        assert elsewhere.backup(job).files_changed == 1
        assert elsewhere.backup(job).files_changed == 0
    finally:
        subprocess.run(["umount", source / "mounted"], check=True)


def test_run_is_stopped_while_a_disk_is_synced(elsewhere: Bench, data: Mapped, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def syncfs(self, descriptor: int) -> int:
            context.cancel.set()
            is_over.wait(10)
            return 0

    context, is_over = elsewhere.context(), threading.Event()
    monkeypatch.setattr("ctypes.CDLL", lambda _: Slow())
    with pytest.raises(Stopped):
        elsewhere.engine.backup(elsewhere.job(), elsewhere.repository, context)
    waiting = [thread for thread in threading.enumerate() if thread.name == "syncfs"]
    assert waiting, "the run waited for the disk"
    is_over.set()
    for thread in waiting:
        thread.join()
    assert not elsewhere.location.exists()
