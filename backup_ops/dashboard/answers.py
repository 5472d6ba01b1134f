"""Answers to what a page asks: details of a job, errors, runs, one run. Facts for JSON, and the sentences over them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from backup_ops import verdict
from backup_ops.errors import BackupError
from backup_ops.event import format_at
from backup_ops.failure import SEVERITIES
from backup_ops.ops import Ops
from backup_ops.quantity import format_bytes, format_count, format_duration

LAST_RUNS = 30
LAST_LINES = 8
LAST_SNAPSHOTS = 5
LAST_ERRORS = 5
LINES_OF_A_RUN = 2000
ROWS = 200
"""A page shows the newest rows; the shell and exports give all."""


def details(ops: Ops, job: str) -> dict[str, Any]:
    """What an opened card shows. Never raises: a part that cannot be read says why in its place."""
    try:
        runs = _rows(ops, "runs", job=job, limit=LAST_RUNS)
        errors = _rows(ops, "errors", job=job, limit=LAST_ERRORS)
    except BackupError as error:
        return {"type": "details", "job": job, "error": str(error)}
    begun = [run["run_id"] for run in runs if run["started_at"]]
    run_id = begun[0] if begun else None
    return {
        "type": "details",
        "job": job,
        "runs": list(reversed(runs)),
        "errors": errors,
        "run_id": run_id,
        "log": _log(ops, run_id, LAST_LINES),
        "snapshots": _snapshots(ops, job),
        "repository_url": _url(ops, job),
    }


def errors(ops: Ops, severity: str | None, job: str | None) -> dict[str, Any]:
    """Errors, newest first, with the numbers of every severity for the filter."""
    counts = {row["severity"]: row["errors"] for row in _rows(ops, "severity_breakdown", job=job)}
    rows = _rows(ops, "errors", severity=severity, job=job, limit=ROWS)
    total = counts.get(severity, 0) if severity else sum(counts.values())
    unresolved = {row["severity"]: row["unresolved"] for row in _rows(ops, "severity_breakdown")}
    newest = _rows(ops, "errors", unresolved=True, limit=1)
    return {
        "type": "errors",
        "severity": severity,
        "job": job,
        "rows": [{name: row[name] for name in _ERROR_COLUMNS} for row in rows],
        "total": total,
        "counts": {level: counts.get(level, 0) for level in SEVERITIES},
        **_error_words(unresolved, newest[0]["message"] if newest else ""),
    }


def runs(ops: Ops, job: str | None) -> dict[str, Any]:
    """The newest runs."""
    rows = _rows(ops, "runs", job=job, limit=ROWS)
    outcomes = Counter(row["outcome"] for row in rows)
    under_way = outcomes["running"] + outcomes["queued"]
    whose = f" of {job}" if job else ""
    if not rows:
        headline = f"No run{whose} yet."
    elif under_way:
        headline = f"{_many(under_way, 'run is', 'runs are')} under way."
    else:
        headline = f"The last run{whose} {_ended(rows[0]['outcome'])}."
    said = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    detail = f"The newest {len(rows)}: {said}." if len(rows) > 1 else ""
    return {"type": "runs", "job": job, "rows": rows, "headline": headline, "detail": detail}


def run_details(ops: Ops, run_id: str) -> dict[str, Any]:
    """One run with the end of its log. A unique beginning of the id will do."""
    answer: dict[str, Any] = {"type": "run", "run_id": run_id}
    found = _rows(ops, "runs", run_id=run_id)
    if not found:
        return answer | {"error": f"no run is named '{run_id}'."}
    row = found[0]
    words = _run_words(row, _rows(ops, "errors", run_id=run_id))
    return answer | {
        "row": row,
        "log": _log(ops, run_id, LINES_OF_A_RUN),
        "headline": words.what,
        "detail": words.remedy,
    }


_ERROR_COLUMNS = (
    "error_id", "occurred_at", "severity", "component", "error_type", "message", "job", "run_id", "remedy", "resolved",
)  # fmt: skip


def _rows(ops: Ops, question: str, **asked: Any) -> list[dict[str, Any]]:
    """Rows of a question, times as text."""
    return [{name: _plain(value) for name, value in row.items()} for row in ops.manager.history.rows(question, **asked)]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_at(value if value.tzinfo else value.replace(tzinfo=UTC))
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _log(ops: Ops, run_id: str | None, keep: int) -> dict[str, Any]:
    if run_id is None:
        return {"lines": [], "total": 0, "note": ""}
    try:
        lines, total = _tail(ops.log(run_id), keep)
    except (BackupError, OSError) as error:
        return {"lines": [], "total": 0, "note": str(error)}
    return {"lines": lines, "total": total, "note": f"run {run_id}"}


def _tail(lines: Iterable[str], keep: int) -> tuple[list[str], int]:
    last: deque[str] = deque(maxlen=keep)
    total = 0
    for line in lines:
        total += 1
        last.append(line[:2000])
    return list(last), total


def _snapshots(ops: Ops, job: str) -> dict[str, Any]:
    try:
        found = ops.snapshots(job)
    except (BackupError, OSError) as error:
        return {"rows": [], "total": 0, "error": str(error)}
    rows = [
        {
            "snapshot_id": snapshot.snapshot_id,
            "created_at": format_at(snapshot.created_at),
            "files": snapshot.files,
            "bytes": snapshot.bytes,
            "bytes_added": snapshot.bytes_added,
        }
        for snapshot in found[:LAST_SNAPSHOTS]
    ]
    return {"rows": rows, "total": len(found)}


def _url(ops: Ops, job: str) -> str | None:
    try:
        file = ops.manager.jobfile()
        name = file.jobs[job].repository
        return str(file.repositories[name].url) if name else None
    except (BackupError, KeyError):
        return None


def _error_words(unresolved: Mapping[str, int], newest: str) -> dict[str, str]:
    total = sum(unresolved.values())
    empty = "No errors. What goes wrong will be listed here with what to do about it."
    if not total:
        return {"headline": "No error is unresolved.", "detail": "", "empty": empty}
    said = ", ".join(
        f"{format_count(unresolved[level])} {level.lower()}" for level in reversed(SEVERITIES) if unresolved.get(level)
    )
    return {
        "headline": f"{_many(total, 'error is', 'errors are')} unresolved.",
        "detail": f"{said}. The newest: {newest}",
        "empty": empty,
    }


def _run_words(row: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> verdict.Sentence:
    job, outcome = row["job"], row["outcome"]
    took = f" in {format_duration(row['duration_s'])}" if row["duration_s"] is not None else ""
    first = failures[0] if failures else None
    if outcome in ("succeeded", "warning") and row["files_total"] is not None:
        saved = format_bytes(row["bytes_added"] or 0)
        what = f"{job} saved {saved} new of {format_count(row['files_total'])} files{took}."
    else:
        what = f"{job} {_ended(outcome)}{took}."
    why = [text for text in (row["reason"], first and first["message"], first and first["remedy"]) if text]
    return verdict.Sentence(what, " ".join(text if text.endswith(".") else f"{text}." for text in dict.fromkeys(why)))


def _ended(outcome: str) -> str:
    return {
        "succeeded": "succeeded", "warning": "ended with warnings", "failed": "failed", "cancelled": "was cancelled",
        "interrupted": "was interrupted", "skipped": "was skipped", "missed": "was missed", "lost": "was lost",
        "running": "is running", "queued": "is queued",
    }.get(outcome, outcome)  # fmt: skip


def _many(number: int, one: str, more: str) -> str:
    return f"{format_count(number)} {one if number == 1 else more}"
