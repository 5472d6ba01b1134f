"""The tables: what the index in history.duckdb holds, and the views that users see over index and journal tails.

Every column that users see is described in docs/tables.md. A change here asks for a new SCHEMA_VERSION: the index is
rebuilt from segments and journals, never migrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backup_ops.run import RUN_COLUMNS

SCHEMA_VERSION = 2
STORAGE_VERSION = "v1.5.0"
"""DuckDB's file format: the oldest that every DuckDB we support can write, so that two environments share a home."""

Kind = Literal["text", "count", "number", "moment", "truth", "json"]
SQL_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "count": "BIGINT",
    "number": "DOUBLE",
    "moment": "TIMESTAMP",
    "truth": "BOOLEAN",
    "json": "JSON",
}


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """A table of the index.

    `key` is None where rows are only added, each under an event id of its own. Else there is one row for each key:
    with `merge` "latest" the newest event's row, "patch" each column's newest value.
    """

    name: str
    columns: tuple[Column, ...]
    key: str | None = None
    merge: Literal["latest", "patch"] = "latest"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def sql_types(self) -> dict[str, str]:
        return {column.name: SQL_TYPES[column.kind] for column in self.columns}


def _columns(text: str) -> tuple[Column, ...]:
    """`name kind` pairs; text where no kind is said."""
    columns = []
    for part in text.split(","):
        name, _, kind = part.strip().partition(" ")
        assert not kind or kind in SQL_TYPES, part
        columns.append(Column(name, kind or "text"))
    return tuple(columns)


_NOTED = "event_id, noted_at moment"
"""Which event a merged row is from, and when that was said."""

_RUN_KINDS = {
    "scheduled_at": "moment", "attempts": "count", "queued_at": "moment", "started_at": "moment",
    "finished_at": "moment", "duration_s": "number", "exit_code": "count", "files_total": "count",
    "bytes_total": "count", "files_new": "count", "files_changed": "count", "files_deleted": "count",
    "bytes_added": "count", "bytes_stored": "count", "errors_total": "count",
}  # fmt: skip

EVENTS = Table("events", _columns("event_id, kind, occurred_at moment, job, run_id, host, data json, crc count"))
ERRORS = Table(
    "errors",
    _columns(
        "error_id, occurred_at moment, severity, component, error_type, message, details, job, job_uid, run_id, engine,"
        " host, stack_trace, fingerprint, rules_version, transient truth, remedy, crc count"
    ),
)
RUNS = Table(
    "runs",
    _columns(", ".join(f"{name} {_RUN_KINDS.get(name, 'text')}" for name in RUN_COLUMNS) + f", {_NOTED}, rank count"),
    key="run_id",
)
RESOLUTIONS = Table(
    "resolutions",
    _columns(f"subject, error_id, fingerprint, resolved truth, resolved_by, resolution_note, {_NOTED}, rank count"),
    key="subject",
)
SNAPSHOTS = Table(
    "snapshots",
    _columns(
        "snapshot_id, job, repository, run_id, created_at moment, files count, bytes count, bytes_added count,"
        f" kept_because, pruned_at moment, {_NOTED}"
    ),
    key="snapshot_id",
    merge="patch",
)
DRILLS = Table(
    "drills",
    _columns(
        "drill_id, job, snapshot_id, started_at moment, duration_s number, level, files count, bytes count,"
        f" mismatches count, outcome, {_NOTED}"
    ),
    key="drill_id",
    merge="patch",
)
ANOMALIES = Table(
    "anomalies",
    _columns(
        "anomaly_id, job, run_id, kind, detected_at moment, observed number, expected number, n count, sentence, state,"
        f" {_NOTED}"
    ),
    key="anomaly_id",
    merge="patch",
)
NOTIFICATIONS = Table(
    "notifications",
    _columns(
        "notification_id, at moment, rule, channel, subject, state, attempts count, delivered_at moment, last_error,"
        f" {_NOTED}"
    ),
    key="notification_id",
    merge="patch",
)
REJECTED = Table("rejected", _columns("file, offset count, line, reason"))

TABLES: dict[str, Table] = {
    table.name: table
    for table in (EVENTS, ERRORS, RUNS, RESOLUTIONS, SNAPSHOTS, DRILLS, ANOMALIES, NOTIFICATIONS, REJECTED)
}

