"""Keeping the logs of runs: which stay, and the sweep that deletes the others and says so."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backup_ops import lock
from backup_ops.errors import UnknownRun
from backup_ops.home import Home
from backup_ops.quantity import format_bytes, format_count
from backup_ops.queue import Queue
from backup_ops.run import Run
from backup_ops.runlog import SUFFIX

LOGS_DELETED = "logs_deleted"
"""An event: `count` logs, `bytes`, the `reason`, up to 100 `run_ids`, and how many are not named (`and_more`)."""

_NAMED_AT_MOST = 100
_DELETED_AT_ONCE = 1000
"""What is left over waits for the next upkeep: nobody is to wait for this one."""
_GOES_WITH_AGE = ("succeeded", "cancelled")
"""Outcomes whose logs nobody needs for long; those of every other outcome say what went wrong."""


@dataclass(frozen=True)
class Log:
    """The log of a run; `job_uid` and `outcome` are None when nobody knows the run."""

    run_id: str
    size_bytes: int
    job_uid: str | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class Sentence:
    """Logs that have to go, and why."""

    reason: str
    logs: tuple[Log, ...]


def judge(logs: Iterable[Log], *, under_way: Collection[str], keep: int, cap_bytes: int) -> list[Sentence]:
    """Which logs have to go, oldest first. `under_way` are runs without an outcome: their logs take space and stay.

    Ids of runs sort by time. The newest ended log of each job stays whatever it takes.
    """
    newest_first = sorted(logs, key=lambda log: log.run_id, reverse=True)
    total_bytes = sum(log.size_bytes for log in newest_first)
    seen: defaultdict[str, int] = defaultdict(int)
    too_many: list[Log] = []
    spare: list[Log] = []
    for log in newest_first:
        if log.run_id in under_way:
            continue
        if log.job_uid is not None:
            seen[log.job_uid] += 1
            if seen[log.job_uid] == 1:
                continue
            if seen[log.job_uid] > keep and log.outcome in _GOES_WITH_AGE:
                too_many.append(log)
                continue
        spare.append(log)
    left_bytes = total_bytes - sum(log.size_bytes for log in too_many)
    full_bytes = left_bytes
    too_large: list[Log] = []
    for log in sorted(spare, key=lambda log: (log.outcome not in _GOES_WITH_AGE, log.run_id)):
        if left_bytes <= cap_bytes:
            break
        left_bytes -= log.size_bytes
        too_large.append(log)
    kept = f"the last {format_count(keep)} logs of each job and those of runs that went wrong"
    took = f"all logs together took {format_bytes(full_bytes)}, more than {format_bytes(cap_bytes)}"
    found = [
        Sentence(f"only {kept} are kept (settings.logs.keep)", tuple(reversed(too_many))),
        Sentence(f"{took} (settings.logs.cap), and the oldest go first", tuple(too_large)),
    ]
    return [sentence for sentence in found if sentence.logs]


Ask = Callable[[list[str]], Iterable[Mapping[str, Any]]]
"""Rows with `run_id`, `job_uid` and `outcome` of those of these runs that are known."""

Tell = Callable[[str, Mapping[str, Any]], object]
"""Records an event for good, or raises."""


def sweep(home: Home, *, keep: int, cap_bytes: int, ask: Ask, tell: Tell) -> int:
    """Deletes the logs that have to go; returns how many went. Nothing goes before it is recorded that it goes.

    Not for two processes at once. A log that cannot be deleted raises OSError, after all others went.
    """
    sizes = _sizes(home)
    if len(sizes) <= keep and sum(sizes.values()) <= cap_bytes:
        return 0
    # In this order: a run that ends meanwhile is in the queue, or its outcome is known.
    under_way = set(Queue(home).run_ids())
    known = {row["run_id"]: row for row in ask(list(sizes))}
    logs = []
    for run_id, size_bytes in sizes.items():
        row = known.get(run_id, {})
        logs.append(Log(run_id, size_bytes, row.get("job_uid"), row.get("outcome")))
    if not os.access(home.logs, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(home.logs))
    gone = 0
    stuck: list[Path] = []
    for sentence in judge(logs, under_way=under_way, keep=keep, cap_bytes=cap_bytes):
        doomed = []
        for log in sentence.logs:
            path = log_path(home, log.run_id)
            if not _can_go(path):
                stuck.append(path)
            elif not _has_writer(home, log.run_id):
                doomed.append(log)
        doomed = doomed[:_DELETED_AT_ONCE]
        if doomed:
            tell(LOGS_DELETED, _fields(sentence.reason, doomed))
            gone += _delete([log_path(home, log.run_id) for log in doomed])
    if stuck:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(min(stuck)))
    return gone


def log_path(home: Home, run_id: str) -> Path:
    return home.logs / f"{run_id}{SUFFIX}"


def absence(run: Run, deleted_because: str | None) -> UnknownRun:
    """Why there is no log of this run; `deleted_because` is the reason of the event that names it."""
    if run.started_at is None:
        return UnknownRun(f"run {run.run_id} has no log: it never started.", hint="`backup-ops runs` says why.")
    why = (
        f"was deleted: {deleted_because}."
        if deleted_because
        else "is gone. Kept are the last logs of each job and those of runs that went wrong, as settings.logs says."
    )
    return UnknownRun(
        f"the log of run {run.run_id} {why}", hint=f"It ended as {run.outcome}; `backup-ops runs` has the rest."
    )


def _sizes(home: Home) -> dict[str, int]:
    found = {}
    with os.scandir(home.logs) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name.removesuffix(SUFFIX)] = entry.stat(follow_symlinks=False).st_size
    return found


def _has_writer(home: Home, run_id: str) -> bool:
    """A runner whose request somebody took out of the queue still writes."""
    return lock.is_held(home.journal / f"run-{run_id}.jsonl")


def _can_go(path: Path) -> bool:
    """Nothing is told to go that stays: not what is immutable (`chattr +i`), where no mode is in the writer's way."""
    try:
        return os.access(path, os.W_OK) or not path.stat().st_mode & 0o200
    except OSError:
        return True


def _fields(reason: str, doomed: list[Log]) -> dict[str, Any]:
    return {
        "count": len(doomed),
        "bytes": sum(log.size_bytes for log in doomed),
        "reason": reason,
        "run_ids": [log.run_id for log in doomed[:_NAMED_AT_MOST]],
        "and_more": max(0, len(doomed) - _NAMED_AT_MOST),
    }


def _delete(paths: Iterable[Path]) -> int:
    gone = 0
    problem: OSError | None = None
    for path in paths:
        try:
            path.unlink()
            gone += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = error
    if problem is not None:
        raise problem
    return gone
