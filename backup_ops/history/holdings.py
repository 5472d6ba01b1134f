"""The holdings: what an index knows of each segment, and the folding of those that it does not hold yet.

In the daily course a segment is made of events that the index has already. It does not hold one after a rebuild that
could not read it, or when an older index was put back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import duckdb

from backup_ops.history import ledger, segments
from backup_ops.history.intake import Rejected, sift, write
from backup_ops.history.ledger import Entry
from backup_ops.history.segments import Segment, Unreadable
from backup_ops.home import Home

HELD, DAMAGED, MISSING, UNREADABLE = "held", "damaged", "missing", "unreadable"
AT_ONCE_BYTES = 4 << 20
"""Segments up to this size, some 70,000 events, are folded in while everybody waits; for more the index is rebuilt."""

_UNREADABLE_FOR_S = 60
"""What could not be read may be readable a minute later: its rights, its disk or this program have changed."""


def reached(stage: str) -> None:
    """Where it is; tests put something in its place that kills the process there."""


@dataclass(frozen=True)
class Standing:
    """Which index it is, and how many batches were written to it. What it held once it holds for ever after."""

    index_id: str
    batch: int

    def covers(self, entry: Entry | None) -> bool:
        """Whether all that is in the segment was in this index when it was sealed."""
        return entry is not None and entry.index_id == self.index_id and entry.batch <= self.batch


@dataclass(frozen=True)
class Lost:
    """A segment whose events the index does not have, because its file is not what was sealed, or is gone."""

    name: str
    state: str
    reason: str
    what: str
    """How many events of what time, as far as the ledger knows."""

    def __str__(self) -> str:
        return f"segment {self.name} {self.reason}: {self.what} are not in the history."


OnLost = Callable[[Lost], None]
"""Called before the index notes that it lacks the segment: killed in between it is told twice, but not never."""


def standing(cursor: duckdb.DuckDBPyConnection, alias: str) -> Standing:
    rows = dict(cursor.execute(f"SELECT key, value FROM {alias}.meta WHERE key IN ('index_id', 'batch')").fetchall())
    return Standing(str(rows.get("index_id")), int(rows.get("batch", 0)))


def next_batch(cursor: duckdb.DuckDBPyConnection, alias: str) -> None:
    """Part of every transaction that adds to the tables."""
    cursor.execute(f"UPDATE {alias}.meta SET value = (value::BIGINT + 1)::VARCHAR WHERE key = 'batch'")


def states(cursor: duckdb.DuckDBPyConnection, alias: str) -> dict[str, tuple[str, str]]:
    """Of each segment's name the state, and for one that is not held which file it was, and when."""
    rows = cursor.execute(f"SELECT name, state, seen FROM {alias}.segments").fetchall()
    return {name: (state, seen or "") for name, state, seen in rows}


def note(
    cursor: duckdb.DuckDBPyConnection, alias: str, name: str, state: str, seen: str = "", replaces: Iterable[str] = ()
) -> None:
    names = {"names": [name, *replaces]}
    cursor.execute(f"DELETE FROM {alias}.segments WHERE name IN (SELECT unnest($names::VARCHAR[]))", names)
    values = {"name": name, "state": state, "seen": seen}
    cursor.execute(f"INSERT INTO {alias}.segments VALUES ($name, $state, $seen)", values)


def unheld(cursor: duckdb.DuckDBPyConnection, home: Home, alias: str) -> list[Segment]:
    """The segments whose events are not in the index, as far as it knows, and that may be worth to look at (again)."""
    known = states(cursor, alias)
    waiting = [one for one in segments.present(home.segments) if not _is_settled(home, one, known.get(one.name))]
    if not waiting:
        return []
    here, expected = standing(cursor, alias), ledger.expected(home)
    return [one for one in waiting if not here.covers(expected.get(one.name))]


def is_readable(cursor: duckdb.DuckDBPyConnection, home: Home, segment: Segment) -> bool:
    try:
        return segments.is_whole(home.segments, segment) and segments.is_known(cursor, home.segments, segment)
    except OSError:
        return False


def size_bytes(home: Home, some: Iterable[Segment]) -> int:
    total = 0
    for segment in some:
        with contextlib.suppress(OSError):
            total += (home.segments / segment.name).stat().st_size
    return total


def gone(cursor: duckdb.DuckDBPyConnection, home: Home, names: Iterable[str]) -> set[str]:
    """Those of the names whose file is not there, and whose events are in no other segment."""
    present = segments.present(home.segments)
    missing = set(names) - {segment.name for segment in present}
    for segment in present if missing else ():
        missing -= segments.replaced_by(cursor, home.segments, segment)
    return missing


def take_in(
    cursor: duckdb.DuckDBPyConnection, home: Home, alias: str, on_lost: OnLost, *, note_missing: bool = False
) -> list[Rejected]:
    """Folds in every segment that the index does not hold and that can be read; tells of and notes those that cannot.

    A segment is folded in portions, each in a transaction, and held with the last of them: killed in between it is
    folded again, and nothing is doubled. `note_missing` also looks for segments that the ledger tells of and that are
    gone; a rebuild does, for it makes the index of what is there.
    """
    rejected: list[Rejected] = []
    waiting = unheld(cursor, home, alias)
    known = states(cursor, alias)
    expected = ledger.expected(home) if waiting or note_missing else {}
    for segment in waiting:
        trouble = _fold_in(cursor, home, alias, segment, rejected)
        if trouble is None:
            continue
        state, reason = trouble
        if known.get(segment.name, ("",))[0] != state:  # told once
            entry = expected.get(segment.name)
            on_lost(Lost(segment.name, state, reason, entry.what if entry else "its events"))
            reached("told")
        note(cursor, alias, segment.name, state, _seen(home, segment, state))
    if note_missing:
        for name in sorted(gone(cursor, home, expected)):
            on_lost(Lost(name, MISSING, "is gone", expected[name].what))
            note(cursor, alias, name, MISSING)
    return rejected


def _is_settled(home: Home, segment: Segment, known: tuple[str, str] | None) -> bool:
    if known is None or known[0] == MISSING:
        return False
    return known[0] == HELD or known[1] == _seen(home, segment, known[0])


def _seen(home: Home, segment: Segment, state: str) -> str:
    """Which file it was: looked at again when it is another; an unreadable one also some time later."""
    try:
        status = (home.segments / segment.name).stat()
    except OSError:
        return ""
    file = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
    return file if state == DAMAGED else f"{file}-{int(time.time()) // _UNREADABLE_FOR_S}"


def _fold_in(
    cursor: duckdb.DuckDBPyConnection, home: Home, alias: str, segment: Segment, rejected: list[Rejected]
) -> tuple[str, str] | None:
    """None, or the state of the segment and why its events are not in the index."""
    try:
        if not segments.is_whole(home.segments, segment):
            return DAMAGED, "is damaged (its bytes are not those that were sealed)"
        with contextlib.closing(cursor.cursor()) as source:
            for lines in segments.read_lines(source, home.segments, segment):
                sifted = sift(cursor, lines, (alias,))
                write(cursor, sifted, into=alias, known_in=(alias,), then=lambda: next_batch(cursor, alias))
                rejected += sifted.rejected
    except OSError as error:
        return UNREADABLE, f"cannot be read ({error.strerror})"
    except Unreadable as why:
        return UNREADABLE, f"cannot be read ({why})"
    note(cursor, alias, segment.name, HELD)
    return None
