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
from backup_ops.history import journals
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
from backup_ops.history.trouble import HeldHere, meaning
from backup_ops.home import Home

INDEX, TAIL = "h", "tail"
_PORTION_BYTES = 16 << 20


class Missing(Exception):
    """There is no index yet."""


class Outdated(Exception):
    """The index was written by an older backup-ops; it is to be rebuilt."""


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
        now = journals.sizes(self._home.journal)
        with contextlib.closing(self.cursor()) as cursor:
            while True:
                portion = journals.unread(self._home.journal, self._read, now, limit_bytes=_PORTION_BYTES)
                if portion.lines:
                    sifted = sift(cursor, portion.lines, (INDEX, TAIL))
                    self._filled |= write(cursor, sifted, into=TAIL, known_in=(INDEX, TAIL))
                    if self.tail_since is None:
                        self.tail_since = time.monotonic()
                self.tail_bytes += portion.size_bytes
                self._read |= portion.positions
                if portion.is_last:
                    return

    def _attached(self, cursor: duckdb.DuckDBPyConnection, *, is_stand_in: bool) -> None:
        try:
            folded = positions(cursor, INDEX)
            if folded != self._folded:
                # New tables, not DELETE: in memory the room of deleted rows would never be given back.
                for name in self._filled:
                    cursor.execute(create_table(TAIL, TABLES[name]))
                self._filled.clear()
                self._folded, self._read = folded, dict(folded)
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
