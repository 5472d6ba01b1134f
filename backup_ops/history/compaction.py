"""Compaction: what ended journals hold moves into segments, and the journals go.

A journal goes when all of this is true: its writer is dead (its lock is free) and will not come back (its run has left
the queue); all of its lines are in the index, none of them rejected; and they are in a segment that was read back,
synced and entered into the ledger. Killed anywhere, the events are there twice at most, and folded once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from backup_ops import event, lock
from backup_ops.errors import BackupError, HistoryBusy
from backup_ops.history import holdings, journals, ledger, segments
from backup_ops.history.guard import Guard
from backup_ops.history.holdings import Standing
from backup_ops.history.instance import attach, connect, positions
from backup_ops.history.intake import as_file
from backup_ops.history.journals import Position
from backup_ops.history.segments import COLUMN_TYPES, Segment
from backup_ops.history.trouble import meaning
from backup_ops.home import Home
from backup_ops.journal import SUFFIX, Journal, sync_folder

MIN_JOURNALS, MIN_BYTES, MIN_AGE_S = 64, 4 << 20, 86_400.0
"""Less than that is left alone: a segment for a few events helps nobody."""

PASS_JOURNALS, PASS_BYTES = 2_000, 32 << 20
MERGE_ABOVE = 8
"""Segments of the present month are merged when there are that many; of a month that is over, when there are two."""

_INDEX = "r"
_EARLIEST_MONTH = "2000-01"
_ROWS_AT_A_TIME = 20_000
_WAIT_S = 1.0
_NEW_FOR_S = 60.0
_MOVING = {"month": "VARCHAR", **COLUMN_TYPES}


def reached(stage: str) -> None:
    """Where a compaction is; tests put something in its place that kills the process there."""


@dataclass
class Compacted:
    """What was done: journals that went, segments that were made (by moving journals, or by merging)."""

    journals: int = 0
    segments: list[str] = field(default_factory=list)
    is_complete: bool = True
    standing: Standing | None = None


class _Spoiled(Exception):
    """A segment was damaged while it was merged."""


@dataclass(frozen=True)
class _Ended:
    """A journal whose writer is dead, and whose lines are all in the index."""

    path: Path
    read_to: int
    changed_at_ns: int


@dataclass(frozen=True)
class _Known:
    """What the index says while nobody else may write to it: the ingest lock is ours."""

    standing: Standing
    positions: dict[str, Position]
    rejected_in: frozenset[str]
    unheld: frozenset[str]
    not_held: frozenset[str]


def compact(home: Home, *, until: float, everything: bool = False) -> Compacted:
    """Moves ended journals into segments and merges segments, up to a moment of `time.monotonic`.

    Little is left alone unless `everything`. Raises HistoryBusy when another process is at it, HistoryNewer, Missing,
    Outdated, HistoryDamaged for the index, HomeError and OSError when there is no room or no right to write.
    """
    done = Compacted()
    with Guard(home).ingesting(_WAIT_S) as _, connect(spill_to=home.path / "spill") as connection:
        segments.remove_unfinished(home.segments)
        try:
            known = _known(home, connection)
            done.standing = known.standing
            ended = _ended(home, known)
            if everything or _is_worth_it(ended):
                for part in _passes(ended):
                    if time.monotonic() >= until:
                        done.is_complete = False
                        return done
                    _move(home, connection, part, done)
            for month, parts in _mergeable(home, connection, known):
                if time.monotonic() >= until:
                    done.is_complete = False
                    return done
                _merge(home, connection, month, parts, done)
        except duckdb.Error as error:
            about = home.history if home.history.name in str(error) else home.segments
            told: BackupError | None = meaning(error, about)
            if told is None:
                raise
            raise told from error
    return done


def _ended(home: Home, known: _Known) -> list[_Ended]:
    """Journals that have lines the index rejected stay: they are the proof."""
    found = []
    for name in sorted(journals.sizes(home.journal)):
        path = home.journal / name
        position = known.positions.get(name, Position())
        with contextlib.suppress(OSError):
            # Its time before all else: what is appended later, also by a writer that dies at once, must show in it.
            status = path.stat()
            if name == ledger.FILE or name in known.rejected_in or _is_new(status) or _may_come_back(home, name):
                continue
            if not lock.is_held(path) and journals.is_read(path, position):
                found.append(_Ended(path, position.read_to, status.st_mtime_ns))
    return found


def _known(home: Home, connection: duckdb.DuckDBPyConnection) -> _Known:
    with Guard(home).reading(_WAIT_S), contextlib.closing(connection.cursor()) as cursor:
        attach(cursor, home.history, _INDEX, read_only=True, wait_s=_WAIT_S)
        try:
            rejected_in = cursor.execute(f"SELECT DISTINCT file FROM {_INDEX}.rejected").fetchall()
            return _Known(
                holdings.standing(cursor, _INDEX),
                positions(cursor, _INDEX),
                frozenset(name for (name,) in rejected_in),
                frozenset(segment.name for segment in holdings.unheld(cursor, home, _INDEX)),
                frozenset(
                    name for name, (state, _) in holdings.states(cursor, _INDEX).items() if state != holdings.HELD
                ),
            )
        finally:
            cursor.execute(f"DETACH {_INDEX}")


def _is_new(status: os.stat_result) -> bool:
    """Empty, and perhaps of a writer that has not locked it yet."""
    return status.st_size == 0 and abs(time.time() - status.st_mtime) < _NEW_FOR_S


def _may_come_back(home: Home, name: str) -> bool:
    """A run in the queue is not over, whoever of its processes is dead: its end is read, and written, there."""
    return name.startswith("run-") and (home.queue / f"{name.removeprefix('run-').removesuffix(SUFFIX)}.json").exists()


def _is_worth_it(ended: list[_Ended]) -> bool:
    if not ended:
        return False
    is_old = time.time() - min(one.changed_at_ns for one in ended) / 1e9 > MIN_AGE_S
    return is_old or len(ended) >= MIN_JOURNALS or sum(one.read_to for one in ended) >= MIN_BYTES


def _passes(ended: list[_Ended]) -> Iterator[list[_Ended]]:
    part: list[_Ended] = []
    for one in ended:
        if part and (len(part) >= PASS_JOURNALS or sum(other.read_to for other in part) + one.read_to > PASS_BYTES):
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _move(home: Home, connection: duckdb.DuckDBPyConnection, ended: list[_Ended], done: Compacted) -> None:
    """One pass: the lines into a segment for each month, then the journals go."""
    this_month = datetime.now(UTC).strftime("%Y-%m")
    with contextlib.closing(connection.cursor()) as cursor:
        columns = ", ".join(f"{name} {sql_type}" for name, sql_type in _MOVING.items())
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE moving ({columns})")
        moved = _stage(cursor, ended, this_month)
        reached("staged")
        with ledger.writing(home) as journal:
            months = [month for (month,) in cursor.execute("SELECT DISTINCT month FROM moving ORDER BY 1").fetchall()]
            for month in months:
                select = f"SELECT * EXCLUDE month FROM moving WHERE month = '{month}'"
                _seal(home, cursor, journal, month, select, (), len(moved), done)
        cursor.execute("DROP TABLE moving")
    for one in moved:
        done.journals += _remove(one)
        reached("unlinking")
    sync_folder(home.journal)


def _merge(
    home: Home, connection: duckdb.DuckDBPyConnection, month: str, parts: list[Segment], done: Compacted
) -> None:
    with contextlib.closing(connection.cursor()) as cursor, ledger.writing(home) as journal:
        try:
            made = _seal(home, cursor, journal, month, segments.merged(home.segments, parts), parts, 0, done)
        except (_Spoiled, duckdb.Error):
            if _are_whole(home, parts):
                raise
            return  # one of them was damaged since it was looked at; next time it is left out
    for part in parts:
        if part != made:
            segments.remove(home.segments, part)
            reached("removing")


def _seal(
    home: Home,
    cursor: duckdb.DuckDBPyConnection,
    journal: Journal,
    month: str,
    select: str,
    replaces: tuple[Segment, ...] | list[Segment],
    from_journals: int,
    done: Compacted,
) -> Segment:
    sealed = segments.seal(cursor, home.segments, month, select, replaces=replaces)
    reached("sealed")
    if not _are_whole(home, replaces):
        if sealed.segment not in replaces:
            segments.remove(home.segments, sealed.segment)
        raise _Spoiled
    assert done.standing is not None
    ledger.enter(
        journal,
        sealed,
        index_id=done.standing.index_id,
        batch=done.standing.batch,
        replaces=replaces,
        journals=from_journals,
    )
    reached("entered")
    # By the ledger an index knows that it has these events; the note only saves it from looking there.
    with contextlib.suppress(HistoryBusy), Guard(home).writing(_WAIT_S):
        attach(cursor, home.history, _INDEX, read_only=False, wait_s=_WAIT_S)
        try:
            names = [part.name for part in replaces]
            holdings.note(cursor, _INDEX, sealed.segment.name, holdings.HELD, replaces=names)
        finally:
            cursor.execute(f"DETACH {_INDEX}")
    reached("held")
    done.segments.append(sealed.segment.name)
    return sealed.segment


def _stage(cursor: duckdb.DuckDBPyConnection, ended: list[_Ended], this_month: str) -> list[_Ended]:
    """Puts the journals' lines into `moving`; returns those of the journals that could be carried, verbatim."""
    rows: list[bytes] = []
    staged = []
    for one in ended:
        try:
            if one.read_to > PASS_BYTES:  # not to be held in memory: looked through first, then read once more
                for _ in _rows(one, this_month):
                    pass
                for row in _rows(one, this_month):
                    rows.append(row)
                    if len(rows) >= _ROWS_AT_A_TIME:
                        _insert(cursor, rows)
                        rows = []
            else:
                rows += list(_rows(one, this_month))
        except (event.Undecodable, ValueError, OverflowError, FileNotFoundError):
            continue
        staged.append(one)
        if len(rows) >= _ROWS_AT_A_TIME:
            _insert(cursor, rows)
            rows = []
    _insert(cursor, rows)
    return staged


