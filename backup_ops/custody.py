"""Custody of a job's repository: whose it is, what is in it, and the proof that it is sound, told to the history."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from datetime import datetime

from backup_ops import outcome
from backup_ops.address import program_in
from backup_ops.engines import engine_for
from backup_ops.engines.base import Owner
from backup_ops.errors import BackupError, EngineError, UsageError
from backup_ops.event import REPOSITORY_TAKEN_OVER, REPOSITORY_VERIFIED
from backup_ops.failure import failure_of
from backup_ops.job import Job, Repository
from backup_ops.manager import JobManager
from backup_ops.repositories import committed, damaged, is_known, note_damaged
from backup_ops.snapshot import Damage, Verified, VerifyLevel
from backup_ops.snapshots import OnProgress, Snapshots

_DAMAGES_IN_DETAILS = 200


def kept(manager: JobManager, name: str) -> Snapshots:
    """See `Ops.kept`."""
    job, file = manager.job(name), manager.jobfile()
    if job.repository is None:
        raise UsageError(f"job '{name}' has no repository, so there is nothing to look into.")
    repository, path = file.repositories[job.repository], file.settings.engines.get(job.engine)
    # A guest runs a program of his own, never one that another user names.
    if manager.home.is_guest:
        path = None
        _check_no_program(repository)
    return Snapshots(
        engine_for(job.engine, path),
        repository,
        job,
        owner=Owner(home_id=manager.home.identity()),
        is_known=is_known(manager.home, repository.url),
        distrusted=damaged(manager.home, repository.url, job.job_uid),
    )


def _check_no_program(repository: Repository) -> None:
    if repository.password is not None and repository.password.kind == "command":
        named, more = "its password is printed by a program (password: command)", " --password-file FILE"
    elif (option := program_in(repository.url)) is not None:
        named, more = f"its url names one ({option})", ""
    else:
        return
    raise UsageError(
        f"repository '{repository.name}' would have you run a program that the owner of this home chose: {named}."
        " Guests of a home run none.",
        hint=f"Ask the repository itself, by what is yours: --repository URL{more}.",
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
    found, job = kept(manager, name), manager.job(name)
    # Asked first: a run that commits meanwhile is in neither.
    promised, problem = _promised(manager, job, found.repository)
    verified = found.verify(level, on_progress=on_progress, cancel=cancel)
    if promised:
        verified = _with_gone(verified, promised, found)
    if problem is not None:
        note = f"Whether a snapshot is gone was not looked at, for the history could not be asked: {problem}"
        verified = replace(verified, notes=(*verified.notes, note))
    if not manager.home.is_to_look_at:
        stored = [damage.stored for damage in verified.damages if damage.stored is not None]
        is_all = level == "full" and verified.damages_total == len(verified.damages)
        note_damaged(manager.home, found.repository.url, job.job_uid, stored, is_all=is_all)
    _note(manager, job, verified)
    return verified


def _promised(
    manager: JobManager, job: Job, repository: Repository
) -> tuple[dict[str, datetime | None], BackupError | None]:
    """The job's snapshots that have to be in the repository, as its history and the home's notes agree, with their
    times; and what kept the history from telling."""
    here = committed(manager.home, repository.url, job.job_uid)
    if not here:
        return {}, None
    try:
        rows = manager.history.rows("kept_snapshots", job_uid=job.job_uid)
    except BackupError as error:
        return {}, error
    return {row["snapshot_id"]: row["created_at"] for row in rows if row["snapshot_id"] in here}, None


def _with_gone(verified: Verified, promised: dict[str, datetime | None], found: Snapshots) -> Verified:
    """What the repository cannot know of itself: that it held a snapshot more."""
    try:
        there = {snapshot.snapshot_id for snapshot in found.all(on_damage=lambda _: None)}
    except EngineError as error:
        if error.failure.error_type == "repository_corrupt":  # the marker is: nothing was looked at
            return verified
        raise
    for damage in verified.damages:  # a damaged seal is there, and what is told of it need not be told again
        there |= {*damage.snapshots, damage.path.removeprefix("snapshots/").removesuffix(".json")}
    gone = [
        Damage(
            path=f"snapshots/{name}.json",
            what=f"snapshot {name}{f' of {made_at:%Y-%m-%d %H:%M} UTC' if made_at else ''} is gone: its seal is not"
            " there, and the history knows that it was made here and not deleted since",
            snapshots=(name,),
        )
        for name, made_at in promised.items()
        if name not in there
    ]
    return replace(
        verified,
        snapshots=verified.snapshots + len(gone),
        snapshots_damaged=verified.snapshots_damaged + len(gone),
        damages=(*gone, *verified.damages),
        damages_total=verified.damages_total + len(gone),
    )


def _note(manager: JobManager, job: Job, verified: Verified) -> None:
    counts = {name: value for name, value in asdict(verified).items() if name not in ("damages", "notes")}
    fields = counts | {"job": job.name, "repository": job.repository, "by": outcome.who()}
    manager.journal.append(REPOSITORY_VERIFIED, fields, durable=True)
    if not verified.is_sound:
        failure = failure_of("repository_corrupt", str(verified), _remedy(verified))
        fields = asdict(failure) | {"job": job.name, "job_uid": job.job_uid, "engine": job.engine}
        damages = [asdict(damage) for damage in verified.damages[:_DAMAGES_IN_DETAILS]]
        outcome.record_error(manager.journal, fields | {"details": {"damages": damages}})


def _remedy(verified: Verified) -> str:
    """What helps against this damage; the general one, not to write there any more, would keep the next run from it."""
    remedies = []
    lost = any(damage.stored is not None for damage in verified.damages)
    if lost:
        remedies.append("Run the job again: the next run stores anew what its source still holds of the damaged files.")
    remedies.append(
        f"What {'older ' if lost else ''}snapshots have lost comes back only from another copy of the repository, put"
        " there under its name."
    )
    return " ".join(remedies)
