"""A lock between processes: flock on a file of the home. The kernel frees it when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from backup_ops import holder, sharing


class Held(Exception):
    """Somebody else holds the lock."""


READERS_SHARE = ("gate.lock", "db.lock")
"""The locks that members of a shared home's group take too. To flock a file the right to read it is enough, so every
other lock is its owner's alone: nobody else can stand in his way."""

_held: set[int] = set()
"""Descriptors of locks held now. A forked child shares them, and would keep them locked for its own life."""


def _let_go_in_child() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


@contextlib.contextmanager
def hold(path: Path, *, wait_s: float = 0.0, shared: bool = False) -> Iterator[int]:
    """Holds the lock for the block; yields its descriptor. Raises Held after `wait_s`.

    A new descriptor each time: flock belongs to the open file, so this keeps threads apart too. It is closed on exec.
    """
    descriptor = take(path, wait_s=wait_s, shared=shared)
    try:
        yield descriptor
    finally:
        release(descriptor)


def release(descriptor: int) -> None:
    """Frees a lock that `take` took; in a forked child, where it is not held, it does nothing."""
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


def take(path: Path, *, wait_s: float = 0.0, shared: bool = False) -> int:
    """Like `hold`, for a lock kept beyond a block: free again when it is released or the process ends."""
    descriptor = _open(path, shared=shared)
    end = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Held(str(path)) from None
            else:
                _held.add(descriptor)
                return descriptor
            time.sleep(random.uniform(0.001, 0.005))
    except BaseException:
        os.close(descriptor)
        raise


def _open(path: Path, *, shared: bool) -> int:
    """Who may only look at the home can still share a lock that is there: flock asks for no right to write."""
    is_private = path.name not in READERS_SHARE
    try:
        try:
            return sharing.open_file(path, os.O_RDWR | os.O_CREAT, is_private=is_private)
        except FileNotFoundError:
            if shared:  # who only looks makes nothing
                raise
            sharing.make_folder(path.parent)  # somebody removed it under us
            return sharing.open_file(path, os.O_RDWR | os.O_CREAT, is_private=is_private)
    except OSError as error:
        if not shared or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def is_held(path: Path) -> bool:
    """Whether somebody holds it exclusively now; a file that is not there is held by nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:  # closed to the members of the home's group, who may ask the kernel all the same
        return any(one.is_exclusive for one in holder.lock_holders(path))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
