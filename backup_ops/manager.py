"""The JobManager: submits runs, cancels them, and mirrors what goes on in a home, whoever started it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import param

from backup_ops import jobfile, lock, log_keeping, outcome, progress, starter
from backup_ops.card import JobCard
from backup_ops.engines import engine_for
from backup_ops.errors import (
    BackupError,
    ConfigInvalid,
    HomeBusy,
    JournalFull,
    Problem,
    UnknownJob,
    UnknownRun,
    UsageError,
)
from backup_ops.event import CANCEL_REQUESTED, RUN_QUEUED
from backup_ops.home import Home
from backup_ops.job import Repository, config_version, job_as_data
from backup_ops.journal import Journal
from backup_ops.mirror import Mirror, stamp_of
from backup_ops.mishaps import Mishaps
from backup_ops.monitor import Monitor
from backup_ops.queue import Queue, Request, new_run_id
from backup_ops.recovery import committed
from backup_ops.repositories import repository_key
from backup_ops.run import Run
from backup_ops.secret import missing_variables
from backup_ops.upkeep import Upkeep

if TYPE_CHECKING:
    from backup_ops.history import History
    from backup_ops.job import Job
    from backup_ops.jobfile import JobFile

_LOGGER = logging.getLogger("backup_ops")
_SUBMIT_WAIT_S = 10.0


@dataclass(frozen=True)
class Submitted:
    """What became of a submit: `state` is `queued`, or `skipped` with the reason."""

    run_id: str
    job: str
    state: str
    reason: str | None = None


class JobManager(param.Parameterized):
    """One per process and home; usable from any thread. It owns nothing: runs go on without it.

    `revision` grows when anything that a card shows has changed. It is set by the background monitor (see `watch`), or
    by `cards` while nobody watches: bind to it (`pn.bind(f, manager.param.revision)`) or subscribe, and touch no Bokeh
    document from there.
    """

    home = param.ClassSelector(default=Home("/"), class_=Home, constant=True, doc="The home whose jobs it manages.")
    revision = param.Integer(default=0, bounds=(0, None), constant=True, doc="Grows with every visible change.")

    def __init__(self, home: Home) -> None:
        super().__init__(home=home)  # type: ignore[no-untyped-call]
        self._history: History | None = None
        self._queue = Queue(home)
        self._journal: Journal | None = None
        # Never held together, and no foreign code under the first: the history calls back into `journal`.
        self._making = threading.Lock()
        self._reading_file = threading.Lock()
        self._refreshing = threading.Lock()
        self._publishing = threading.RLock()
        self._jobfile: JobFile | ConfigInvalid | None = None
        self._jobfile_stamp: tuple[int, ...] | None = None
        self._mirror = Mirror(home, past=lambda: self.history.rows("job_cards"))
        self._untold: frozenset[str] = frozenset()
        self._seen: object = None
        self._mishaps = Mishaps(home, lambda: self.journal)
        self._upkeep = Upkeep(
            home,
            {"putting ended journals into segments": self._compact, "deleting old logs": self._sweep_logs},
            lambda said: self._mishaps.record("storage", said),
        )
        self._monitor = Monitor(self._look, self.settle, self.upkeep, self._mishaps.record)

    # --- what is configured

    @property
    def journal(self) -> Journal:
        """This process's journal; made with the first event."""
        with self._making:
            if self._journal is None:
                self._journal = Journal(self.home.journal)
            return self._journal

    @property
    def history(self) -> History:
        with self._making:
            if self._history is None:
                from backup_ops.history import History  # DuckDB: 0.2 s that a plain submit need not pay

                self._history = History(
                    self.home,
                    on_rejected=self._mishaps.rejected,
                    on_rebuilt=self._mishaps.rebuilt,
                    on_lost=self._mishaps.lost,
                )
            return self._history

    def jobfile(self) -> JobFile:
        """jobs.yaml as it is now; read again when its size, time or inode changed. Raises ConfigInvalid."""
        with self._reading_file:
            stamp = stamp_of(self.home.jobs_yaml)
            if self._jobfile is None or stamp != self._jobfile_stamp:
                self._jobfile_stamp = stamp
                try:
                    self._jobfile = jobfile.load(self.home.jobs_yaml)
                except ConfigInvalid as error:
                    self._jobfile = error
            if isinstance(self._jobfile, ConfigInvalid):
                raise self._jobfile.with_traceback(None)
            return self._jobfile

    def config_problems(self) -> tuple[Problem, ...]:
        """What keeps jobs.yaml from being used; empty when nothing does."""
        try:
            self.jobfile()
        except ConfigInvalid as error:
            return error.problems
        return ()

    def job(self, name: str) -> Job:
        jobs = self.jobfile().jobs
        if name not in jobs:
            raise UnknownJob(name, jobs)
        return jobs[name]

    # --- commands

    def check(self, name: str) -> Job:
        """The job, if it can be submitted; else raises what `submit` would raise. Queues nothing."""
        return self._checked(name)[0]

    def _checked(self, name: str) -> tuple[Job, JobFile]:
        file = self.jobfile()
        if name not in file.jobs:
            raise UnknownJob(name, file.jobs)
        job = file.jobs[name]
        engine_for(job.engine, file.settings.engines.get(job.engine)).probe()
        if job.repository:
            _check_variables(file.repositories[job.repository])
        return job, file

    def submit(
        self, name: str, *, trigger: str = "manual", by: str | None = None, force: bool = False, wait: bool = True
    ) -> Submitted:
        """Queues a run and starts it if it can start; it is safe in the queue when this returns.

        The same job queued or running: skipped, and the skip is a run of its own in the history. With `wait=False` it
        is also skipped when it would have to wait for a slot or its repository. Raises UnknownJob, ConfigInvalid,
        EngineMissing.
        """
        for notice in self.home.open():  # a folder of it that somebody removed is there again
            _LOGGER.warning(notice)
        self.home.check_writable()
        job, file = self._checked(name)
        repository = file.repositories[job.repository] if job.repository else None
        engine_path = file.settings.engines.get(job.engine)
        now = datetime.now(UTC)
        request = Request(
            run_id=new_run_id(now),
            job_name=job.name,
            job_uid=job.job_uid,
            engine=job.engine,
            repository_name=job.repository,
            repository_url=repository.url if repository else None,
            priority=job.limits.priority,
            trigger=trigger,
            by=by or outcome.who(),
            queued_at=now,
            config_version=config_version(job, repository),
            max_running=file.settings.max_running,
            engine_path=engine_path,
            force=force,
            config=job_as_data(job, repository),
            repository_key=repository_key(repository.url) if repository else None,
        )
        self.settle()
        try:
            with lock.hold(self.home.locks / "submit.lock", wait_s=_SUBMIT_WAIT_S):
                reason = self._reason_to_skip(request, wait=wait)
                if reason is None:
                    self._queue.submit(request)
        except lock.Held:
            raise HomeBusy(
                f"another process has been submitting a run for {_SUBMIT_WAIT_S:.0f} s and does not end.",
                hint="Is one stopped (Ctrl-Z)? Let it go on or end it, then try again.",
            ) from None
        if reason is not None:
            run = Run(**(outcome.run_of(request).as_row() | {"outcome": "skipped", "reason": reason}))
            outcome.finish(self.home, self.journal, run)
            return Submitted(request.run_id, job.name, "skipped", reason)
        self._note(RUN_QUEUED, outcome.as_fields(outcome.run_of(request)) | {"by": request.by})
        starter.drain(self.home)
        return Submitted(request.run_id, job.name, "queued")

    def cancel(self, job_or_run: str, *, by: str | None = None) -> list[str]:
        """Asks the run, or the runs of the job, to stop; returns their ids. Each ends as `cancelled` by itself.

        Raises UnknownRun when it is neither a run nor a job that is queued or running.
        """
        self.home.check_writable()
        by = by or outcome.who()
        requests = self._queue.requests()
        try:
            job_uid = self.job(job_or_run).job_uid  # it may have had another name when it was submitted
        except BackupError:
            job_uid = None
        found = [
            request
            for request in requests
            if job_or_run in (request.run_id, request.job_name) or request.job_uid == job_uid
        ]
        if not found:
            raise UnknownRun(
                f"'{job_or_run}' is neither a job nor a run that is queued or running.",
                hint="`backup-ops status` shows what is.",
            )
        asked = []
        for request in found:
            if self._queue.request_cancel(request.run_id, by=by, reason=f"cancelled by {by}"):
                self._note(CANCEL_REQUESTED, {"run_id": request.run_id, "job": request.job_name, "by": by})
                asked.append(request.run_id)
        starter.drain(self.home)  # ends the queued ones
        return asked

    def _note(self, kind: str, fields: dict[str, Any]) -> None:
        """An event about something that has happened already: that it cannot be written down must not undo it."""
        try:
            self.journal.append(kind, fields, durable=True)
        except JournalFull as error:
            _LOGGER.warning("%s", error)

    def settle(self) -> list[Run]:
        """Gives runs of dead runners their outcome, and starts what waits. Every command calls it.

        Nothing where one may only look: the owner's next command does it.
        """
        if self.home.is_to_look_at:
            return []
        try:
            return starter.settle(self.home, committed, self._remembered)
        finally:
            starter.drain(self.home)

    def waits_for(self, run_id: str) -> str | None:
        """Why a queued run is not running yet, or None."""
        request = self._queue.read(run_id)
        if request is None or starter.is_running(self.home, run_id):
            return None
        return starter.waits_for(self.home, request)

    def progress_of(self, run_id: str) -> progress.Progress | None:
        return progress.read(self.home.runs / run_id / outcome.PROGRESS_FILE)

    def is_over(self, run_id: str) -> bool:
        """Whether the run has its outcome (or never was)."""
        return not (self.home.queue / f"{run_id}.json").exists()

    # --- upkeep

    @property
    def has_read_history(self) -> bool:
        """Whether anybody has asked this manager for the history."""
        return self._history is not None

    def upkeep(self, max_s: float | None = None) -> None:
        """Puts ended journals into segments and deletes old logs, at most every ten minutes over all processes.

        Never raises for what goes wrong with it: that is recorded. Takes about `max_s` at most.
        """
        if not self.home.is_to_look_at:
            self._upkeep.perform(max_s)

    def _compact(self, max_s: float | None) -> None:
        self.history.compact(max_s=max_s)

    def _sweep_logs(self, _: float | None) -> None:
        try:
            settings = self.jobfile().settings
        except ConfigInvalid:
            return  # nobody knows how many are to be kept
        log_keeping.sweep(
            self.home,
            keep=settings.logs_keep,
            cap_bytes=settings.logs_cap_bytes,
            ask=lambda run_ids: self.history.rows("logs", run_id=run_ids),
            tell=lambda kind, fields: self.journal.append(kind, fields, durable=True),
        )

    # --- the mirror

    def cards(self) -> list[JobCard]:
        """One card for each job of jobs.yaml, in its order; brought up to date by this call.

        While jobs.yaml is broken the cards are those of before (see `config_problems`).
        """
        self.refresh()
        if not self._monitor.is_watching:
            self._publish()
        return self._mirror.cards()

    def refresh(self) -> frozenset[str]:
        """Looks at queue, progress and history; returns the names of the jobs whose cards changed."""
        try:
            file = self.jobfile()
        except BackupError:
            file = None
        with self._refreshing:
            changed = self._mirror.refresh(None if file is None else file.jobs)
            self._untold |= changed
        return changed

    @property
    def history_problem(self) -> str | None:
        """Why the cards show an older past than there is: the history could not be asked. None when all is well."""
        return self._mirror.problem

    def subscribe(self, callback: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Calls back, on the thread of `watch`, with the names of jobs whose cards changed. Returns how to stop it."""
        return self._monitor.subscribe(callback)

    def watch(self) -> None:
        """Starts the background monitor: cards are kept up to date, dead runs settled, waiting ones started, and the
        home is looked after."""
        self.history.load()
        self._monitor.start()

    def close(self) -> None:
        """Ends the background monitor and lets go of journal and history. Runs go on."""
        self._monitor.stop()
        with self._making:
            if self._journal is not None:
                self._journal.close()
            if self._history is not None:
                self._history.close()

    def _look(self) -> frozenset[str]:
        """What the monitor tells its listeners: all that changed since it last asked, whoever noticed."""
        stamp = self._mirror.stamp()
        if stamp != self._seen:
            self.refresh()
            if self._mirror.problem is None:  # else the past is asked for again at the next look
                self._seen = stamp
        with self._refreshing:
            untold, self._untold = self._untold, frozenset()
        self._publish()
        return untold

    def _publish(self) -> None:
        with self._publishing:
            if self._mirror.revision > self.revision:
                with param.edit_constant(self):
                    self.revision = self._mirror.revision

    def _remembered(self, run_id: str) -> dict[str, Any]:
        return next(iter(self.history.rows("runs", run_id=run_id)), {})

    def _reason_to_skip(self, request: Request, *, wait: bool) -> str | None:
        for other in self._queue.requests():
            if other.job_uid == request.job_uid:
                state = "running" if starter.is_running(self.home, other.run_id) else "queued"
                return f"already {state} as {other.run_id}"
        return None if wait else starter.waits_for(self.home, request)


def _check_variables(repository: Repository) -> None:
    """A run gets its secrets from the environment of whoever starts it, and the first to try is who submits it.

    Raises UsageError.
    """
    missing = missing_variables(repository)
    if missing:
        raise UsageError(
            f"repository '{repository.name}' needs {' and '.join(missing)} in the environment, and"
            f" {'it is' if len(missing) == 1 else 'they are'} not set here.",
            hint=f"Set {'it' if len(missing) == 1 else 'them'}, and try again. Docs: jobs-yaml.md, Remotes.",
        )
