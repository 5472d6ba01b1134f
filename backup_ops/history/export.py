"""Export: the answer of a question as a CSV, JSON or Parquet file, written beside the target and put in its place."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from backup_ops.errors import BackupError, UsageError, did_you_mean
from backup_ops.history import question

EXPORTS = ("errors", "runs", "snapshots")
FORMATS = ("csv", "json", "parquet")

_OPTIONS = {
    "csv": "FORMAT csv, HEADER true",
    "json": "FORMAT json, ARRAY true",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
_MARKED = r"'''\1'"
_RFC_3339 = "%Y-%m-%dT%H:%M:%S.%fZ"


def format_of(target: Path, file_format: str | None = None) -> str:
    """`file_format`, else the target's extension. Raises UsageError."""
    name = (file_format or target.suffix.removeprefix(".")).lower()
    if name not in FORMATS:
        what = f"'{name}' is no format to export to" if name else f"'{target.name}' does not say in which format"
        raise UsageError(f"{what}.", hint=f"End the name in .{', .'.join(FORMATS)}.")
    return name


def find(what: str) -> question.Question:
    if what not in EXPORTS:
        raise UsageError(
            f"cannot export '{what}'.", hint=did_you_mean(what, EXPORTS) or f"Choose from: {', '.join(EXPORTS)}."
        )
    return question.find(what)


def write(
    cursor: duckdb.DuckDBPyConnection,
    asked: question.Question,
    filters: Mapping[str, Any],
    target: Path,
    *,
    file_format: str,
    raw: bool = False,
) -> int:
    """Writes the answer; returns the number of rows. Raises UsageError for the filters, BackupError for the target.

    CSV and JSON give times as RFC 3339 in UTC with microseconds, Parquet as UTC timestamps. A CSV's text cells that a
    spreadsheet would run as a formula (= + - @, tab, carriage return) get a leading ' unless `raw`.
    """
    bound = asked.bind(filters)
    beside = target.parent / f".{target.name[:100]}.{uuid.uuid4().hex[:12]}"
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        with open(beside, "xb"):
            pass  # DuckDB's own words for a folder that is missing, or not ours, are no sentences
        rows = _copy(cursor, asked.sql, bound, beside, file_format, raw=raw)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}.", hint="Name another file.") from None
    except duckdb.Error as error:
        if str(beside) not in str(error) and "No space left" not in str(error):
            raise
        raise BackupError(f"cannot write {target}: {error}", hint="Free space, or name another file.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    return rows


def _copy(
    cursor: duckdb.DuckDBPyConnection, sql: str, bound: dict[str, Any], path: Path, file_format: str, *, raw: bool
) -> int:
    described = cursor.execute(f"DESCRIBE {sql}", bound).fetchall()
    columns = ", ".join(f"{_cell(row[0], row[1], file_format, raw=raw)}" for row in described)
    place = str(path).replace("'", "''")
    found = cursor.execute(
        f"COPY (SELECT {columns} FROM (\n{sql}\n) AS answer) TO '{place}' ({_OPTIONS[file_format]})", bound
    ).fetchone()
    return int(found[0]) if found else 0


def _cell(name: str, kind: str, file_format: str, *, raw: bool) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if kind == "TIMESTAMP":
        told = f"{column} AT TIME ZONE 'UTC'" if file_format == "parquet" else f"strftime({column}, '{_RFC_3339}')"
        return f"{told} AS {column}"
    if kind == "VARCHAR" and file_format == "csv" and not raw:
        return f"regexp_replace({column}, '^([=+\\-@\\t\\r])', {_MARKED}) AS {column}"
    return column
