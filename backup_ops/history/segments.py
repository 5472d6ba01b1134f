"""The segments: lines of ended journals, verbatim, in Parquet files that carry their own seal in their name.

A segment is called `MONTH.SHA256.parquet`, and its bytes must have that SHA-256: Parquet has no checksum of its own,
two of three flipped bits read back as other facts. It is made whole beside its place, read back, synced and then
renamed, so that a file of that name is either whole or damaged later. docs/history.md describes the format.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from backup_ops import sharing
from backup_ops.errors import HomeError
from backup_ops.history.journals import Line
from backup_ops.history.trouble import meaning
from backup_ops.journal import sync_folder

FORMAT = "1"
_NAME = re.compile(r"(\d{4}-\d{2})\.([0-9a-f]{64})\.parquet")
COLUMN_TYPES = {"event_id": "VARCHAR", "kind": "VARCHAR", "occurred_at": "TIMESTAMP", "line": "VARCHAR"}
"""`line` is what stood in the journal, without its newline; the others are there for people who look into it."""

_COLUMNS = ", ".join(COLUMN_TYPES)
_CHUNK_BYTES = 1 << 20
_ROWS_IN_GROUP = 20_480
_PORTION_BYTES = 64 << 20


class Unreadable(Exception):
    """Its bytes are those that were sealed, and still it cannot be read; the text is the reason."""


@dataclass(frozen=True, order=True)
class Segment:
    month: str
    """`2026-11`, UTC."""
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.month}.{self.sha256}.parquet"


@dataclass(frozen=True)
class Sealed:
    """A segment that was just made, and what is in it."""

    segment: Segment
    events: int
    size_bytes: int
    first_at: str
    last_at: str


def parse_name(name: str) -> Segment | None:
    match = _NAME.fullmatch(name)
    return Segment(match[1], match[2]) if match else None


def present(folder: Path) -> list[Segment]:
    """The segments that lie in the folder, whole or not, oldest month first. Raises HomeError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(found for entry in entries if (found := parse_name(entry.name)) and entry.is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HomeError(f"{folder} cannot be read: {error.strerror}.", hint="It must be a folder of ours.") from None


def is_whole(folder: Path, segment: Segment) -> bool:
    """Whether its bytes are those that were sealed. False for one that is gone. Raises OSError."""
    try:
        with open(folder / segment.name, "rb") as file:
            return _sha256(file.fileno()) == segment.sha256
    except FileNotFoundError:
        return False


def read_lines(cursor: duckdb.DuckDBPyConnection, folder: Path, segment: Segment) -> Iterator[list[Line]]:
    """The lines in portions, as a journal would give them. Check `is_whole` first. Raises Unreadable, HomeError.

    The cursor is busy until the last portion. A line's offset is its row.
    """
    path = folder / segment.name
    if (version := _format_of(cursor, path)) != FORMAT:
        raise Unreadable(f"it is of format {version}, and this backup-ops knows {FORMAT}: update it")
    query = f"SELECT line FROM {_source([path], 'file_row_number = true')} WHERE file_row_number BETWEEN $a AND $b"
    for begin, end in _portions(cursor, path):
        rows = _ask(cursor, path, query, {"a": begin, "b": end - 1})
        yield [Line(segment.name, begin + row, text.encode("utf-8")) for row, (text,) in enumerate(rows)]


def _portions(cursor: duckdb.DuckDBPyConnection, path: Path) -> Iterator[tuple[int, int]]:
    """First row and the one after the last: a row group, or less of one whose lines are long."""
    groups = f"""
        SELECT any_value(row_group_num_rows), sum(total_uncompressed_size)
        FROM parquet_metadata('{_quoted(path)}')
        WHERE path_in_schema = 'line'
        GROUP BY row_group_id
        ORDER BY row_group_id"""
    begin = 0
    for count, size_bytes in _ask(cursor, path, groups):
        step = max(1, count * _PORTION_BYTES // max(size_bytes, _PORTION_BYTES))
        for first in range(begin, begin + count, step):
            yield first, min(first + step, begin + count)
        begin += count


def seal(
    cursor: duckdb.DuckDBPyConnection, folder: Path, month: str, select: str, *, replaces: Iterable[Segment] = ()
) -> Sealed:
    """Makes a segment of the rows of `select` (columns as COLUMN_TYPES), the doubles among them left out.

    It says in its metadata which segments it `replaces`, should the ledger lose that.

    It is in its place, and safe from a loss of power, when this returns. Raises HomeError, OSError and duckdb.Error
    when it could not be written, or was read back as something else; then nothing has changed.
    """
    sharing.make_folder(folder)
    beside = folder / f".new-{uuid.uuid4().hex}.parquet"
    rows = f"SELECT DISTINCT {_COLUMNS} FROM ({select})"
    try:
        cursor.execute(
            f"COPY ({rows} ORDER BY event_id, line) TO '{_quoted(beside)}'"
            f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_IN_GROUP},"
            f" KV_METADATA {{backup_ops_segment: '{FORMAT}', replaces: '{','.join(part.name for part in replaces)}'}})"
        )
        written, read_back = _summary(cursor, rows), _summary(cursor, f"FROM {_source([beside])}")
        if written != read_back:
            raise HomeError(
                f"a segment of {written[0]:,} events was written to {folder} and read back as something else.",
                hint="Check disk and memory of this machine (dmesg, smartctl -a). The journals are kept.",
            )
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
            segment = Segment(month, _sha256(file.fileno()))
            size_bytes = os.fstat(file.fileno()).st_size
        os.chmod(beside, sharing.FILE_MODE)
        sharing.let_in(beside)
        os.rename(beside, folder / segment.name)
        sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    events, _, first_at, last_at = written
    return Sealed(segment, events, size_bytes, str(first_at), str(last_at))


def merged(folder: Path, parts: list[Segment]) -> str:
    """The SELECT of all their rows, for `seal`."""
    return f"SELECT {_COLUMNS} FROM {_source([folder / part.name for part in parts])}"


def remove_unfinished(folder: Path) -> None:
    """Files that a killed process left half-written. Only for who holds the ingest lock."""
    for path in folder.glob(".new-*.parquet"):
        with suppress(OSError):
            path.unlink()


def remove(folder: Path, segment: Segment) -> None:
    (folder / segment.name).unlink(missing_ok=True)
    sync_folder(folder)


def is_known(cursor: duckdb.DuckDBPyConnection, folder: Path, segment: Segment) -> bool:
    """Whether it is of the format that this version writes; another's is not for it to merge."""
    try:
        return _format_of(cursor, folder / segment.name) == FORMAT
    except Unreadable:
        return False


def _format_of(cursor: duckdb.DuckDBPyConnection, path: Path) -> str:
    return _metadata(cursor, path, "backup_ops_segment") or "?"


def replaced_by(cursor: duckdb.DuckDBPyConnection, folder: Path, segment: Segment) -> set[str]:
    """Names of the segments whose events are in this one; none when it is not whole, or not ours."""
    try:
        if is_whole(folder, segment) and is_known(cursor, folder, segment):
            return set(_metadata(cursor, folder / segment.name, "replaces").split(",")) - {"", segment.name}
    except (OSError, Unreadable):
        pass
    return set()


def _metadata(cursor: duckdb.DuckDBPyConnection, path: Path, key: str) -> str:
    query = f"SELECT value FROM parquet_kv_metadata('{_quoted(path)}') WHERE key = '{key}'"
    rows = _ask(cursor, path, query)
    return bytes(rows[0][0]).decode("utf-8", "backslashreplace") if rows else ""


def _ask(
    cursor: duckdb.DuckDBPyConnection, path: Path, query: str, values: dict[str, int] | None = None
) -> list[tuple[Any, ...]]:
    try:
        return cursor.execute(query, values or {}).fetchall()
    except duckdb.Error as error:
        told = meaning(error, path)
        if isinstance(told, HomeError):
            raise told from error
        raise Unreadable(str(error).splitlines()[0]) from error


def _summary(cursor: duckdb.DuckDBPyConnection, select: str) -> tuple[int, int, object, object]:
    row = cursor.execute(
        f"SELECT count(*), bit_xor(hash({_COLUMNS})), min(occurred_at), max(occurred_at) FROM ({select})"
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2], row[3]


def _source(paths: list[Path], *options: str) -> str:
    listed = ", ".join(f"'{_quoted(path)}'" for path in paths)
    return f"read_parquet({', '.join((f'[{listed}]', *options))})"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _sha256(descriptor: int) -> str:
    digest, position = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, position):
        digest.update(chunk)
        position += len(chunk)
    return digest.hexdigest()
