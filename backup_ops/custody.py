"""Custody of a job's repository: whose it is, what is in it, and the proof that it is sound, told to the history."""

from __future__ import annotations

import threading
from dataclasses import asdict

from backup_ops import outcome
from backup_ops.engines import engine_for
from backup_ops.engines.base import Owner
from backup_ops.errors import UsageError
from backup_ops.event import REPOSITORY_TAKEN_OVER, REPOSITORY_VERIFIED
from backup_ops.failure import failure_of
from backup_ops.job import Job
from backup_ops.manager import JobManager
from backup_ops.repositories import is_known
from backup_ops.snapshot import Verified, VerifyLevel
from backup_ops.snapshots import OnProgress, Snapshots

_DAMAGES_IN_DETAILS = 200


def kept(manager: JobManager, name: str) -> Snapshots:
    """See `Ops.kept`."""
    job, file = manager.job(name), manager.jobfile()
    if job.repository is None:
        raise UsageError(f"job '{name}' has no repository, so there is nothing to look into.")
    # A guest runs a program of his own, never one that another user names.
    path = None if manager.home.is_guest else file.settings.engines.get(job.engine)
    repository = file.repositories[job.repository]
    return Snapshots(
        engine_for(job.engine, path),
        repository,
        job,
        owner=Owner(home_id=manager.home.identity()),
        is_known=is_known(manager.home, repository.url),
    )


def take_over(manager: JobManager, name: str) -> Owner | None:
    """See `Ops.take_over`."""
    found = kept(manager, name)
    with found.context("take-over") as context:
        before = found.engine.take_over(found.repository, context)
    if before is not None:
        manager.journal.append(
            REPOSITORY_TAKEN_OVER,
            {
                "job": name,
                "repository": found.repository.name,
                "from_host": before.host,
                "from_home_id": before.home_id,
                "by": outcome.who(),
            },
            durable=True,
        )
    return before


def verify(
    manager: JobManager,
    name: str,
    *,
    level: VerifyLevel,
    on_progress: OnProgress | None,
    cancel: threading.Event | None,
) -> Verified:
    """See `Ops.verify`."""
    verified = kept(manager, name).verify(level, on_progress=on_progress, cancel=cancel)
    _note(manager, manager.job(name), verified)
    return verified


def _note(manager: JobManager, job: Job, verified: Verified) -> None:
    counts = {name: value for name, value in asdict(verified).items() if name not in ("damages", "notes")}
    fields = counts | {"job": job.name, "repository": job.repository, "by": outcome.who()}
    manager.journal.append(REPOSITORY_VERIFIED, fields, durable=True)
    if not verified.is_sound:
        failure = failure_of("repository_corrupt", str(verified))
        fields = asdict(failure) | {"job": job.name, "job_uid": job.job_uid, "engine": job.engine}
        damages = [asdict(damage) for damage in verified.damages[:_DAMAGES_IN_DETAILS]]
        outcome.record_error(manager.journal, fields | {"details": {"damages": damages}})
