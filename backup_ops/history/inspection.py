"""An inspection of the store: every segment against its seal, every block of the index, and what the journals hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import duckdb

from backup_ops import lock
from backup_ops.errors import BackupError, HomeError
from backup_ops.finding import Finding
from backup_ops.history import holdings, journals, ledger, segments
from backup_ops.history.guard import Guard
from backup_ops.history.instance import Missing, Outdated, attach, connect
from backup_ops.history.schema import TABLES
from backup_ops.history.trouble import meaning
from backup_ops.home import Home

_INDEX = "i"
_WAIT_S = 2.0
_REBUILD = "`backup-ops rebuild` makes it anew from segments and journals."


def inspect(home: Home) -> Iterator[Finding]:
    """Findings on the journals, the segments and the index, in this order. Raises nothing that a home can hold."""
    yield from _of_journals(home)
    yield from _of_segments(home)
    yield from _of_index(home)


def _of_journals(home: Home) -> Iterator[Finding]:
    try:
        sizes = journals.sizes(home.journal)
    except HomeError as error:
        yield Finding("journals", "problem", error.message, error.hint)
        return
    written = sum(_is_written(home, name) for name in sizes)
    total = sum(sizes.values())
    yield Finding("journals", "ok", f"{len(sizes):,} journals, {total:,} bytes; {written:,} are being written.")
    for name, size in sizes.items():
        try:
            end = _end_of(home, name, size)
        except FileNotFoundError:
            continue  # in a segment by now
        except OSError as error:
            yield Finding("journals", "problem", f"journal {name} cannot be read: {error.strerror}.")
            continue
        if end and not _is_written(home, name):
            yield Finding(
                "journals",
                "warning",
                f"journal {name} ends in {end:,} bytes without a newline: its writer was killed, or the disk full.",
                "They were never acknowledged. The file is kept.",
            )


def _is_written(home: Home, name: str) -> bool:
    try:
        return lock.is_held(home.journal / name)
    except OSError:
        return False


def _end_of(home: Home, name: str, size: int) -> int:
    """How many bytes lie after the last newline, as far as the last MiB tells."""
    with open(home.journal / name, "rb") as file:
        file.seek(max(0, size - (1 << 20)))
        tail = file.read()
    return len(tail) - (tail.rfind(b"\n") + 1)


def _of_segments(home: Home) -> Iterator[Finding]:
    try:
        present, expected = segments.present(home.segments), ledger.expected(home)
    except HomeError as error:
        yield Finding("segments", "problem", error.message, error.hint)
        return
    damaged = []
    for segment in present:
        try:
            if segments.is_whole(home.segments, segment):
                continue
            reason = "is damaged: its bytes are not those that were sealed"
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        if not (home.segments / segment.name).exists() and segment.name not in ledger.expected(home):
            continue  # merged into another just now
        damaged.append(segment)
        entry = expected.get(segment.name)
        what = entry.what if entry else "the ledger does not know it"
        yield Finding(
            "segments",
            "problem",
            f"segment {home.segments / segment.name} {reason} ({what}).",
            "Put back a good copy from a backup of this home, under the same name; it is taken in by itself.",
        )
    with connect() as connection:
        missing = holdings.gone(connection, home, expected) & ledger.expected(home).keys()
    for name in sorted(missing):
        yield Finding(
            "segments",
            "problem",
            f"segment {home.segments / name} is gone ({expected[name].what}).",
            "Put it back from a backup of this home; until then do not rebuild: the index may still know its events.",
        )
    whole = len(present) - len(damaged)
    if whole or not damaged:
        yield Finding("segments", "ok", f"{whole:,} segments are as they were sealed.")


def _of_index(home: Home) -> Iterator[Finding]:
    path = home.history
    try:
        with Guard(home).reading(_WAIT_S), connect() as connection:
            attach(connection, path, _INDEX, read_only=True, wait_s=_WAIT_S)
            try:
                yield from _of_tables(home, connection)
            except duckdb.Error as error:
                told = meaning(error, path)
                if told is None:
                    raise
                yield Finding("history", "problem", told.message, told.hint or _REBUILD)
            finally:
                connection.execute(f"DETACH {_INDEX}")
    except Missing:
        yield Finding("history", "ok", f"there is no {path} yet; the first question makes it.")
    except Outdated as why:
        yield Finding("history", "ok", f"{why}; the next question makes it anew.")
    except BackupError as error:
        yield Finding("history", "problem", error.message, error.hint or _REBUILD)


def _of_tables(home: Home, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    counts = {}
    for name in TABLES:  # every block is read: DuckDB checks a block's sum when it reads it
        row = connection.execute(f"SELECT count(*), max(hash(COLUMNS(*))) FROM {_INDEX}.{name}").fetchone()
        counts[name] = row[0] if row else 0
    rows = counts["events"] + counts["errors"]
    with contextlib.suppress(OSError):
        size = home.history.stat().st_size
        yield Finding("history", "ok", f"history.duckdb holds {rows:,} events in {size:,} bytes, every block readable.")
    if counts["rejected"]:
        yield Finding(
            "history",
            "warning",
            f"{counts['rejected']:,} lines of journals could not be read; they are in the table 'rejected'.",
            'Look at them: backup-ops sql "SELECT * FROM rejected".',
        )
    waiting = {segment.name for segment in holdings.unheld(connection, home, _INDEX)}
    known = holdings.states(connection, _INDEX)
    for name, (state, _) in sorted(known.items()):
        if state != holdings.HELD and name not in waiting:
            yield Finding("history", "problem", f"the events of segment {name} are not in it: {state}.")
    held = {name for name, (state, _) in known.items() if state == holdings.HELD}
    for name in sorted(holdings.gone(connection, home, held) - ledger.expected(home).keys()):
        yield Finding(
            "history",
            "problem",
            f"it holds the events of segment {name}, and that is gone; the ledger does not know it either.",
            "Put it back from a backup of this home; do not rebuild until then.",
        )
