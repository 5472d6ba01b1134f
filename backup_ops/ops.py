"""Ops: the whole product in one object, for notebooks and scripts. `ops = backup_ops.open()`."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from backup_ops import custody, log_keeping, outcome, runlog
from backup_ops.engines.base import Owner
from backup_ops.errors import BackupError, UnknownRun, UsageError
from backup_ops.event import ERROR_RESOLVED, in_words
from backup_ops.handle import RunHandle, read_run
from backup_ops.home import Home
from backup_ops.job import Job
from backup_ops.manager import JobManager
from backup_ops.run import Run
from backup_ops.snapshot import Entry, Restored, Snapshot, Verified, VerifyLevel
from backup_ops.snapshots import OnProgress, Snapshots

if TYPE_CHECKING:
    import duckdb
    import pandas

    from backup_ops.engines.base import Preview
    from backup_ops.finding import Finding

_LOGGER = logging.getLogger("backup_ops")


def open(path: str | os.PathLike[str] | None = None) -> Ops:
    """The operations of one home: `path`, else $BACKUP_OPS_HOME, else the platform's user data folder.

    Makes the home when there is none. Works while a dashboard, cron and other notebooks use the same home. Raises
    HomeError when the home belongs to somebody else or cannot be written.
    """
    home = Home.locate(path)
    for notice in home.make():
        _LOGGER.warning(notice)
    return Ops(home)


class Ops:
    """Jobs, runs, history and snapshots of one home. Usable from any thread; holds no database open between calls."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.manager = JobManager(home)
        if "ipykernel" in sys.modules:  # in a notebook `manager.param.revision` is reactive without further ado
            self.manager.watch()

    def __repr__(self) -> str:
        return f"<Ops of {self.home.path}>"

    def __enter__(self) -> Ops:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of this process's journal and history. Runs go on."""
        self.manager.close()

    # --- jobs and runs

    @property
    def jobs(self) -> Mapping[str, Job]:
        """The jobs of jobs.yaml as it is now, by name, in the file's order."""
        return MappingProxyType(self.manager.jobfile().jobs)

    def submit(self, job: str, *, force: bool = False, wait: bool = True) -> RunHandle:
        """Queues a run of the job and returns at once. See `JobManager.submit`."""
        return RunHandle(self.manager, self.manager.submit(job, force=force, wait=wait))

    def run(self, job: str, *, force: bool = False) -> Run:
        """Runs the job and returns the run when it is over, whatever its outcome. An interrupt cancels it cleanly.

        A progress bar is shown when stderr is a terminal.
        """
        handle: RunHandle | None = None
        try:
            handle = self.submit(job, force=force)
            if sys.stderr.isatty() and handle.state != "skipped":
                from backup_ops.bar import watch_with_bar

                return watch_with_bar(handle)
            return handle.wait()
        except KeyboardInterrupt:
            if handle is None:
                raise
            handle.cancel()
            return handle.wait()

    def preview(self, job: str) -> Preview:
        """What a run would do now; nothing is written. Raises what the run would fail with."""
        kept = self.kept(job)
        with kept.context("preview") as context:
            return kept.engine.preview(self.manager.job(job), kept.repository, context)

    def cancel(self, job_or_run: str) -> list[str]:
        """Asks the run, or the job's runs, to stop. Returns their ids."""
        return self.manager.cancel(job_or_run)

    def get_run(self, run_id: str) -> Run:
        """The run with its errors. A unique beginning of the id will do. Raises UnknownRun."""
        _check_run_id(run_id)
        self._settle()
        found = read_run(self.manager, run_id)
        if found is not None:
            return found
        rows = self.manager.history.rows("runs", run_id_prefix=run_id)
        if len(rows) != 1:
            some = f"{len(rows)} runs begin with '{run_id}'." if rows else f"no run is named '{run_id}'."
            raise UnknownRun(some, hint="`backup-ops runs` lists them.")
        return read_run(self.manager, rows[0]["run_id"]) or Run(**rows[0])

    def log(self, run_id: str) -> Iterator[str]:
        """The full log of the run, line by line, also while it runs. Raises UnknownRun."""
        _check_run_id(run_id)
        path = log_keeping.log_path(self.home, run_id)
        if not path.exists():
            run = self.get_run(run_id)
            path = log_keeping.log_path(self.home, run.run_id)
            if not path.exists():
                rows = self.manager.history.rows("logs", run_id=[run.run_id])
                raise log_keeping.absence(run, rows[0]["deleted_because"] if rows else None)
        return (line.decode("utf-8", "backslashreplace") for line in runlog.read_lines(path))

    # --- questions

    def runs(
        self, *, days: float | None = None, job: str | None = None, outcome: str | None = None, limit: int | None = None
    ) -> pandas.DataFrame:
        """Runs, newest first; columns as in docs/tables.md, times UTC. No row limit unless given."""
        self._settle()
        return self.manager.history.frame("runs", since=_since(days), job=job, outcome=outcome, limit=limit)

    def errors(
        self,
        *,
        days: float | None = None,
        severity: str | None = None,
        component: str | None = None,
        job: str | None = None,
        unresolved: bool = False,
        limit: int | None = None,
    ) -> pandas.DataFrame:
        """Errors, newest first; columns as in docs/tables.md, times UTC. No row limit unless given."""
        self._settle()
        return self.manager.history.frame(
            "errors",
            since=_since(days),
            severity=severity,
            component=component,
            job=job,
            unresolved=unresolved or None,
            limit=limit,
        )

    def severity_breakdown(self, *, days: float | None = None) -> pandas.DataFrame:
        """Errors by severity, worst first."""
        return self.manager.history.frame("severity_breakdown", since=_since(days))

    def error_statistics(self) -> pandas.DataFrame:
        """Totals, unresolved, by severity and component, last 24 h."""
        return self.manager.history.frame("error_statistics")

    def sql(self, select: str) -> pandas.DataFrame:
        """One SELECT over the tables of docs/tables.md. It can neither write nor reach files or network.

        Raises QueryRefused for anything else, and with DuckDB's own words for what it cannot run.
        """
        self._settle()
        return self.manager.history.sql(select)

    def reading(self) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A DuckDB connection with the tables, for the length of a `with` block; read what you need inside it."""
        return self.manager.history.reading()

    def export(
        self,
        path: str | os.PathLike[str],
        what: str = "errors",
        *,
        days: float | None = None,
        raw: bool = False,
        **filters: Any,
    ) -> int:
        """Writes a table to a .csv, .json or .parquet file; returns the number of rows. Replaces the file in one step.

        Filters are those of `runs` and `errors`. Text cells of a CSV that a spreadsheet would run as a formula get a
        leading ' unless `raw`.
        """
        self._settle()
        return self.manager.history.export(Path(path), what, raw=raw, since=_since(days), **filters)

    def doctor(self) -> list[Finding]:
        """Everything the home stands on, looked at: what is well, what may go wrong, what does not work; no repairs."""
        from backup_ops.doctor import examine  # a look that few ask for need not cost everybody its 40 ms

        return list(examine(self.home))

    # --- errors of your own

    def record_error(
        self,
        error: BaseException | str | bytes | object,
        severity: str = "HIGH",
        component: str = "other",
        job: str | None = None,
        details: object = None,
    ) -> str | None:
        """Puts an error into the history; returns its error_id. Never raises.

        When it cannot be written down (disk full) it goes to the logger `backup_ops` and None is returned.
        """
        try:
            failure, trace = outcome.failure_behind(error)
            fields: dict[str, Any] = asdict(failure) | {
                "severity": severity if isinstance(severity, str) else in_words(severity),
                "component": component if isinstance(component, str) else in_words(component),
                "details": details,
                "stack_trace": trace,
                "job": job if job is None or isinstance(job, str) else in_words(job),
                "job_uid": self._uid_of(job),
            }
            if isinstance(error, (bytes, bytearray)):
                fields["message"] = bytes(error)  # the journal keeps what is no text exactly
            return outcome.record_error(self.manager.journal, fields)
        except Exception as problem:  # a caller is in its own error handling: ours must not replace it
            try:  # noqa: SIM105 - at the end of the stack there is no room for the call that `suppress` is
                _LOGGER.critical("an error could not be recorded (%s): %s", in_words(problem), in_words(error))
            except Exception:
                pass
        return None

    def _settle(self) -> None:
        """Questions are answered whether or not dead runs could be given their outcome just now."""
        try:
            self.manager.settle()
        except (BackupError, OSError) as error:
            _LOGGER.warning("runs could not be settled: %s", error)

    def resolve(self, error_id: str, *, note: str = "", by: str | None = None) -> None:
        """Marks the error as resolved. Raises UsageError when there is none of that id."""
        self.home.check_writable()
        if not self.manager.history.rows("errors", error_id=error_id):
            raise UsageError(f"no error has the id '{error_id}'.", hint="`backup-ops errors` lists them.")
        self.manager.journal.append(
            ERROR_RESOLVED,
            {"error_id": error_id, "resolved": True, "resolved_by": by or outcome.who(), "resolution_note": note},
            durable=True,
        )

    # --- snapshots

    def snapshots(self, job: str) -> list[Snapshot]:
        """What can be restored, newest first, asked of the repository itself; empty before the first run made it."""
        return self.kept(job).all()

    def ls(self, job: str, snapshot: str = "latest", path: str = "") -> Iterator[Entry]:
        """What is in a snapshot: everything below `path`, in the order of the paths."""
        return self.kept(job).ls(snapshot, path)

    def diff(self, job: str, before: str, after: str = "latest") -> pandas.DataFrame:
        """What changed from one snapshot to another, in the order of the paths.

        Columns: change (`new`, `deleted`, `changed`, `moved`, `metadata`), path, kind, path_before (of what moved),
        bytes_before and bytes_after Int64, mtime_before and mtime_after datetime64[ns, UTC].
        """
        from backup_ops.history import difference

        return difference.frame_of(self.kept(job).diff(before, after))

    def restore(
        self,
        job: str,
        *,
        target: str | os.PathLike[str],
        snapshot: str = "latest",
        paths: Sequence[str] = (),
        overwrite: bool = False,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Restored:
        """Restores a snapshot, or `paths` of it, directly under `target`; every file is checked against its sha256.

        `snapshot` is an id (a unique beginning will do), `latest`, or a time: the newest snapshot not younger than it.
        Raises UnknownSnapshot, RestoreRefused (a non-empty target needs `overwrite`), EngineError.
        """
        return self.kept(job).restore(
            Path(target), snapshot, paths, overwrite=overwrite, dry_run=dry_run, on_progress=on_progress
        )

    def verify(
        self,
        job: str,
        *,
        level: VerifyLevel = "list",
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Verified:
        """Whether the job's snapshots are as they were stored; what is damaged is in the result, and raises nothing.

        `list` proves marker, seals and manifests, and that each stored file is there with its size; `sample` reads 50
        files too, chosen by chance; `full` reads all content once. The history gets an event `repository_verified`, and
        an error when something is damaged. Raises EngineError when the repository cannot be asked, Stopped.
        """
        return custody.verify(self.manager, job, level=level, on_progress=on_progress, cancel=cancel)

    def find_snapshot(self, job: str, wanted: str = "latest") -> Snapshot:
        """The snapshot meant by an id, a unique beginning of one, `latest`, or a time. Raises UnknownSnapshot."""
        return self.kept(job).find(wanted)

    def kept(self, job: str) -> Snapshots:
        """The snapshots of the job in its repository. Raises UnknownJob, UsageError, EngineMissing."""
        return custody.kept(self.manager, job)

    def take_over(self, job: str) -> Owner | None:
        """Makes this home on this host the one that may write to the job's repository; an event says whose it was.

        Returns that, or None when it is this home's already. The other's next run is refused. Raises EngineError.
        """
        return custody.take_over(self.manager, job)

    def _uid_of(self, job: object) -> str | None:
        if not isinstance(job, str):
            return None
        try:
            return self.manager.job(job).job_uid
        except (BackupError, OSError):
            return job


def _check_run_id(run_id: str) -> None:
    if not re.fullmatch(r"[\w-]{1,64}", run_id):
        raise UnknownRun(f"{run_id!r} is not the id of a run.", hint="`backup-ops runs` lists them.")


def _since(days: float | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) - timedelta(days=days)
