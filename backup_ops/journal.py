"""A journal: the file into which one process appends its events. Stdlib only, so that a runner starts quickly.

An appended event survives the death of any process; a durable one also survives the loss of power, and so do the
others 5 s later, if the process still lives then. The file is locked for the life of its writer, which is how others
know that the writer lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops import event, lock, sharing
from backup_ops.errors import JournalFull

SYNC_AFTER_S = 5.0
SUFFIX = ".jsonl"
_LOOK_TAKES_AT_MOST_S = 0.1


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forget_parents() -> None:
    for journal in list(_journals):
        journal._forget_parent()


os.register_at_fork(after_in_child=_forget_parents)


def _now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """Appends from any thread, also after a fork (the child gets a file of its own).

    Without `name` the file is named after host and process. With `name` it is that file and nobody else may hold it:
    raises `lock.Held` when another process writes it; what an earlier, dead writer left there is kept.
    """

    def __init__(self, folder: Path, *, name: str | None = None, now: Callable[[], datetime] = _now) -> None:
        self._folder = folder
        self._name = name
        self._now = now
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._pid = 0
        self._size = 0
        self._is_torn = False
        self._sync_timer: threading.Timer | None = None
        self.path = folder / f"{name}{SUFFIX}" if name else folder
        _journals.add(self)
        if name is not None:
            try:
                self._open()
            except OSError as error:
                raise JournalFull(
                    f"the journal {self.path} cannot be opened: {error.strerror}.", hint="Nothing was recorded."
                ) from None

    def append(self, kind: str, fields: Mapping[str, Any], *, durable: bool = False, at: datetime | None = None) -> str:
        """Writes one event, whole or not at all; returns its id. Raises JournalFull when it is NOT recorded."""
        at = at or self._now()
        event_id = event.new_event_id(at)
        line = event.encode(kind, fields, event_id=event_id, at=at)
        with self._mutex:
            try:
                self._check_file()
                assert self._descriptor is not None
                # A line that an earlier short write or a foreign truncation tore ends here, so that ours stands alone.
                data = b"\n" + line if self._is_torn else line
                if os.write(self._descriptor, data) < len(data):
                    # Only we write here: what got through is taken back, so that nobody reads half a line.
                    os.ftruncate(self._descriptor, self._size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise JournalFull(
                    f"the event '{kind}' could not be written to {self.path}: {error.strerror}.",
                    hint="Free space in the home's file system or make it writable; nothing of it was recorded.",
                ) from None
            if durable:
                self._sync_now(kind)
            else:
                self._sync_later()
        return event_id

    def _sync_now(self, kind: str) -> None:
        assert self._descriptor is not None
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise JournalFull(
                f"the event '{kind}' was written to {self.path}, but the disk did not confirm it: {error.strerror}.",
                hint="Check the disk of the home: `dmesg`, `smartctl -a`.",
            ) from None

    def _forget_parent(self) -> None:
        """In a forked child: the file and its lock are the parent's, and a thread of it may have held our mutex."""
        self._mutex = threading.Lock()
        self._sync_timer = None
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def close(self) -> None:
        """Syncs and lets go of the lock. A later append opens the journal again."""
        with self._mutex:
            if self._sync_timer is not None:
                self._sync_timer.cancel()
                self._sync_timer = None
            if self._descriptor is not None and self._pid == os.getpid():
                with contextlib.suppress(OSError):
                    os.fdatasync(self._descriptor)
                os.close(self._descriptor)
            self._descriptor = None

    def _check_file(self) -> None:
        if self._descriptor is None or self._pid != os.getpid():
            self._open()
            return
        status = os.fstat(self._descriptor)
        if not self._is_in_place(status):
            os.close(self._descriptor)
            self._descriptor = None
            self._open()
        else:  # it may have been truncated or overwritten under us, also to the very same size
            self._look_at_end(self._descriptor, status.st_size)

    def _is_in_place(self, status: os.stat_result) -> bool:
        """Whether our file is where readers look: not deleted, nor moved away, nor another one put in its place."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (there.st_ino, there.st_dev) == (status.st_ino, status.st_dev)

    def _look_at_end(self, descriptor: int, size: int) -> None:
        self._size = size
        self._is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"

    def _open(self) -> None:
        if self._name is None:
            stem = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
            self.path = self._folder / f"{stem}{SUFFIX}"
        elif self._pid not in (0, os.getpid()):
            self.path = self._folder / f"{self._name}-{os.getpid()}{SUFFIX}"
        descriptor = _open_and_lock(self.path)
        try:
            self._look_at_end(descriptor, os.fstat(descriptor).st_size)
            sync_folder(self._folder)
        except BaseException:  # a lock nobody owns would make the run look alive for ever
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._pid = os.getpid()

    def _sync_later(self) -> None:
        if self._sync_timer is not None and self._sync_timer.is_alive():
            return
        self._sync_timer = threading.Timer(SYNC_AFTER_S, self._sync)
        self._sync_timer.daemon = True
        try:
            self._sync_timer.start()
        except RuntimeError:  # no thread to be had; the event is written, and that must not look like a failure
            self._sync_timer = None
            if self._descriptor is not None:
                with contextlib.suppress(OSError):
                    os.fdatasync(self._descriptor)

    def _sync(self) -> None:
        with self._mutex:
            self._sync_timer = None
            if self._descriptor is not None and self._pid == os.getpid():
                with contextlib.suppress(OSError):  # a failing disk shows itself at the next append
                    os.fdatasync(self._descriptor)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of one journal, oldest first; torn and damaged lines are left out (the store tells of them)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        with contextlib.suppress(event.Undecodable):
            yield event.decode(line)


def _open_and_lock(path: Path) -> int:
    until = time.monotonic() + _LOOK_TAKES_AT_MOST_S
    while True:
        descriptor = sharing.open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            # else a journal of the dead, which compaction removed between the two calls
        except BlockingIOError:
            # Whoever looks whether its writer lives takes the lock for an instant: one refusal proves nothing.
            if time.monotonic() >= until:
                os.close(descriptor)
                raise lock.Held(str(path)) from None
            time.sleep(0.002)
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """So that a file made, renamed or removed in it just now stays so after a loss of power. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
