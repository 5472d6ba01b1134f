"""The mirror: what every job's card shows, read from queue, progress files and history, whoever wrote them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backup_ops import lock, outcome, progress, starter
from backup_ops.card import JobCard
from backup_ops.errors import BackupError
from backup_ops.home import Home
from backup_ops.job import Job
from backup_ops.queue import Queue, Request

_PAST_COLUMNS = (
    "run_id",
    "reason",
    "queued_at",
    "started_at",
    "finished_at",
    "duration_s",
    "snapshot_id",
    "files_total",
    "bytes_total",
    "bytes_added",
    "last_good_at",
    "last_outcome",
    "usual_duration_s",
    "error_type",
    "error_message",
    "remedy",
    "errors_unresolved",
)


_LOOK_AT_ALL_EVERY_S = 30.0


class Mirror:
    """Not for several threads at once: its owner locks. `past` gives the rows of the question `job_cards`."""

    def __init__(self, home: Home, past: Callable[[], list[dict[str, Any]]]) -> None:
        self._home = home
        self._queue = Queue(home)
        self._ask_past = past
        self._past: dict[str, dict[str, Any]] = {}
        self._past_stamp: object = None
        self._journals = _Journals(home)
        self.problem: str | None = None
        self._cards: dict[str, JobCard] = {}
        self.revision = 0

    def cards(self) -> list[JobCard]:
        return list(self._cards.values())

    def refresh(self, jobs: Mapping[str, Job] | None) -> frozenset[str]:
        """Brings the cards up to date; the names of those that changed. None: jobs.yaml is broken, cards stay."""
        live = {request.job_uid: request for request in reversed(self._queue.requests())}
        self._look_at_past()
        cards = dict(self._cards) if jobs is None else {}
        for name, job in (jobs or {}).items():
            cards[name] = self._card(job, live.get(job.job_uid))
        changed = {name for name, card in cards.items() if not card.same_as(self._cards.get(name))}
        changed |= set(self._cards) - set(cards)
        if changed:
            self.revision += 1
            self._cards = {
                name: replace(card, revision=self.revision) if name in changed else self._cards[name]
                for name, card in cards.items()
            }
        return frozenset(changed)

    def stamp(self) -> object:
        """Changes when anything that a card shows may have changed; a few stats, no content is read."""
        queue = sorted((entry.name, stamp_of(Path(entry.path))) for entry in _scan(self._home.queue))
        running = [
            (run_id, starter.is_running(self._home, run_id), stamp_of(self._home.runs / run_id / outcome.PROGRESS_FILE))
            for run_id in self._queue.run_ids()
        ]
        return stamp_of(self._home.jobs_yaml), queue, running, self._journals.stamp()

    def _look_at_past(self) -> None:
        stamp = self._journals.stamp()
        if stamp == self._past_stamp:
            return
        try:
            self._past = {row["job_uid"]: row for row in self._ask_past()}
        except BackupError as error:  # queue and progress need no history: what was known of the past stays
            self.problem = str(error)
        else:
            self.problem = None
            self._past_stamp = stamp

    def _card(self, job: Job, request: Request | None) -> JobCard:
        past = self._past.get(job.job_uid, {})
        known = {name: past[name] for name in _PAST_COLUMNS if past.get(name) is not None}
        card = JobCard(
            job=job.name,
            job_uid=job.job_uid,
            engine=job.engine,
            repository=job.repository,
            source=tuple(job.source),
            state=past.get("outcome") or "none",
            schedule_text=str(job.schedule) if job.schedule else None,
            sizes=tuple(past.get("sizes") or ()),
            **known,
        )
        if request is None:
            return card
        is_running = starter.is_running(self._home, request.run_id)
        return replace(
            card,
            state="running" if is_running else "queued",
            run_id=request.run_id,
            reason=None,
            waits_for=None if is_running else starter.waits_for(self._home, request),
            progress=progress.read(self._home.runs / request.run_id / outcome.PROGRESS_FILE),
            queued_at=request.queued_at,
            started_at=starter.begun_at(self._home, request.run_id),
            finished_at=None,
            duration_s=None,
        )


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Differs when the file was written, replaced or removed; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class _Journals:
    """Whether anything was written to a journal. Of ten thousand only those with a living writer are looked at."""

    def __init__(self, home: Home) -> None:
        self._folder = home.journal
        self._folder_stamp: tuple[int, ...] | None = None
        self._sizes: dict[str, int] = {}
        self._open: set[str] = set()
        self._looked_at_s = 0.0

    def stamp(self) -> object:
        folder_stamp = stamp_of(self._folder)
        if folder_stamp != self._folder_stamp or time.monotonic() - self._looked_at_s > _LOOK_AT_ALL_EVERY_S:
            self._folder_stamp = folder_stamp
            self._looked_at_s = time.monotonic()
            known, self._sizes, self._open = self._sizes, {}, set()
            for entry in _scan(self._folder):
                with contextlib.suppress(FileNotFoundError):
                    self._sizes[entry.name] = entry.stat().st_size
                    if self._sizes[entry.name] != known.get(entry.name) or lock.is_held(Path(entry.path)):
                        self._open.add(entry.name)
        for name in self._open:
            stamp = stamp_of(self._folder / name)
            if stamp is not None:
                self._sizes[name] = stamp[1]
        return frozenset(self._sizes.items())


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
