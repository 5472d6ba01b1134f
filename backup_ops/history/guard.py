"""The locks of the index: any number of readers, or one ingester; whoever dies lets go.

A reader passes the gate and then holds `db`; an ingester shuts the gate while it waits for the readers inside to leave,
so that new ones cannot starve it. `ingest` is held by the one process that is about to write. All are flocks: DuckDB's
own lock on the file refuses at once instead of waiting, and would let readers shut out writers for ever.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from backup_ops import lock
from backup_ops.errors import HistoryBusy
from backup_ops.history.trouble import meaning_of_system
from backup_ops.home import Home

UNLOCKABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)
"""Why no lock can be made: the home is read-only, another user's, or not there."""


class Guard:
    def __init__(self, home: Home) -> None:
        self._gate = home.locks / "gate.lock"
        self._db = home.locks / "db.lock"
        self._ingest = home.locks / "ingest.lock"

    @contextlib.contextmanager
    def reading(self, wait_s: float) -> Iterator[None]:
        """Keeps ingesters out. Raises HistoryBusy. In a read-only home, where no lock can be made, DuckDB's must do."""
        with contextlib.ExitStack() as stack:
            try:
                with _hold(self._gate, wait_s, shared=True):
                    stack.enter_context(_hold(self._db, wait_s, shared=True))
            except OSError as error:
                if error.errno not in UNLOCKABLE:
                    raise
            yield

    @contextlib.contextmanager
    def writing(self, wait_s: float) -> Iterator[None]:
        """Keeps everybody out. Raises HistoryBusy, or OSError in a read-only home."""
        with contextlib.ExitStack() as stack:
            with _hold(self._gate, wait_s, shared=False):
                stack.enter_context(_hold(self._db, wait_s, shared=False))
            yield

    @contextlib.contextmanager
    def ingesting(self, wait_s: float) -> Iterator[int]:
        """Makes this the only ingester; yields the descriptor, whose times are the ingesters' common clock."""
        with _hold(self._ingest, wait_s, shared=False) as descriptor:
            yield descriptor


@contextlib.contextmanager
def _hold(path: Path, wait_s: float, *, shared: bool) -> Iterator[int]:
    try:
        descriptor = lock.take(path, wait_s=wait_s, shared=shared)
    except lock.Held:
        raise HistoryBusy(
            f"another backup-ops process has been working on history.duckdb for more than {wait_s:g} s.",
            hint=f"Try again in a moment; if it persists, look for a stopped process: fuser -v {path}",
        ) from None
    except OSError as error:
        told = None if error.errno in UNLOCKABLE else meaning_of_system(error, path)
        if told is None:
            raise
        raise told from error
    try:
        yield descriptor
    finally:
        lock.release(descriptor)
