"""The starter: starts runners for queued runs and gives an outcome to runs whose runner died.

It belongs to nobody: every command, `serve`, and every runner that ends call it, so a queued run depends on no
submitter. A run may be started once too often (two starters, one killed in between), never twice at once: the
runner's lock on its journal decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any

from backup_ops import lock, outcome
from backup_ops.errors import BackupError, UsageError
from backup_ops.event import ERROR_RECORDED, RUN_FINISHED, RUN_QUEUED, RUN_STARTED, parse_at
from backup_ops.failure import Failure, failure_of
from backup_ops.home import Home
from backup_ops.job import job_from_data
from backup_ops.journal import Journal, read_events
from backup_ops.queue import CLAIM_EXPIRES_AFTER_S, MAX_STARTS, Queue, Request, slot_locks
from backup_ops.repositories import repository_lock
from backup_ops.run import Run
from backup_ops.secret import missing_variables

_LOGGER = logging.getLogger("backup_ops")
_BUSY_STARTER_WAIT_S = 5.0

IsCommitted = Callable[[Request], "dict[str, Any] | None"]
"""Asks the repository whether the run of a dead runner committed its snapshot: its facts as columns of Run, or None.
Raises TimeoutError when it does not answer: the run is left for a later look."""

Remembered = Callable[[str], "dict[str, Any]"]
"""What the history knows of the run with this id, as columns of Run; empty for one it does not know."""


def journal_path(home: Home, run_id: str) -> Path:
    return home.journal / f"run-{run_id}.jsonl"


def is_running(home: Home, run_id: str) -> bool:
    """Whether a runner lives for it and has begun; one that still looks for a slot has not."""
    return lock.is_held(journal_path(home, run_id)) and _has_begun(home, run_id)


def begun_at(home: Home, run_id: str) -> datetime | None:
    """When its runner began, or None."""
    for event in read_events(journal_path(home, run_id)):
        if event["kind"] == RUN_STARTED:
            return parse_at(event["at"])
    return None


@dataclass
class _Survey:
    """What the runners that were started but have not begun will take, and which requests still wait."""

    starting: int = 0
    busy: set[Path] = field(default_factory=set)
    waiting: list[Request] = field(default_factory=list)

    def add(self, home: Home, request: Request) -> None:
        self.starting += 1
        if request.repository_key:
            self.busy.add(repository_lock(home, request.repository_key))

    def reason_to_wait(self, home: Home, request: Request) -> str | None:
        missing = _missing_variables(request)
        if missing:
            # Secrets are never queued: whoever starts the run gives them to it.
            return f"waits to be started by a process that has {' and '.join(missing)} in its environment"
        slots = slot_locks(home, request.max_running)
        if sum(lock.is_held(path) for path in slots) + self.starting >= len(slots):
            return f"waits for one of {len(slots)} slots" if len(slots) > 1 else "waits for the only slot"
        if request.repository_key is not None:
            path = repository_lock(home, request.repository_key)
            if path in self.busy or lock.is_held(path):
                return f"waits for repository {request.repository_name}, which another run is using"
        return None


def _survey(home: Home, queue: Queue) -> _Survey:
    survey = _Survey()
    for request in queue.requests():
        if _has_begun(home, request.run_id):
            continue  # holds its slot, or is dead and `settle` ends it
        claim = queue.claim_of(request.run_id)
        is_starting = claim is not None and claim.age_s < CLAIM_EXPIRES_AFTER_S
        if is_starting or lock.is_held(journal_path(home, request.run_id)):
            survey.add(home, request)
        else:
            survey.waiting.append(request)
    return survey


def _missing_variables(request: Request) -> list[str]:
    with contextlib.suppress(UsageError):  # its runner says what is wrong with it
        repository = job_from_data(request.config)[1]
        return [] if repository is None else missing_variables(repository)
    return []


def drain(home: Home) -> list[str]:
    """Starts what can start now; returns the ids. Runs that have to wait stay files."""
    queue = Queue(home)
    if next(queue.run_ids(), None) is None:
        return []
    started: list[str] = []
    try:
        # Waits for another starter instead of leaving it the work: it may have read the queue before our run was in it.
        with lock.hold(home.locks / "drain.lock", wait_s=_BUSY_STARTER_WAIT_S):
            survey = _survey(home, queue)
            for request in survey.waiting:
                cancel_reason = queue.cancel_of(request.run_id)
                claim = queue.claim_of(request.run_id)
                if cancel_reason is not None:
                    _end_unstarted(home, request, outcome="cancelled", reason=cancel_reason)
                elif claim is not None and claim.starts >= MAX_STARTS:
                    _give_up(home, request, claim.starts)
                elif survey.reason_to_wait(home, request) is None and _start_runner(home, queue, request.run_id):
                    survey.add(home, request)
                    started.append(request.run_id)
    except lock.Held:
        _LOGGER.warning("another process has been starting runs for %.0f s; ours start later", _BUSY_STARTER_WAIT_S)
    return started


def waits_for(home: Home, request: Request) -> str | None:
    """What a run that is not running waits for, in words, or None when nothing is in its way.

    For a request that is not in the queue yet, runs that wait for the same repository are in its way too.
    """
    queue = Queue(home)
    survey = _survey(home, queue)
    ids = {waiting.run_id for waiting in survey.waiting}
    if request.run_id not in ids and queue.claim_of(request.run_id) is not None:
        return None  # it is being started
    reason = survey.reason_to_wait(home, request)
    if reason is None and request.run_id not in ids:
        ahead = [other for other in survey.waiting if other.repository_key == request.repository_key is not None]
        if ahead:
            reason = f"waits for repository {request.repository_name}, for which {ahead[0].job_name} waits already"
    return reason


def settle(home: Home, is_committed: IsCommitted, remembered: Remembered) -> list[Run]:
    """Gives an outcome to each run whose runner is gone without one: `interrupted`, or what the repository proves.

    Cheap when nothing is queued (one look at the folder). Returns the runs that were ended. What goes wrong with one
    run is logged and keeps nobody from settling the others.
    """
    queue = Queue(home)
    ended = []
    for run_id in queue.damaged():
        with _one_by_one(run_id):
            ended += _end_damaged(home, queue, run_id, remembered)
    for request in queue.requests():
        with _one_by_one(request.run_id):
            if _has_begun(home, request.run_id) and not lock.is_held(journal_path(home, request.run_id)):
                ended += _end_dead(home, queue, request, is_committed)
    queue.clear_leftovers()
    return ended


@contextlib.contextmanager
def _one_by_one(run_id: str) -> Iterator[None]:
    try:
        yield
    except (lock.Held, TimeoutError):
        return  # somebody else is at it, or the repository does not answer: the next look will do
    except (BackupError, OSError) as error:
        _LOGGER.warning("run %s could not be given an outcome yet: %s", run_id, error)


def _end_dead(home: Home, queue: Queue, request: Request, is_committed: IsCommitted) -> list[Run]:
    facts = is_committed(request)  # may take long: not while we hold the run's lock
    with contextlib.closing(Journal(home.journal, name=f"run-{request.run_id}")) as journal:
        events = list(read_events(journal.path))
        if any(event["kind"] == RUN_FINISHED for event in events):
            outcome.clear(home, request.run_id)
            return []
        begun = next((event for event in events if event["kind"] == RUN_STARTED), None)
        if begun is None or queue.read(request.run_id) is None:
            return []
        outcome.end_tool(home.runs / request.run_id)
        run = outcome.run_of(request, started_at=parse_at(begun.get("started_at") or begun["at"]), attempts=1)
        if facts is not None:
            ending: dict[str, Any] = {"outcome": "succeeded", "reason": "recovered"} | facts
        else:
            told = [event["id"] for event in events if event["kind"] == ERROR_RECORDED]
            error_id = told[-1] if told else outcome.record_failure(journal, _interruption(request), run=run)
            ending = {
                "outcome": "interrupted",
                "reason": "its process ended without a word",
                "error_id": error_id,
                "errors_total": max(1, len(told)),
            }
        return [outcome.finish(home, journal, Run(**(run.as_row() | ending)))]


def _interruption(request: Request) -> Failure:
    return failure_of(
        "interrupted",
        f"run {request.run_id} of job '{request.job_name}' was interrupted: its process ended without a word "
        "(killed, out of memory, or the machine stopped).",
        f"Run it again: backup-ops run {quote(request.job_name)}. Nothing half-written is used.",
    )


def _end_damaged(home: Home, queue: Queue, run_id: str, remembered: Remembered) -> list[Run]:
    """A request that nobody can read any more: its run ends as failed, whatever of it is still known."""
    if lock.is_held(journal_path(home, run_id)) or not re.fullmatch(r"[\w.-]{1,80}", run_id):
        return []
    with contextlib.closing(Journal(home.journal, name=f"run-{run_id}")) as journal:
        if any(event["kind"] == RUN_FINISHED for event in read_events(journal.path)):
            outcome.clear(home, run_id)
            return []
        aside = queue.put_aside(run_id)
        known: dict[str, Any] = {}
        with contextlib.suppress(BackupError):  # who it was for is worth knowing, and no reason to leave it stuck
            known = _as_queued(home, run_id) or remembered(run_id)
        run = Run(run_id=run_id, job=known.get("job") or "?", job_uid=known.get("job_uid") or "?")
        message = f"the queue file {run_id}.json is damaged and was put aside as {aside.name}."
        failure = failure_of("config_invalid", message, "Submit the run again; check the disk of the home.")
        error_id = outcome.record_failure(journal, failure, run=run)
        columns = {"outcome": "failed", "reason": message, "error_id": error_id, "errors_total": 1}
        return [outcome.finish(home, journal, Run(**(run.as_row() | columns)))]


def _as_queued(home: Home, run_id: str) -> dict[str, Any] | None:
    """What the submitter said of it, unless that is in a segment already. Looks through all journals."""
    for path in home.journal.glob("*.jsonl"):
        for event in read_events(path):
            if event["kind"] == RUN_QUEUED and event.get("run_id") == run_id:
                return event
    return None


def _has_begun(home: Home, run_id: str) -> bool:
    path = journal_path(home, run_id)
    try:
        if path.stat().st_size == 0:
            return False
    except OSError:
        return False
    return any(event["kind"] in (RUN_STARTED, RUN_FINISHED) for event in read_events(path))


def _end_unstarted(
    home: Home, request: Request, failure: Failure | None = None, details: str = "", **columns: Any
) -> None:
    """Ends a run that no runner has begun, unless one begins just now."""
    with (
        contextlib.suppress(lock.Held),
        contextlib.closing(Journal(home.journal, name=f"run-{request.run_id}")) as journal,
    ):
        # A run that ended since we read the queue is out of it, and its journal may be in a segment already.
        if _has_begun(home, request.run_id) or Queue(home).read(request.run_id) is None:
            return
        run = outcome.run_of(request)
        if failure is not None:
            error_id = outcome.record_failure(journal, failure, run=run, details=details or None)
            columns |= {"reason": failure.message, "error_id": error_id, "errors_total": 1}
        outcome.finish(home, journal, Run(**(run.as_row() | columns)))


def _give_up(home: Home, request: Request, starts: int) -> None:
    said = ""
    with contextlib.suppress(OSError):
        said = runner_output(home, request.run_id).read_text(errors="replace")[-2000:].strip()
    failure = failure_of(
        "unknown",
        f"the runner of job '{request.job_name}' was started {starts} times and never began.",
        "The details hold what it said; is Python still where it was, and the installation whole?",
        severity="HIGH",
        component="job_manager",
    )
    _end_unstarted(home, request, failure, said, outcome="failed")


def runner_output(home: Home, run_id: str) -> Path:
    """What the runner process itself says: empty unless something is wrong with it."""
    return home.runs / run_id / "runner.err"


def _start_runner(home: Home, queue: Queue, run_id: str) -> bool:
    """Starts a process of its own session, without a terminal. False when it could not be: it is tried again later."""
    try:
        queue.claim(run_id)
        (home.runs / run_id).mkdir(mode=0o700, exist_ok=True)
        with runner_output(home, run_id).open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "backup_ops.runner", os.fspath(home), run_id],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
    except OSError as error:
        with contextlib.suppress(OSError):
            runner_output(home, run_id).write_text(f"{sys.executable} could not be started: {error}\n")
        _LOGGER.warning("the runner of run %s could not be started: %s", run_id, error)
        return False
    # Reaps it should it end before us; a daemon thread, because nobody waits for a runner.
    threading.Thread(target=process.wait, name=f"reap-{run_id}", daemon=True).start()
    return True


def _environment() -> dict[str, str]:
    """The runner imports the same backup_ops as we did. An installed one is found anyway; to put site-packages before
    the standard library would let an old backport there break every run."""
    here = str(Path(__file__).resolve().parent.parent)
    if here in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    given = os.environ.get("PYTHONPATH", "")
    return dict(os.environ, PYTHONPATH=f"{here}{os.pathsep}{given}" if given else here)
