"""One in-memory DuckDB: the index attached to it for the length of a read, and the journals' tails beside it.

Starting DuckDB costs 20 ms, attaching a file to a running one half of one: so the instance stays and the file goes.
"""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import duckdb

from backup_ops.errors import BackupError, HistoryBusy, HistoryDamaged, HistoryNewer
from backup_ops.history import holdings, journals, segments
from backup_ops.history.holdings import Standing
from backup_ops.history.intake import sift, write
from backup_ops.history.journals import Position
from backup_ops.history.schema import (
    SCHEMA_VERSION,
    STORAGE_VERSION,
    TABLES,
    create_index,
    create_table,
    create_tables,
    create_views,
)
from backup_ops.history.segments import Segment
from backup_ops.history.trouble import HeldHere, check_place, meaning
from backup_ops.home import Home

INDEX, TAIL = "h", "tail"
_PORTION_BYTES = 16 << 20
_OF_STAND_IN = Standing("stand-in", 0)


class Missing(Exception):
    """There is no index yet."""


class Outdated(Exception):
    """The index is of an older backup-ops, or of an older time; it is to be rebuilt."""


def connect(*, threads: int = 2, spill_to: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that never loads extensions from anywhere and speaks UTC."""
    connection = duckdb.connect(
        config={
            "threads": threads,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(spill_to) if spill_to else "",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def attach(cursor: duckdb.DuckDBPyConnection, path: Path, alias: str, *, read_only: bool, wait_s: float) -> None:
    """Attaches the index. Raises Missing, Outdated, HistoryBusy (after `wait_s`), HistoryNewer, HistoryDamaged, …"""
    until = time.monotonic() + wait_s
    place = str(path).replace("'", "''")
    while True:
        check_place(path)
        if identity(path) is None:
            raise Missing
        try:
            cursor.execute(f"ATTACH '{place}' AS {alias} ({'READ_ONLY' if read_only else 'READ_WRITE'}, TYPE duckdb)")
            break
        except duckdb.Error as error:
            told = meaning(error, path)
            if told is None:
                raise
            if not isinstance(told, HistoryBusy) or isinstance(told, HeldHere) or time.monotonic() >= until:
                raise told from error
        time.sleep(random.uniform(0.001, 0.004))
    try:
        _check_schema(cursor, path, alias)
    except BaseException:
        cursor.execute(f"DETACH {alias}")
        raise


def create(cursor: duckdb.DuckDBPyConnection, path: Path, alias: str) -> None:
    """Attaches a new, empty index."""
    place = str(path).replace("'", "''")
    cursor.execute(f"ATTACH '{place}' AS {alias} (STORAGE_VERSION '{STORAGE_VERSION}')")
    cursor.execute(create_index(alias))


def identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at the path; None for none, or an empty one, which DuckDB would take for a new database."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return 0, 0  # there is something; opening it will tell what is wrong
    return (status.st_dev, status.st_ino) if status.st_size else None


def positions(cursor: duckdb.DuckDBPyConnection, alias: str) -> dict[str, Position]:
    rows = cursor.execute(f"SELECT file, read_to, mark FROM {alias}.offsets").fetchall()
    return {file: Position(read_to, mark) for file, read_to, mark in rows}


def check_age(cursor: duckdb.DuckDBPyConnection, home: Home, alias: str) -> list[Segment]:
    """The readable segments whose events the index lacks. Raises Outdated when it lacks much: better made anew."""
    waiting = [one for one in holdings.unheld(cursor, home, alias) if holdings.is_readable(cursor, home, one)]
    size_bytes = holdings.size_bytes(home, waiting)
    if size_bytes > holdings.AT_ONCE_BYTES:
        raise Outdated(f"{home.history} lacked the events of {len(waiting):,} segments ({size_bytes:,} bytes)")
    return waiting


def _check_schema(cursor: duckdb.DuckDBPyConnection, path: Path, alias: str) -> None:
    try:
        row = cursor.execute(f"SELECT value FROM {alias}.meta WHERE key = 'schema_version'").fetchone()
        version = int(row[0]) if row else None
    except duckdb.CatalogException:
        version = None
    except duckdb.Error as error:
        told = meaning(error, path)
        if told is None:
            raise
        raise told from error
    if version is None:
        raise HistoryDamaged(f"{path} is a DuckDB file, but not a history.")
    if version > SCHEMA_VERSION:
        raise HistoryNewer(
            f"{path} was written by a newer backup-ops: its tables are version {version}, here {SCHEMA_VERSION}.",
            hint="Use the newer environment, or update backup-ops here. The file is left as it is.",
        )
    if version < SCHEMA_VERSION:
        raise Outdated(f"{path} was of version {version}, this backup-ops has {SCHEMA_VERSION}")


class Instance:
    """Not for several threads at once, but for `cursor()`: DuckDB refuses a connection that is busy elsewhere."""

    def __init__(self, home: Home, connection: duckdb.DuckDBPyConnection) -> None:
        self._home = home
        self._connection = connection
        self._folded: dict[str, Position] | None = None
        self._read: dict[str, Position] = {}
        self._filled: set[str] = set()
        self._has_views = False
        self.tail_bytes = 0
        self.tail_since: float | None = None
        """When the oldest line of the tail was first seen, by the monotonic clock."""
        self.is_stand_in = False
        self._standing: Standing | None = None
        self._unheld: list[Segment] = []
        self._segments_read: set[Segment] = set()
        connection.execute(f"CREATE SCHEMA {TAIL};" + create_tables(TAIL))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._connection.cursor()

    def close(self) -> None:
        self._connection.close()

    def attach(self, wait_s: float) -> None:
        """Attaches the index, whose views are then complete but for what `refresh` adds. Raises what `attach` does."""
        with contextlib.closing(self.cursor()) as cursor:
            attach(cursor, self._home.history, INDEX, read_only=True, wait_s=wait_s)
            self._attached(cursor, is_stand_in=False)

    def stand_in(self) -> None:
        """Attaches an empty index in memory instead, so that everything comes out of the journals."""
        with contextlib.closing(self.cursor()) as cursor:
            cursor.execute(f"ATTACH ':memory:' AS {INDEX}")
            cursor.execute(create_index(INDEX))
            self._attached(cursor, is_stand_in=True)

    def detach(self) -> None:
        with contextlib.closing(self.cursor()) as cursor:
            cursor.execute(f"DETACH {INDEX}")

    def backlog_bytes(self) -> int:
        """How much the journals hold that neither the index nor the tails have."""
        now = journals.sizes(self._home.journal)
        return sum(max(0, size - self._read.get(name, Position()).read_to) for name, size in now.items())

    def refresh(self) -> None:
        """Reads what the journals have got since. What this process appended before the call is there after it."""
        folder = self._home.journal
        now, recent = journals.listing(folder, journals.written_since_s(self._home.history))
        with contextlib.closing(self.cursor()) as cursor:
            while True:
                portion = journals.unread(folder, self._read, now, limit_bytes=_PORTION_BYTES, recent=recent)
                if portion.lines:
                    sifted = sift(cursor, portion.lines, (INDEX, TAIL))
                    self._filled |= write(cursor, sifted, into=TAIL, known_in=(INDEX, TAIL))
                    if self.tail_since is None:
                        self.tail_since = time.monotonic()
                self.tail_bytes += portion.size_bytes
                self._read |= portion.positions
                if portion.is_last:
                    break
            if not self.is_stand_in:
                self._read_segments(cursor, self._unheld)
                return
            # After the journals: one that went meanwhile is in a segment by now. And until there are no others: a
            # segment that was merged away before we came to it is in a newer one.
            while waiting := [one for one in segments.present(self._home.segments) if one not in self._segments_read]:
                self._read_segments(cursor, waiting)

    def _read_segments(self, cursor: duckdb.DuckDBPyConnection, waiting: list[Segment]) -> None:
        for segment in waiting:
            if segment not in self._segments_read:
                self._segments_read.add(segment)
                if holdings.is_readable(cursor, self._home, segment):
                    with contextlib.suppress(segments.Unreadable), contextlib.closing(self.cursor()) as source:
                        for lines in segments.read_lines(source, self._home.segments, segment):
                            sifted = sift(cursor, lines, (INDEX, TAIL))
                            self._filled |= write(cursor, sifted, into=TAIL, known_in=(INDEX, TAIL))

    def _attached(self, cursor: duckdb.DuckDBPyConnection, *, is_stand_in: bool) -> None:
        try:
            folded = positions(cursor, INDEX)
            standing = _OF_STAND_IN if is_stand_in else holdings.standing(cursor, INDEX)
            self._unheld = [] if is_stand_in else check_age(cursor, self._home, INDEX)
            if standing != self._standing or folded != self._folded:
                # New tables, not DELETE: in memory the room of deleted rows would never be given back.
                for name in self._filled:
                    cursor.execute(create_table(TAIL, TABLES[name]))
                self._filled.clear()
                self._segments_read.clear()
                self._standing, self._folded, self._read = standing, folded, dict(folded)
                self.tail_bytes, self.tail_since = 0, None
            if not self._has_views:
                cursor.execute(create_views(INDEX, TAIL))
                self._has_views = True
            self.is_stand_in = is_stand_in
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                cursor.execute(f"DETACH {INDEX}")
            if isinstance(error, duckdb.Error):
                told: BackupError | None = meaning(error, self._home.history)
                if told is not None:
                    raise told from error
            raise