def _rows(one: _Ended, this_month: str) -> Iterator[bytes]:
    for line in journals.complete_lines(one.path, one.read_to):
        yield _row(line.data, this_month)


def _row(line: bytes, this_month: str) -> bytes:
    """Raises Undecodable, ValueError (no UTF-8, no time) and OverflowError (the edge of the calendar)."""
    fields = event.decode(line)
    at = datetime.fromisoformat(fields["at"]).astimezone(UTC).replace(tzinfo=None)
    month = min(max(_EARLIEST_MONTH, at.strftime("%Y-%m")), this_month)
    row = {"month": month, "event_id": fields["id"], "kind": fields["kind"], "occurred_at": at.isoformat()}
    return json.dumps(row | {"line": line.decode("utf-8")}, ensure_ascii=False).encode("utf-8")


def _insert(cursor: duckdb.DuckDBPyConnection, rows: list[bytes]) -> None:
    if rows:
        with as_file(rows) as (path, options):
            cursor.execute(f"INSERT INTO moving SELECT * FROM read_json('{path}', {options}, columns={_MOVING})")


def _remove(one: _Ended) -> bool:
    """Under its lock, and only as it was when it was read."""
    try:
        descriptor = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        is_as_read = (status.st_mtime_ns, status.st_size) == (one.changed_at_ns, one.read_to)
        if not is_as_read or os.stat(one.path).st_ino != status.st_ino:
            return False
        one.path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _mergeable(home: Home, connection: duckdb.DuckDBPyConnection, known: _Known) -> list[tuple[str, list[Segment]]]:
    """Months with more segments than they should have; only whole ones of ours, the others are left as they are."""
    this_month = datetime.now(UTC).strftime("%Y-%m")
    months: dict[str, list[Segment]] = {}
    for segment in segments.present(home.segments):
        months.setdefault(segment.month, []).append(segment)
    found = []
    for month, parts in months.items():
        if len(parts) >= (MERGE_ABOVE if month >= this_month else 2):
            # Only what the index holds: it is told that it holds the whole.
            whole = [
                part
                for part in parts
                if part.name not in known.unheld | known.not_held and holdings.is_readable(connection, home, part)
            ]
            if len(whole) > 1:
                found.append((month, whole))
    return found


def _are_whole(home: Home, parts: Iterable[Segment]) -> bool:
    try:
        return all(segments.is_whole(home.segments, part) for part in parts)
    except OSError:
        return False
