"""`runs`, `errors`, `resolve`, `logs`, `export`, `sql`: what happened, and having it elsewhere."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops import verdict
from backup_ops.cli.cells import aware, counted, printable, sentence, when
from backup_ops.cli.shell import Shell
from backup_ops.errors import BackupError, UnknownJob, UsageError
from backup_ops.event import format_at
from backup_ops.quantity import format_bytes, format_duration

TERMINAL_ROWS = 50
"""The newest rows stand at the top: more than a screen or two of them would scroll out of sight."""

_BEGINNING = re.compile(r"[0-9a-f-]{1,36}")


def runs(shell: Shell, arguments: Namespace) -> int:
    from backup_ops.run import RUN_COLUMNS

    filters = {"since": arguments.since, "job": arguments.job, "outcome": arguments.outcome}
    rows, is_cut = _rows(shell, "runs", filters, arguments.limit)
    if shell.as_json:
        shell.say_rows({name: row[name] for name in RUN_COLUMNS} for row in rows)
        return 0
    from backup_ops.cli.tables import Column, Row, print_table

    if not rows:
        shell.notice("no run matches." if any(filters.values()) else "nothing has run yet.")
        return 0
    now = datetime.now(UTC)
    columns = [
        Column("ENDED"),
        Column("JOB", is_flexible=True),
        Column("OUTCOME"),
        Column("TOOK", align="right"),
        Column("NEW DATA", align="right"),
        Column("RUN"),
        Column("STARTED", is_optional=True),
        Column("SIZE", align="right", is_optional=True),
        Column("TRIGGER", is_optional=True),
    ]
    print_table(
        shell,
        columns,
        [
            Row(
                [
                    verdict.ago(aware(row["finished_at"]), now) if row["finished_at"] else "",
                    row["job"] or "",
                    row["outcome"] or "",
                    format_duration(row["duration_s"]) if row["duration_s"] is not None else "",
                    format_bytes(row["bytes_added"]) if row["bytes_added"] is not None else "",
                    row["run_id"],
                    when(row["started_at"]),
                    format_bytes(row["bytes_total"]) if row["bytes_total"] is not None else "",
                    row["trigger"] or "",
                ],
                sentence(row["reason"] or "") if row["outcome"] != "succeeded" else "",
            )
            for row in rows
        ],
    )
    _say_cut(shell, is_cut)
    return 0


def errors(shell: Shell, arguments: Namespace) -> int:
    filters = {
        "since": arguments.since,
        "severity": arguments.severity,
        "component": arguments.component,
        "job": arguments.job,
        "unresolved": arguments.unresolved or None,
    }
    rows, is_cut = _rows(shell, "errors", filters, arguments.limit)
    if shell.as_json:
        shell.say_rows(rows)
        return 0
    from backup_ops.cli.tables import Column, Row, print_table

    if not rows:
        shell.notice("no error matches." if any(filters.values()) else "no error was ever recorded.")
        return 0
    now = datetime.now(UTC)
    columns = [
        Column("WHEN"),
        Column("SEVERITY"),
        Column("JOB", is_flexible=True),
        Column("TYPE", is_flexible=True),
        Column("ID"),
        Column("COMPONENT", is_optional=True),
        Column("RESOLVED", is_optional=True),
    ]
    print_table(
        shell,
        columns,
        [
            Row(
                [
                    verdict.ago(aware(row["occurred_at"]), now),
                    row["severity"] or "",
                    row["job"] or "",
                    row["error_type"] or "",
                    short_error_id(row["error_id"], rows),
                    row["component"] or "",
                    (row["resolved_by"] or "yes") if row["resolved"] else "",
                ],
                _error_note(row),
            )
            for row in rows
        ],
    )
    _say_cut(shell, is_cut)
    return 0


def _error_note(row: Mapping[str, Any]) -> str:
    note = sentence(" ".join((row["message"] or "").split()))
    if row["resolved"]:
        return f"{note} Resolved: {sentence(row['resolution_note'])}" if row["resolution_note"] else f"{note} Resolved."
    return f"{note} What to do: {sentence(row['remedy'])}" if row["remedy"] else note


def short_error_id(error_id: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """A beginning of the id that no other of the rows has: `resolve` takes it."""
    length = 18
    while sum(row["error_id"].startswith(error_id[:length]) for row in rows) > 1 and length < len(error_id):
        length += 5
    return error_id[:length]


def _rows(
    shell: Shell, question: str, filters: Mapping[str, Any], limit: int | None
) -> tuple[list[dict[str, Any]], bool]:
    """The rows, newest first, and whether a terminal is shown fewer than there are."""
    shell.ops.manager.settle()
    is_short = limit is None and shell.stdout_is_terminal and not shell.as_json
    rows = shell.ops.manager.history.rows(question, **filters, limit=TERMINAL_ROWS + 1 if is_short else limit)
    if not rows and filters.get("job"):
        _check_job(shell, filters["job"])
    is_cut = is_short and len(rows) > TERMINAL_ROWS
    return rows[:TERMINAL_ROWS] if is_cut else rows, is_cut


def _check_job(shell: Shell, name: str) -> None:
    """A name that neither jobs.yaml nor the past knows is a slip; one that only has no such rows is an answer."""
    history = shell.ops.manager.history
    if any(history.rows(question, job=name, limit=1) for question in ("runs", "errors")):
        return
    try:
        known = shell.ops.jobs
    except BackupError:
        return  # jobs.yaml cannot be read: nobody knows
    if name not in known:
        raise UnknownJob(name, known)


def _say_cut(shell: Shell, is_cut: bool) -> None:
    if is_cut:
        shell.notice(f"These are the newest {TERMINAL_ROWS}. More: --limit N, --since 7d, or into a pipe.")


def resolve(shell: Shell, arguments: Namespace) -> int:
    error_ids = [_full_error_id(shell, given) for given in arguments.errors]  # all before the first is resolved
    for error_id in dict.fromkeys(error_ids):
        shell.ops.resolve(error_id, note=arguments.note)
    count = len(set(error_ids))
    if shell.as_json:
        shell.say_rows({"error_id": error_id, "resolved": True} for error_id in dict.fromkeys(error_ids))
    elif not shell.is_quiet:
        shell.say(f"{counted(count, 'error')} resolved.")
    return 0


def _full_error_id(shell: Shell, given: str) -> str:
    history = shell.ops.manager.history
    if history.rows("errors", error_id=given):
        return given
    found: list[str] = []
    if _BEGINNING.fullmatch(given):
        _, rows = history.sql_rows(f"SELECT error_id FROM errors WHERE starts_with(error_id, '{given}')")
        found = [str(row[0]) for row in rows]
    if len(found) == 1:
        return found[0]
    said = f"{len(found)} errors have ids that begin with" if found else "no error has the id"
    raise UsageError(f"{said} '{given}'; nothing was resolved.", hint="`backup-ops errors` lists them.")


def logs(shell: Shell, arguments: Namespace) -> int:
    lines = shell.ops.log(arguments.run)
    if shell.as_json:
        shell.say_rows(_log_row(line) for line in lines)
        return 0
    for line in lines:
        shell.say(printable(line, keep="\t"))
    return 0


def _log_row(line: str) -> dict[str, str]:
    at, _, text = line.partition(" ")
    return {"at": format_at(datetime.fromisoformat(at)), "line": text}


def export(shell: Shell, arguments: Namespace) -> int:
    filters = {name: getattr(arguments, name) for name in _EXPORT_FILTERS[arguments.what]}
    for name in ("job", "since", "outcome", "severity", "component", "unresolved"):
        if getattr(arguments, name) and name not in filters:
            raise UsageError(f"{arguments.what} have no --{name}.", hint=f"They take: {_options(filters)}.")
    if not filters.get("unresolved", True):
        filters["unresolved"] = None
    shell.ops.manager.settle()
    count = shell.ops.manager.history.export(Path(arguments.file), arguments.what, raw=arguments.raw, **filters)
    if shell.as_json:
        shell.say_object({"file": arguments.file, "what": arguments.what, "rows": count})
    elif not shell.is_quiet:
        shell.say(f"wrote {counted(count, arguments.what.removesuffix('s'))} to {printable(arguments.file)}")
    return 0


_EXPORT_FILTERS: dict[str, tuple[str, ...]] = {
    "runs": ("job", "since", "outcome", "limit"),
    "errors": ("job", "since", "severity", "component", "unresolved", "limit"),
    "snapshots": ("job", "since", "limit"),
}


def _options(filters: Iterable[str]) -> str:
    return ", ".join(f"--{name}" for name in filters)


def sql(shell: Shell, arguments: Namespace) -> int:
    shell.ops.manager.settle()
    names, rows = shell.ops.manager.history.sql_rows(arguments.select)
    if shell.as_json:
        keys = _distinct(names)
        shell.say_rows(dict(zip(keys, row, strict=True)) for row in rows)
        return 0
    from backup_ops.cli.tables import Column, Row, print_table

    columns = [
        Column(name, align="right" if _is_numeric(row[index] for row in rows) else "left", is_flexible=True)
        for index, name in enumerate(names)
    ]
    print_table(shell, columns, [Row([_cell(value) for value in row]) for row in rows])
    shell.notice(f"{counted(len(rows), 'row')}.")
    return 0


def _distinct(names: Iterable[str]) -> list[str]:
    """Two columns of one name must not become one key: the second of `n` is `n_2`."""
    keys: list[str] = []
    for name in names:
        key, number = name, 2
        while key in keys:
            key, number = f"{name}_{number}", number + 1
        keys.append(key)
    return keys


def _is_numeric(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)
