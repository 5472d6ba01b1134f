"""The examination: everything that is looked at, in the order in which people look for a fault."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from backup_ops import jobfile
from backup_ops.doctor.activity import holders_of, queue_of
from backup_ops.doctor.clock import clock
from backup_ops.doctor.disk import answer, disks, silent
from backup_ops.doctor.place import entries
from backup_ops.doctor.rights import home_itself, rights, sharing_of
from backup_ops.doctor.tool import engines
from backup_ops.errors import BackupError, ConfigInvalid
from backup_ops.finding import Finding
from backup_ops.home import Home
from backup_ops.jobfile import JobFile
from backup_ops.quantity import format_bytes

LEFT_OVER_AFTER_S = 3600.0


def examine(home: Home) -> Iterator[Finding]:
    """Findings one by one as they are made, a few seconds in all. Raises nothing that a home or a disk can hold."""
    try:
        file = answer(lambda: _read_jobs(home))
        is_own = answer(lambda: _is_own(home))
    except TimeoutError:
        yield from _guarded("engine", lambda: engines(None, is_own=False))
        yield silent("home", home.path, "home")
        return
    yield from _guarded("engine", lambda: engines(file, is_own=is_own))
    yield from _guarded("home", lambda: home_itself(home))
    if not os.path.isdir(home.path) or (os.access(home.path, os.R_OK | os.X_OK) and home.is_something_else):
        return
    yield from _guarded("rights", lambda: rights(home))
    if not os.access(home.path, os.R_OK | os.X_OK):  # else all that is empty to this user would be called well
        return
    for subject, look in (
        ("sharing", lambda: sharing_of(home)),
        ("jobs.yaml", lambda: _jobs(home)),
        ("disk", lambda: disks(home, file)),
        ("clock", lambda: clock(home)),
        ("queue", lambda: queue_of(home)),
        ("locks", lambda: holders_of(home)),
        ("store", lambda: _store(home)),
        ("leftovers", lambda: _leftovers(home)),
    ):
        yield from _guarded(subject, look)


def _guarded(subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What cannot be looked at is a finding too, and keeps nobody from looking at the rest."""
    try:
        yield from look()
    except BackupError as error:
        yield Finding(subject, "problem", error.message, error.hint)
    except OSError as error:
        thing = f"{error.filename}: " if error.filename else ""
        yield Finding(subject, "problem", f"it could not be looked at: {thing}{error.strerror or error}.")
    except Exception as error:  # DuckDB's, for one: what is damaged may fail in any way
        said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        yield Finding(subject, "problem", f"it could not be looked at: {said}.")


def _read_jobs(home: Home) -> JobFile | None:
    try:
        return jobfile.load(home.jobs_yaml)
    except Exception:  # what is wrong with it is told in its turn
        return None


def _is_own(home: Home) -> bool:
    """Whether both the home and its jobs.yaml are this user's: else the file is another's word."""
    try:
        return {home.path.stat().st_uid, home.jobs_yaml.stat().st_uid} == {os.geteuid()}
    except OSError:
        return False


def _jobs(home: Home) -> Iterator[Finding]:
    try:
        file = jobfile.load(home.jobs_yaml)
    except ConfigInvalid as error:
        for problem in error.problems:
            where = f"line {problem.line}: " if problem.line else ""
            yield Finding("jobs.yaml", "problem", f"{where}{problem.message}", problem.hint)
        return
    yield Finding("jobs.yaml", "ok", f"jobs: {len(file.jobs)}, repositories: {len(file.repositories)}; no problems.")
    if file.notices:
        yield Finding(
            "jobs.yaml",
            "warning",
            f"settings that this version does not act on: {len(file.notices)}.",
            "`backup-ops validate` names them.",
        )


def _store(home: Home) -> Iterator[Finding]:
    from backup_ops.history import History  # DuckDB: slow to load, and it may be what is broken

    history = History(home)
    try:
        yield from history.inspect()
    finally:
        history.close()


def _leftovers(home: Home) -> Iterator[Finding]:
    broken = [entry for entry in entries(home.path) if entry.name.startswith("history.broken-")]
    unfinished = [
        entry
        for entry in entries(home.path)
        if entry.name.startswith("history.new-") and time.time() - entry.stat().st_mtime > LEFT_OVER_AFTER_S
    ]
    for left, said, hint in (
        (broken, "indexes that were damaged and kept aside", "Once you need no look at them, remove them."),
        (unfinished, "unfinished rebuilds of killed processes", "The next rebuild removes them; or remove them."),
    ):
        if left:
            size = sum(entry.stat().st_size for entry in left)
            names = ", ".join(sorted(entry.name for entry in left)[:5])
            yield Finding("leftovers", "warning", f"{said}: {len(left)}, {format_bytes(size)} ({names}).", hint)
    if not broken and not unfinished:
        yield Finding("leftovers", "ok", "nothing was left lying.")