VIEWS: dict[str, tuple[str, ...]] = {
    "runs": RUN_COLUMNS,
    "errors": (*ERRORS.names[:-1], "resolved", "resolved_at", "resolved_by", "resolution_note"),
    **{table.name: table.names[:-2] for table in (SNAPSHOTS, DRILLS, ANOMALIES, NOTIFICATIONS)},
    "rejected": REJECTED.names,
    "events": EVENTS.names[:-1],
}
"""What users see, column by column."""


def quoted(name: str) -> str:
    """An identifier as SQL wants it: `at` and `offset` are words of the language."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def listed(names: tuple[str, ...], alias: str = "") -> str:
    return ", ".join(f"{alias}.{quoted(name)}" if alias else quoted(name) for name in names)


def create_tables(place: str) -> str:
    """The DDL of every table in `place` (a database, or database.schema)."""
    return ";\n".join(create_table(place, table) for table in TABLES.values())


def create_table(place: str, table: Table) -> str:
    """A new, empty table, in the place of an old one if there is one."""
    columns = ", ".join(f"{quoted(name)} {sql_type}" for name, sql_type in table.sql_types.items())
    return f"CREATE OR REPLACE TABLE {place}.{table.name} ({columns})"


def create_index(place: str) -> str:
    """The tables, how far each journal is folded in, what is known of each segment, and what wrote it.

    The state of a segment is `held` (its events are in the tables), `damaged` or `missing` (they are not); `seen` says
    which file was damaged.

    `index_id` and `batch` say which index this is, and how many batches were written to it. `meta` keeps its name and
    shape for ever: it is how an older version learns that this file is newer than it.
    """
    return f"""{create_tables(place)};
        CREATE TABLE {place}.offsets (file VARCHAR, read_to BIGINT, mark BIGINT);
        CREATE TABLE {place}.segments (name VARCHAR, state VARCHAR, seen VARCHAR);
        CREATE TABLE {place}.meta (key VARCHAR, value VARCHAR);
        INSERT INTO {place}.meta VALUES
            ('schema_version', '{SCHEMA_VERSION}'), ('index_id', uuid()::VARCHAR), ('batch', '0')"""


def create_views(index: str, tail: str) -> str:
    """The views over the index and the tails of the journals that are not folded in yet.

    A key that is in the tail is whole there: the tail's row already has in it what the index knew.
    """
    statements = [f"CREATE OR REPLACE VIEW errors AS {_errors(index, tail)}"]
    statements += [
        f"CREATE OR REPLACE VIEW {name} AS {_both(TABLES[name], index, tail, VIEWS[name])}"
        for name in VIEWS
        if name != "errors"
    ]
    return ";\n".join(statements)


def _both(table: Table, index: str, tail: str, names: tuple[str, ...]) -> str:
    known = f"SELECT {listed(names, 'i')} FROM {index}.{table.name} i"
    if table.key:
        known += f" ANTI JOIN {tail}.{table.name} t ON i.{table.key} = t.{table.key}"
    return f"{known} UNION ALL SELECT {listed(names)} FROM {tail}.{table.name}"


def _errors(index: str, tail: str) -> str:
    """An error with the newest that was said of its resolution, or of its fingerprint at a time after the error."""
    said = _both(RESOLUTIONS, index, tail, RESOLUTIONS.names)
    names = ("resolved", "noted_at", "resolved_by", "resolution_note")
    newest = ", ".join(
        f"CASE WHEN p.noted_at > coalesce(o.noted_at, '-infinity') THEN p.{n} ELSE o.{n} END" for n in names
    )
    return f"""
        WITH said AS ({said}),
        judged({listed(ERRORS.names[:-1])}, is_resolved, noted_at, said_by, note) AS (
            SELECT {listed(ERRORS.names[:-1], "e")}, {newest}
            FROM ({_both(ERRORS, index, tail, ERRORS.names[:-1])}) e
            LEFT JOIN said o ON o.error_id = e.error_id
            LEFT JOIN said p ON p.error_id IS NULL AND p.fingerprint = e.fingerprint AND p.noted_at >= e.occurred_at
        )
        SELECT {listed(ERRORS.names[:-1])},
            coalesce(is_resolved, false) AS resolved,
            CASE WHEN is_resolved THEN noted_at END AS resolved_at,
            CASE WHEN is_resolved THEN said_by END AS resolved_by,
            CASE WHEN is_resolved THEN note END AS resolution_note
        FROM judged"""
