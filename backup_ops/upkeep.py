"""Upkeep of a home: chores that somebody has to do now and then, whoever is there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping

from backup_ops import lock
from backup_ops.errors import HistoryBusy, HistoryNewer, HomeBusy
from backup_ops.home import Home

UPKEEP_EVERY_S = 600.0

Chore = Callable[[float | None], object]
"""Works for about so many seconds at most; None: until it is done."""

_SAID_AT_MOST_BYTES = 1 << 16


class Upkeep:
    """The lock file's time is when the last upkeep began; in it is what went wrong then, so that it is told once.

    `complain` records what went wrong with a chore. It goes unsaid until the chore says another thing, or worked.
    """

    def __init__(self, home: Home, chores: Mapping[str, Chore], complain: Callable[[str], None]) -> None:
        self._path = home.locks / "upkeep.lock"
        self._chores = chores
        self._complain = complain

    def perform(self, max_s: float | None = None) -> bool:
        """Does the chores if nobody did for UPKEEP_EVERY_S and nobody does now. Never raises an Exception.

        In a home that cannot be written it does nothing.
        """
        seen = self._begun_at()
        if seen is not None and 0 <= time.time() - seen < UPKEEP_EVERY_S:
            return False
        try:
            descriptor = lock.take(self._path)
        except (lock.Held, OSError):
            return False
        try:
            if seen is not None and os.fstat(descriptor).st_mtime != seen:
                return False  # another process was quicker
            with contextlib.suppress(OSError):
                os.utime(descriptor)
            self._work(descriptor, max_s)
        finally:
            lock.release(descriptor)
        return True

    def _begun_at(self) -> float | None:
        try:
            return self._path.stat().st_mtime
        except OSError:
            return None

    def _work(self, descriptor: int, max_s: float | None) -> None:
        end = None if max_s is None else time.monotonic() + max_s
        before = _read(descriptor)
        said = []
        for name, chore in self._chores.items():
            try:
                chore(None if end is None else max(0.0, end - time.monotonic()))
            except (HistoryBusy, HomeBusy, HistoryNewer):
                continue  # somebody works there, or a newer version does its own upkeep
            except Exception as error:  # the caller has done its own work, and that went well
                said.append(" ".join(f"{name} failed: {type(error).__name__}: {error}".split()))
        for line in said:
            if line not in before:
                self._complain(line)
        if said != before:
            _write(descriptor, said)


def _read(descriptor: int) -> list[str]:
    try:
        return os.pread(descriptor, _SAID_AT_MOST_BYTES, 0).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _write(descriptor: int, lines: list[str]) -> None:
    with contextlib.suppress(OSError):  # a full disk: it is told once more
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"), 0)
