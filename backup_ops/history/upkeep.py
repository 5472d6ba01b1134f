"""Upkeep of the index: journals folded in when it is due, a new index where it is missing, outdated or damaged."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import duckdb

from backup_ops.errors import BackupError, HistoryBusy, HistoryDamaged, HomeError
from backup_ops.history.guard import UNLOCKABLE
from backup_ops.history.ingest import Ingested, Ingester, OnRejected, tell
from backup_ops.history.instance import Missing, Outdated, identity
from backup_ops.history.rebuild import rebuild
from backup_ops.home import Home

FORCED_WAIT_S = 5.0
REBUILD_WAIT_S = 10.0
FOLD_ABOVE_BYTES = 256 << 10
FOLD_AFTER_S = 1.0
"""A read whose tail is larger or older than this folds it in when it is over, if nobody is in the way."""

OnRebuilt = Callable[[str], None]


class Upkeep:
    """Usable from any thread of the process that made it."""

    def __init__(self, home: Home, on_rejected: OnRejected | None, on_rebuilt: OnRebuilt | None) -> None:
        self._home = home
        self._on_rejected = on_rejected
        self._on_rebuilt = on_rebuilt
        self._ingester = Ingester(home)
        self._mutex = threading.RLock()

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
        with contextlib.suppress(BackupError):
            self.ingest(force=False)

    def heal(self, error: Exception, seen: tuple[int, int] | None, wait_s: float) -> bool:
        """Makes a new index in the place of the missing, outdated or damaged one that had the identity `seen`.

        False: the home is not writable. Raises HistoryBusy when another process is at it for longer than `wait_s`.
        """
        try:
            self._rebuild(error, seen, wait_s)
        except HistoryBusy:
            raise
        except (OSError, BackupError):
            return False
        return True

    def rebuild(self) -> None:
        """See `History.rebuild`."""
        try:
            self._rebuild(Outdated("a rebuild was asked for"), identity(self._home.history), REBUILD_WAIT_S)
        except OSError as error:
            raise self._unwritable(error) from error

    def _rebuild(self, error: Exception, seen: tuple[int, int] | None, wait_s: float) -> None:
        batches = rebuild(self._home, instead_of=seen, is_damaged=isinstance(error, HistoryDamaged), wait_s=wait_s)
        for batch in batches or ():
            tell(batch.rejected, self._on_rejected)
        if batches is not None and self._on_rebuilt is not None and not isinstance(error, Missing):
            self._on_rebuilt(str(error))

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
        return HomeError(
            f"{self._home.history} cannot be written: {error.strerror}.",
            hint="Make the home writable and its disk roomy; the journals hold every event meanwhile.",
        )
