"""What goes on in the home now: runs that wait, and processes that hold its locks or its index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from backup_ops import holder, starter
from backup_ops.doctor.place import entries
from backup_ops.finding import Finding
from backup_ops.holder import Holder
from backup_ops.home import Home, user_name
from backup_ops.lock import READERS_SHARE
from backup_ops.quantity import format_duration
from backup_ops.queue import Queue

HELD_FOR_S = 1.0
WAITING_FOR_S = 86400.0


def queue_of(home: Home) -> Iterator[Finding]:
    queue = Queue(home)
    requests = queue.requests()
    running = {request.run_id for request in requests if starter.is_running(home, request.run_id)}
    yield Finding("queue", "ok", f"running: {len(running)}, queued: {len(requests) - len(running)}.")
    now = datetime.now(UTC)
    for request in requests:
        waiting_s = (now - request.queued_at).total_seconds()
        if request.run_id in running or waiting_s < WAITING_FOR_S:
            continue
        why = starter.waits_for(home, request) or "nothing is in its way: the next command starts it"
        yield Finding(
            "queue",
            "warning",
            f"run {request.run_id} of job '{request.job_name}' waits since {format_duration(waiting_s)}: {why}.",
            f"Take it out: backup-ops cancel {request.run_id}",
        )
    damaged = [f"{run_id}.json" for run_id in queue.damaged()]
    damaged += [entry.name for entry in entries(home.queue) if entry.name.endswith(".damaged")]
    for name in damaged:
        said = f"{home.queue / name} is damaged; its run was not done."
        yield Finding("queue", "warning", said, "Submit it again, and check the disk: `dmesg`, `smartctl -a`.")


def holders_of(home: Home) -> Iterator[Finding]:
    """Everything of ours lets go within moments: who is there at two looks is worth a word."""
    owner = home.path.stat().st_uid
    first = _look(home, owner)
    if first:
        time.sleep(HELD_FOR_S)
    second = _look(home, owner) if first else {}
    stuck = {what: [one for one in holders if one in second.get(what, [])] for what, holders in first.items()}
    found = False
    for (path, is_locked), holders in stuck.items():
        for one in holders:
            found = True
            yield _held(path, one, owner, is_locked=is_locked)
    if not found:
        yield Finding("locks", "ok", "nobody holds the store for long.")


def _look(home: Home, owner: int) -> dict[tuple[Path, bool], list[Holder]]:
    """Runs hold the locks of slots and repositories and their journals for hours: those only when another user does."""
    names = ("db.lock", "gate.lock", "ingest.lock", "submit.lock", "drain.lock")
    paths = [Path(entry.path) for entry in entries(home.locks) + entries(home.journal)]
    found = {}
    readers: set[int] = set()
    for path, holders in holder.holders_among(paths).items():
        is_of_store = path.parent == home.locks and path.name in names
        found[path, True] = [one for one in holders if is_of_store or one.uid not in (owner, None)]
        if path == home.locks / "db.lock":
            readers = {one.pid for one in holders}
    found[home.history, False] = [one for one in holder.openers(home.history) if one.pid not in readers]
    return {what: holders for what, holders in found.items() if holders}


def _held(path: Path, one: Holder, owner: int, *, is_locked: bool) -> Finding:
    if one.is_stopped:
        return Finding(
            "locks",
            "problem",
            f"{one} is stopped and holds {path}; others wait for it in vain.",
            f"Let it go on (kill -CONT {one.pid}) or end it (kill {one.pid}).",
        )
    if not is_locked:
        return Finding(
            "locks",
            "warning",
            f"{one} has {path} open for more than {HELD_FOR_S:.0f} s.",
            "A foreign connection? ops.reading() instead of duckdb.connect() shares the file. Nothing is lost.",
        )
    uid = one.uid
    if uid not in (owner, None) and (one.is_exclusive or path.name not in READERS_SHARE):
        return Finding(
            "locks",
            "problem",
            f"{one} of user {user_name(uid)} holds {path} for more than {HELD_FOR_S:.0f} s; only the owner's are to.",
            f"Runs wait for it, or look as if they went on, until it ends: kill {one.pid}",
        )
    verb = "holds" if one.is_exclusive else "reads under"
    return Finding(
        "locks",
        "warning" if one.is_exclusive else "ok",
        f"{one} {verb} {path.name} for more than {HELD_FOR_S:.0f} s.",
        "It may be at a long piece of work; if it does not end, look at it." if one.is_exclusive else "",
    )
