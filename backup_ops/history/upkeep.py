"""Upkeep of the index: journals folded in when it is due, a new index where it is missing, outdated or damaged."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import duckdb

from backup_ops import lock
from backup_ops.errors import BackupError, HistoryBusy, HistoryDamaged, HomeError
from backup_ops.history.compaction import Compacted, compact
from backup_ops.history.guard import UNLOCKABLE
from backup_ops.history.holdings import OnLost
from backup_ops.history.ingest import Ingested, Ingester, OnRejected, tell
from backup_ops.history.instance import Missing, Outdated, identity
from backup_ops.history.rebuild import Rebuilt, rebuild
from backup_ops.history.trouble import meaning_of_system
from backup_ops.home import Home

FORCED_WAIT_S = 5.0
REBUILD_WAIT_S = 10.0
FOLD_ABOVE_BYTES = 256 << 10
FOLD_AFTER_S = 1.0
"""A read whose tail is larger or older than this folds it in when it is over, if nobody is in the way."""

_NO_END_S = 86_400.0

OnRebuilt = Callable[[str, bool], None]
"""Called with the reason, and whether the old index was damaged (else it was of an older version)."""


class Upkeep:
    """Usable from any thread of the process that made it."""

    def __init__(self, home: Home, on_rejected: OnRejected, on_rebuilt: OnRebuilt, on_lost: OnLost) -> None:
        self._home = home
        self._on_rejected = on_rejected
        self._on_lost = on_lost
        self._on_rebuilt = on_rebuilt
        self._ingester = Ingester(home, on_lost)
        self._mutex = threading.RLock()
        self._compacting = threading.Lock()

    def close(self) -> None:
        with self._mutex:
            self._ingester.close()

    def ingest(self, *, force: bool) -> bool:
        """See `History.ingest`."""
        wait_s = FORCED_WAIT_S if force else 0.0
        with self._mutex:
            done = self._ingest_once(force=force, wait_s=wait_s)
            while done is not None and not done.is_complete:
                done = self._ingest_once(force=True, wait_s=wait_s)
        return done is not None

    def fold_if_due(self, tail_bytes: int, tail_age_s: float) -> None:
        """After a read that had such a tail. Never waits long and never raises: the reader has its answer."""
        is_due = tail_bytes > FOLD_ABOVE_BYTES or tail_age_s > FOLD_AFTER_S
        if is_due and self._mutex.acquire(blocking=False):
            try:
                with contextlib.suppress(BackupError, duckdb.Error):
                    self._ingest_once(force=False, wait_s=0.0)
            finally:
                self._mutex.release()

    def catch_up(self) -> None:
        """Before a read that would have a long tail; what cannot be folded in now is read from the journals."""
        if self._mutex.acquire(blocking=False):
            try:
                with contextlib.suppress(BackupError):
                    self.ingest(force=False)
            finally:
                self._mutex.release()

    def heal(self, error: Exception, seen: tuple[int, int] | None, wait_s: float) -> bool:
        """Makes a new index in the place of the missing, outdated or damaged one that had the identity `seen`.

        False: the home is not writable. Raises HistoryBusy when another process is at it for longer than `wait_s`,
        HomeError when there is no room.
        """
        try:
            self._rebuild(error, seen, wait_s)
        except OSError as problem:
            if problem.errno in UNLOCKABLE:
                return False
            raise self._unwritable(problem) from problem
        return True

    def rebuild(self) -> Rebuilt | None:
        """See `History.rebuild`. None: another process has just done it."""
        try:
            return self._rebuild(None, identity(self._home.history), REBUILD_WAIT_S)
        except OSError as error:
            raise self._unwritable(error) from error

    def _rebuild(self, error: Exception | None, seen: tuple[int, int] | None, wait_s: float) -> Rebuilt | None:
        is_damaged = isinstance(error, HistoryDamaged)

        def told(rebuilt: Rebuilt) -> None:
            for lost in rebuilt.lost:
                self._on_lost(lost)
            tell(rebuilt.rejected, self._on_rejected)
            if is_damaged or isinstance(error, Outdated):
                self._on_rebuilt(str(error), is_damaged)

        return rebuild(self._home, instead_of=seen, is_damaged=is_damaged, wait_s=wait_s, tell=told)

    def compact(self, *, max_s: float | None, everything: bool) -> Compacted:
        """See `History.compact`."""
        until = time.monotonic() + (max_s if max_s is not None else _NO_END_S)
        with self._compacting:  # not the mutex: readers that are to fold something in would wait for all of it
            with self._mutex:
                self._ingest_once(force=True, wait_s=0.0)
            try:
                return compact(self._home, until=until, everything=everything)
            except (Missing, Outdated, HistoryDamaged, HistoryBusy, lock.Held):
                return Compacted(is_complete=False)  # the next one who asks the history mends it; then it is time
            except OSError as error:
                if error.errno in UNLOCKABLE:
                    return Compacted(is_complete=False)
                raise self._unwritable(error) from error

    def _ingest_once(self, *, force: bool, wait_s: float) -> Ingested | None:
        for must in (force, True):
            seen = identity(self._home.history)
            try:
                done = self._ingester.ingest(force=must, wait_s=wait_s)
            except (Missing, Outdated, HistoryDamaged) as error:
                with contextlib.suppress(HistoryBusy):
                    if self.heal(error, seen, wait_s or 1.0):
                        continue
                return None
            except OSError as error:
                if error.errno in UNLOCKABLE:
                    return None  # a read-only home: readers have the tails
                raise self._unwritable(error) from error
            if done is not None:
                tell(done.rejected, self._on_rejected)
            return done
        return None

    def _unwritable(self, error: OSError) -> HomeError:
        told = meaning_of_system(error, self._home.history)
        return HomeError(
            f"{self._home.history} cannot be written: {error.strerror}.",
            hint=told.hint if told else "Nothing is lost: the journals hold every event meanwhile.",
        )
