"""The runner: the process of one run. `python -m backup_ops.runner HOME RUN_ID`; started detached, by a starter.

It locks its journal for life, takes a slot and its repository, drives the engine, writes the one terminal event, lets
go, and starts the next run. Whoever dies around it, it goes on; should it die itself, the free lock without a terminal
event says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops import lock, outcome, progress, sharing, starter
from backup_ops.engines import engine_for
from backup_ops.engines.base import BackupResult, Engine, ItemFailure, Owner, RunContext, Stopped
from backup_ops.errors import BackupError, EngineError, EngineMissing, JournalFull
from backup_ops.event import LEFTOVERS_REMOVED, RUN_FINISHED, RUN_STARTED, SNAPSHOT_CREATED, format_at
from backup_ops.failure import Failure, failure_of, failure_of_os_error
from backup_ops.home import Home
from backup_ops.job import Repository, job_from_data
from backup_ops.journal import Journal, read_events
from backup_ops.outcome import record_failure
from backup_ops.progress import Progress
from backup_ops.quantity import format_count, format_duration
from backup_ops.queue import Queue, Request, slot_locks
from backup_ops.repositories import (
    committed,
    damaged,
    is_known,
    note_begun,
    note_clean,
    remember,
    repository_lock,
    unfinished,
)
from backup_ops.run import Outcome, Run
from backup_ops.runlog import SUFFIX, RunLog

PROGRESS_EVERY_S = 0.5
MAX_SAMPLES = 120
MAX_ITEMS_IN_DETAILS = 200
_CANCEL_LOOK_EVERY_S = 0.1


def main(home_path: str, run_id: str) -> int:
    home = Home(home_path)
    home.open()
    try:
        _run_once(home, run_id)
    finally:
        # After the locks are free: whoever waited for them is started now, or by us a moment later.
        starter.drain(home)
    return 0


def _run_once(home: Home, run_id: str) -> None:
    queue = Queue(home)
    journal = _own_journal(home, run_id)
    if journal is None:
        return
    with contextlib.closing(journal):
        request = queue.read(run_id)
        kinds = {event["kind"] for event in read_events(journal.path)}
        if RUN_FINISHED in kinds:
            outcome.clear(home, run_id)
            return
        if request is None or RUN_STARTED in kinds:
            return  # over, or an earlier runner's: `settle` ends it
        cancel_reason = queue.cancel_of(run_id)
        if cancel_reason is not None:
            outcome.finish(home, journal, _with(outcome.run_of(request), outcome="cancelled", reason=cancel_reason))
            return
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(_slot(home, request))
                if request.repository_key is not None:
                    # Never waits for a repository while it holds a slot: others could use the slot meanwhile.
                    held.enter_context(lock.hold(repository_lock(home, request.repository_key), wait_s=0.3))
            except lock.Held:
                queue.unclaim(run_id)
                return
            Execution(home, journal, request).perform()


def _own_journal(home: Home, run_id: str) -> Journal | None:
    for _ in range(20):  # a starter may be looking at it; another runner keeps it
        with contextlib.suppress(lock.Held):
            return Journal(home.journal, name=f"run-{run_id}")
        time.sleep(0.05)
    return None


@contextlib.contextmanager
def _slot(home: Home, request: Request) -> Iterator[None]:
    for _ in range(5):  # a look at a lock takes it for an instant: one refusal proves nothing
        for path in slot_locks(home, request.max_running):
            try:
                descriptor = lock.take(path)
            except lock.Held:
                continue
            try:
                yield
            finally:
                lock.release(descriptor)
            return
        time.sleep(0.05)
    raise lock.Held("slots")


class Execution:
    """One run, from its first event to its outcome."""

    def __init__(self, home: Home, journal: Journal, request: Request) -> None:
        self._home = home
        self._journal = journal
        self._request = request
        self._folder = home.runs / request.run_id
        sharing.make_folder(self._folder)
        self._cancel = threading.Event()
        self._cancel_reason: str | None = None
        self._signal_name: str | None = None
        self._timeout_s: float | None = None
        self._is_over = threading.Event()
        self._samples: list[tuple[float, int]] = []
        self._sample_every_s = PROGRESS_EVERY_S
        self._progress_written_at = 0.0
        self._errors: list[str] = []

    def perform(self) -> Run:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._run = outcome.run_of(self._request, started_at=datetime.now(UTC), attempts=1, outcome="running")
        self._started_at_s = time.monotonic()
        self._journal.append(RUN_STARTED, outcome.as_fields(self._run) | {"pid": os.getpid()}, durable=True)
        threading.Thread(target=self._watch_cancel, name="cancel", daemon=True).start()
        with RunLog(self._home.logs / f"{self._request.run_id}{SUFFIX}") as self._log:
            self._say(f"run {self._request.run_id} of job {self._request.job_name} started")
            columns = self._outcome_of_engine()
            reason = columns.get("reason")
            self._say(f"run {columns['outcome']}{f': {reason}' if reason else ''}")
        self._is_over.set()
        self._tell_lost_lines()
        error_id = self._errors[0] if self._errors else None
        run = _with(self._run, errors_total=len(self._errors), error_id=error_id, **columns)
        return outcome.finish(
            self._home, self._journal, run, samples=self._samples, duration_s=time.monotonic() - self._started_at_s
        )

    def _say(self, line: str) -> None:
        self._log.write(line.encode("utf-8", "backslashreplace"))

    def _tell_lost_lines(self) -> None:
        lost = self._log.lost_because
        if lost is not None:
            message = (
                f"the log of run {self._request.run_id} is not whole: {self._log.lost_lines:,} lines were lost: {lost}"
            )
            failure = failure_of_os_error(lost, message, "The run itself is not touched by it.")
            record_failure(self._journal, replace(failure, severity="MEDIUM", component="storage"), run=self._run)

    def _outcome_of_engine(self) -> dict[str, Any]:
        """The columns that the engine's work gives the row. Whatever happens in there, the run gets an outcome."""
        try:
            job, repository = job_from_data(self._request.config)
            if repository is None:
                return self._fail(failure_of("config_invalid", f"job '{job.name}' has no repository."))
            engine = engine_for(self._request.engine, self._request.engine_path)
            timeout_s = self._timeout_s = job.limits.timeout_s
            context = RunContext(
                run_id=self._request.run_id,
                cancel=self._cancel,
                deadline_at=None if timeout_s is None else time.monotonic() + timeout_s,
                on_progress=self._on_progress,
                on_log=self._log.write,
                on_tool=lambda pid: outcome.note_tool(self._folder, pid),
                scratch=self._folder,
                limits=job.limits,
                known_before=is_known(self._home, repository.url),
                force=self._request.force,
                owner=Owner(home_id=self._home.identity()),
                distrusted=damaged(self._home, repository.url, job.job_uid),
                promised=frozenset(committed(self._home, repository.url, job.job_uid)),
            )
            key = self._request.repository_key or ""
            self._remove_leftovers(engine, repository, key, context)
            note_begun(self._home, key, self._request.run_id)
            result = engine.backup(job, repository, context)
            note_clean(self._home, key, self._request.run_id)
            remember(self._home, repository.url, self._request.run_id, job.job_uid)
            return self._succeed(result)
        except Stopped as stopped:
            if stopped.reason == "timeout":
                return self._fail(
                    failure_of("timeout", f"stopped after limits.timeout of {format_duration(self._timeout_s)}.")
                )
            if self._signal_name is not None:
                message = (
                    f"its process was told to end by {self._signal_name} (the machine or its service was stopped)."
                )
                return self._fail(failure_of("interrupted", message), outcome="interrupted")
            return {"outcome": "cancelled", "reason": self._cancel_reason or "cancelled"}
        except EngineError as error:
            return self._fail(error.failure)
        except EngineMissing as error:
            return self._fail(failure_of("engine_missing", error.message, error.hint))
        except JournalFull:
            raise  # no outcome can be written down now; a later `settle` finds out what the repository holds
        except BackupError as error:
            return self._fail(failure_of("config_invalid", error.message, error.hint))
        except OSError as error:
            return self._fail(failure_of_os_error(error, str(error)), stack_trace=traceback.format_exc())
        except Exception as error:  # a defect of ours must not leave a run without outcome; the trace tells where
            return self._fail(
                failure_of(
                    "unknown",
                    f"{type(error).__name__}: {error}",
                    "This is a defect of backup-ops; please report the stack trace.",
                ),
                stack_trace=traceback.format_exc(),
            )

    def _remove_leftovers(self, engine: Engine, repository: Repository, key: str, context: RunContext) -> None:
        """Removes what runs of this home that were killed have left in the repository, which is ours alone now."""
        over = [
            run_id
            for run_id in unfinished(self._home, key)
            if not (self._home.queue / f"{run_id}.json").exists()
            and not lock.is_held(starter.journal_path(self._home, run_id))
        ]
        if not over:
            return
        try:
            removed = engine.discard(repository, over, context)
        except BackupError:
            return  # the backup meets the same, and says it
        for run_id in removed:
            self._say(f"removed what run {run_id}, which did not end well, had left in repository {repository.name}")
            self._journal.append(
                LEFTOVERS_REMOVED,
                {
                    "job": self._request.job_name,
                    "run_id": self._request.run_id,
                    "repository": self._request.repository_name,
                    "left_by": run_id,
                },
            )
        for run_id in over:
            note_clean(self._home, key, run_id)

    def _succeed(self, result: BackupResult) -> dict[str, Any]:
        self._journal.append(
            SNAPSHOT_CREATED,
            {
                "snapshot_id": result.snapshot_id,
                "job": self._request.job_name,
                "repository": self._request.repository_name,
                "run_id": self._request.run_id,
                "created_at": format_at(datetime.now(UTC)),
                "files": result.files_total,
                "bytes": result.bytes_total,
                "bytes_added": result.bytes_added,
            },
            durable=True,
        )
        columns: dict[str, Any] = {
            name: getattr(result, name)
            for name in (
                "snapshot_id",
                "files_total",
                "bytes_total",
                "files_new",
                "files_changed",
                "files_deleted",
                "bytes_added",
                "bytes_stored",
                "exit_code",
            )
        }
        reason = self._record_items(result.item_failures, result.files_total)
        for note in result.notes:
            self._say(f"note: {note}")
        if reason is None:
            return columns | {"outcome": "succeeded"}
        return columns | {"outcome": "warning", "reason": reason}

    def _record_items(self, items: Sequence[ItemFailure], files_total: int | None) -> str | None:
        """One error event per kind of failure, however many files it hit; all of them are in the log."""
        for item in items:
            self._log.write(
                f"{item.failure.error_type}: {item.path}: {item.failure.message}".encode("utf-8", "backslashreplace")
            )
        files_total = (files_total or 0) + sum(item.is_left_out for item in items)
        kinds = Counter(item.failure.error_type for item in items)
        reasons = []
        for error_type, count in kinds.most_common():
            of_kind = [item for item in items if item.failure.error_type == error_type]
            sentence = _items_sentence(error_type, of_kind, files_total)
            first = of_kind[0].failure
            message = f"{sentence}: {of_kind[0].path}" + (f" and {count - 1:,} more" if count > 1 else "")
            failure = failure_of(
                error_type,
                message,
                first.remedy,
                severity=min(first.severity, "MEDIUM", key=("LOW", "MEDIUM", "HIGH", "CRITICAL").index)
                if error_type != "io_error"
                else first.severity,
            )
            details = {
                "files": [
                    {"path": item.path, "message": item.failure.message} for item in of_kind[:MAX_ITEMS_IN_DETAILS]
                ],
                "not_listed": max(0, count - MAX_ITEMS_IN_DETAILS),
            }
            self._errors.append(record_failure(self._journal, failure, run=self._run, details=details))
            reasons.append(sentence)
        return "; ".join(reasons) or None

    def _fail(self, failure: Failure, stack_trace: str | None = None, outcome: Outcome = "failed") -> dict[str, Any]:
        self._say(f"{failure.error_type}: {failure.message}")
        self._errors.append(record_failure(self._journal, failure, run=self._run, stack_trace=stack_trace))
        return {"outcome": outcome, "reason": failure.message}

    def _on_signal(self, number: int, _: object) -> None:
        if not self._cancel.is_set():
            self._signal_name = signal.Signals(number).name
            self._cancel.set()

    def _watch_cancel(self) -> None:
        queue = Queue(self._home)
        while not self._is_over.wait(_CANCEL_LOOK_EVERY_S):
            reason = queue.cancel_of(self._request.run_id)
            if reason is not None:
                self._cancel_reason = self._cancel_reason or reason
                self._cancel.set()
                return

    def _on_progress(self, now: Progress) -> None:
        moment = time.monotonic()
        if moment - self._progress_written_at < PROGRESS_EVERY_S:
            return
        self._progress_written_at = moment
        progress.write(self._folder / outcome.PROGRESS_FILE, now)
        elapsed_s = moment - self._started_at_s
        if now.bytes_done is not None and (
            not self._samples or elapsed_s - self._samples[-1][0] >= self._sample_every_s
        ):
            self._samples.append((round(elapsed_s, 1), now.bytes_done))
            if len(self._samples) >= MAX_SAMPLES:
                self._samples = self._samples[::2]
                self._sample_every_s *= 2


def _items_sentence(error_type: str, of_kind: Sequence[ItemFailure], files_total: int) -> str:
    count, left_out = len(of_kind), sum(item.is_left_out for item in of_kind)
    if error_type == "repository_corrupt":
        return f"{count:,} snapshot{'s' if count > 1 else ''} made before cannot be read any more"
    why = {
        "permission_denied": "could not be read (permission denied)",
        "source_changed": "changed while they were copied",
        "source_missing": "vanished before they were copied",
        "name_invalid": "have names that the repository cannot hold",
        "io_error": "could not be read (input/output error)",
        "disk_full": "did not fit into the repository",
    }.get(error_type, f"could not be saved ({error_type})")
    if left_out == count:
        what = f"and {'are' if count > 1 else 'is'} left out"
    elif not left_out:
        what = f"and {'stay' if count > 1 else 'stays'} as the snapshot before has {'them' if count > 1 else 'it'}"
    else:
        what = f"and stay as the snapshot before has them, or ({left_out:,}) are left out"
    return f"{count:,} of {format_count(files_total)} files {why} {what}"


def _with(run: Run, **columns: Any) -> Run:
    return Run(**(run.as_row() | columns))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]).name))
