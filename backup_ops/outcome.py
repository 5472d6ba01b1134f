"""Ending a run: the one terminal event with the whole row, then nothing of it in queue and run folder."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops.errors import BackupError, EngineError
from backup_ops.event import ERROR_RECORDED, RUN_FINISHED, format_at, in_words
from backup_ops.failure import Failure, failure_of, failure_of_os_error
from backup_ops.home import Home
from backup_ops.journal import Journal
from backup_ops.queue import Queue, Request
from backup_ops.run import Run

TOOL_FILE = "tool.json"
PROGRESS_FILE = "progress.json"


def run_of(request: Request, **columns: Any) -> Run:
    """The row of a run that was submitted with this request."""
    known: dict[str, Any] = {
        "run_id": request.run_id,
        "job": request.job_name,
        "job_uid": request.job_uid,
        "engine": request.engine,
        "repository": request.repository_name,
        "host": socket.gethostname(),
        "trigger": request.trigger,
        "slot_id": request.slot_id,
        "scheduled_at": request.scheduled_at,
        "queued_at": request.queued_at,
        "config_version": request.config_version,
    }
    return Run(**(known | columns))


def as_fields(run: Run) -> dict[str, Any]:
    return {name: format_at(value) if isinstance(value, datetime) else value for name, value in run.as_row().items()}


def record_failure(
    journal: Journal, failure: Failure, *, run: Run | None = None, details: Any = None, stack_trace: str | None = None
) -> str:
    """Writes an error event; returns its error_id. It is durable from HIGH on."""
    fields: dict[str, Any] = asdict(failure) | {"details": details, "stack_trace": stack_trace}
    if run is not None:
        fields |= {"job": run.job, "job_uid": run.job_uid, "run_id": run.run_id, "engine": run.engine}
    return record_error(journal, fields)


def record_error(journal: Journal, fields: Mapping[str, Any]) -> str:
    """Writes an error event with these columns of the table `errors`; details that are no text become JSON."""
    details = fields.get("details")
    if details is not None and not isinstance(details, (str, bytes)):
        try:
            details = json.dumps(details, default=in_words)
        except Exception:  # keys that are no text, a value that contains itself, methods that raise
            details = in_words(details)
    row = {"host": socket.gethostname(), **fields, "details": details}
    return journal.append(ERROR_RECORDED, row, durable=row.get("severity") not in ("LOW", "MEDIUM"))


def failure_behind(error: object) -> tuple[Failure, str | None]:
    """What an exception, or whatever somebody takes for an error, means; and its stack trace."""
    if not isinstance(error, BaseException):
        return failure_of("unknown", in_words(error), ""), None
    trace = None
    with contextlib.suppress(Exception):  # the exception's own methods may raise
        trace = "".join(traceback.format_exception(error)) if error.__traceback__ else None
    message = f"{type(error).__name__}: {in_words(error)}"
    if isinstance(error, EngineError):
        return error.failure, trace
    if isinstance(error, OSError):
        return failure_of_os_error(error, message), trace
    if isinstance(error, BackupError):
        return failure_of("unknown", error.message, error.hint), trace
    return failure_of("unknown", message, ""), trace


def who() -> str:
    """`user@host`, for facts that say who did something."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"uid {os.geteuid()}@{socket.gethostname()}"


def finish(
    home: Home,
    journal: Journal,
    run: Run,
    *,
    samples: Sequence[tuple[float, int]] = (),
    duration_s: float | None = None,
) -> Run:
    """Gives the run its outcome. The event comes first and is durable: a death right after it loses nothing.

    `duration_s` is what a clock that never jumps measured; without it the duration is from the two times.
    """
    finished_at = datetime.now(UTC)
    columns = run.as_row() | {"finished_at": finished_at, "duration_s": duration_s}
    if run.started_at is not None and duration_s is None:
        columns["duration_s"] = max(0.0, (finished_at - run.started_at).total_seconds())
    run = Run(**columns)
    journal.append(RUN_FINISHED, as_fields(run) | {"samples": list(samples)}, durable=True)
    clear(home, run.run_id)
    return run


def clear(home: Home, run_id: str) -> None:
    """Takes a run that has its outcome out of the queue."""
    shutil.rmtree(home.runs / run_id, ignore_errors=True)
    Queue(home).remove(run_id)


def note_tool(folder: Path, pid: int | None) -> None:
    """Remembers which tool process works for the run, so that it can be ended should its runner die."""
    path = folder / TOOL_FILE
    started = None if pid is None else _start_time(pid)
    with contextlib.suppress(OSError):  # a precaution: the tool dies with its runner anyway
        if pid is None or started is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(json.dumps({"pid": pid, "started": started}), encoding="ascii")


def end_tool(folder: Path, *, grace_s: float = 3.0) -> None:
    """Ends the tool of a dead runner, if it is still that process: TERM to its group, then KILL."""
    try:
        noted = json.loads((folder / TOOL_FILE).read_text(encoding="ascii"))
        pid, started = int(noted["pid"]), noted["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if _start_time(pid) != started:
            return
        try:
            os.killpg(pid, kind)
        except (ProcessLookupError, PermissionError):
            return
        end = time.monotonic() + grace_s
        while time.monotonic() < end and _start_time(pid) == started:
            time.sleep(0.05)


def _start_time(pid: int) -> str | None:
    """Boot and start time of a living process: together with the pid they name one process for ever."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{boot} {fields[19]}"
