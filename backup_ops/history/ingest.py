"""Folding the journals into history.duckdb: in batches, exactly once, by one process at a time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb

from backup_ops import sharing
from backup_ops.errors import BackupError, HistoryBusy
from backup_ops.history import holdings, journals
from backup_ops.history.guard import Guard
from backup_ops.history.holdings import OnLost
from backup_ops.history.instance import attach, check_age, connect, positions
from backup_ops.history.intake import Rejected, sift, write
from backup_ops.history.journals import Portion, Position
from backup_ops.history.trouble import meaning
from backup_ops.home import Home

BATCH_BYTES = 16 << 20
EVERY_S = 1.0
"""Ingesters leave each other that much time; readers see the tails meanwhile and miss nothing."""

_SHORTEST_DRAIN_S, _LONGEST_DRAIN_S = 0.2, 1.0
_INDEX = "w"

OnRejected = Callable[[int, str, str], None]
"""Called with how many lines of a journal were rejected, the first reason, and the journal's name."""


def reached(stage: str) -> None:
    """Where an ingest is; tests put something in its place that kills the process there."""


@dataclass(frozen=True)
class Ingested:
    """What one batch did. `is_complete`: nothing was left in the journals that were there at its beginning."""

    rejected: tuple[Rejected, ...]
    is_complete: bool


class Ingester:
    """Not for several threads at once. Raises Missing and Outdated where the index is to be rebuilt first."""

    def __init__(self, home: Home, on_lost: OnLost) -> None:
        self._home = home
        self._on_lost = on_lost
        self._guard = Guard(home)
        self._connection: duckdb.DuckDBPyConnection | None = None

    def ingest(self, *, force: bool, wait_s: float) -> Ingested | None:
        """One batch. None: not now, for another is at it, or was a moment ago (unless `force`), or readers stay inside.

        Nothing is lost by a None: readers have the tails. Raises HistoryBusy never, OSError in a read-only home.
        """
        try:
            with self._guard.ingesting(wait_s) as clock:
                if not force and _is_too_soon(clock):
                    return None
                os.utime(clock)
                drain_s = self._drain_s(wait_s)
                try:
                    with self._guard.writing(drain_s):
                        return self._batch(wait_s)
                except HistoryBusy:
                    # A long reader is inside: leave the gate open for a while, or everybody else stutters.
                    later = time.time() + 4 * drain_s
                    os.utime(clock, (later, later))
                    raise
        except HistoryBusy:
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _drain_s(self, wait_s: float) -> float:
        """The staler the index, the longer its readers are asked to wait: else steady reading starves the ingest."""
        with contextlib.suppress(OSError):
            stale_s = time.time() - self._home.history.stat().st_mtime
            return max(wait_s, min(_LONGEST_DRAIN_S, max(_SHORTEST_DRAIN_S, stale_s / 20)))
        return max(wait_s, _SHORTEST_DRAIN_S)

    def _batch(self, wait_s: float) -> Ingested:
        if self._connection is None:
            self._connection = connect()
        cursor = self._connection.cursor()
        try:
            attach(cursor, self._home.history, _INDEX, read_only=False, wait_s=wait_s)
            reached("attached")
            try:
                check_age(cursor, self._home, _INDEX)
                done = fold_in(cursor, self._home, _INDEX, self._on_lost)
            finally:
                with contextlib.suppress(duckdb.Error):
                    cursor.execute(f"DETACH {_INDEX}")
            cursor.close()
        except BaseException as error:
            self.close()  # a failed commit may leave the instance unusable; the next one is new
            if isinstance(error, duckdb.Error):
                told: BackupError | None = meaning(error, self._home.history)
                if told is not None:
                    raise told from error
            raise
        reached("detached")
        return done


def fold_in(cursor: duckdb.DuckDBPyConnection, home: Home, alias: str, on_lost: OnLost) -> Ingested:
    """Segments that the index does not hold, then one batch of the journals: rows and offsets in one transaction."""
    rejected = holdings.take_in(cursor, home, alias, on_lost)
    known = positions(cursor, alias)
    now, recent = journals.listing(home.journal, journals.written_since_s(home.history))
    portion = journals.unread(home.journal, known, now, limit_bytes=BATCH_BYTES, recent=recent)
    gone = known.keys() - now.keys()
    if not portion.positions and not gone:
        return Ingested(tuple(rejected), portion.is_last)
    sifted = sift(cursor, portion.lines, (alias,))
    reached("folded")

    def save_offsets() -> None:
        reached("inserted")
        _save_offsets(cursor, alias, portion, gone)
        holdings.next_batch(cursor, alias)
        reached("offsets")

    write(cursor, sifted, into=alias, known_in=(alias,), then=save_offsets)
    sharing.let_in(f"{home.history}.wal")  # DuckDB made it by the umask; should we die now, others must still read it
    reached("committed")
    return Ingested((*rejected, *sifted.rejected), portion.is_last)


def tell(rejected: Sequence[Rejected], on_rejected: OnRejected) -> None:
    """One call for each journal with rejected lines."""
    for file in dict.fromkeys(one.file for one in rejected):
        reasons = [one.reason for one in rejected if one.file == file]
        on_rejected(len(reasons), reasons[0], file)


def _save_offsets(cursor: duckdb.DuckDBPyConnection, alias: str, portion: Portion, gone: set[str]) -> None:
    new: dict[str, Position] = portion.positions
    cursor.execute(
        f"DELETE FROM {alias}.offsets WHERE file IN (SELECT unnest($files::VARCHAR[]))", {"files": [*new, *gone]}
    )
    if new:
        cursor.execute(
            f"INSERT INTO {alias}.offsets SELECT unnest($files), unnest($read_to), unnest($marks)",
            {"files": [*new], "read_to": [p.read_to for p in new.values()], "marks": [p.mark for p in new.values()]},
        )


def _is_too_soon(clock: int) -> bool:
    """By the lock file's time, which all processes share. A clock that was set back far is not waited for."""
    return -60 < time.time() - os.fstat(clock).st_mtime < EVERY_S
