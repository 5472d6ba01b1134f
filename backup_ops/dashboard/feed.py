"""The feed: what all pages of this process show, made once for each change, not once for each session."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops import verdict
from backup_ops.card import JobCard
from backup_ops.dashboard.figures import figures
from backup_ops.errors import BackupError
from backup_ops.event import format_at
from backup_ops.manager import JobManager

_LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Board:
    """One state of a home, ready to be sent. `cards` by job; equal revisions of a card are equal cards."""

    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    words: dict[str, Any] = field(default_factory=dict)
    home: dict[str, Any] = field(default_factory=dict)


class Feed:
    """Follows a JobManager. Usable from any thread; subscribers are called on the thread that found the change."""

    def __init__(self, manager: JobManager, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._manager = manager
        self._clock = clock
        self._mutex = threading.Lock()
        self._building = threading.Lock()
        self._subscribers: list[Callable[[], None]] = []
        self._cards: list[JobCard] = []
        self._board = Board()
        self._looked_at = 0.0
        self._unsubscribe = manager.subscribe(self._on_change)
        manager.watch()
        self._build()

    @property
    def board(self) -> Board:
        return self._board

    def words(self) -> dict[str, Any]:
        """Verdict and figures as of now: they hold ages, so they change without an event."""
        return self._say(self._cards)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back when the board has changed. Returns how to stop it."""
        with self._mutex:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self._mutex:
                if callback in self._subscribers:
                    self._subscribers.remove(callback)

        return unsubscribe

    @property
    def listeners(self) -> int:
        with self._mutex:
            return len(self._subscribers)

    def look(self) -> None:
        """Finds what changes without the manager saying so, at most every 2 s: a jobs.yaml that broke or was mended."""
        with self._mutex:
            if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
                return
            self._looked_at = time.monotonic()
        if self._problems() != self._board.problems:
            self._build()
            self._tell()

    def close(self) -> None:
        self._unsubscribe()

    def _on_change(self, _: frozenset[str]) -> None:
        self._build()
        self._tell()

    def _tell(self) -> None:
        with self._mutex:
            subscribers = list(self._subscribers)
        for callback in subscribers:
            callback()

    def _build(self) -> None:
        with self._building:
            cards = self._manager.cards()
            problems = self._problems()
            now = self._clock()
            before = self._board
            self._cards = cards
            self._board = Board(
                cards={
                    card.job: known
                    if (known := before.cards.get(card.job)) is not None
                    and known["revision"] == card.revision
                    and problems == before.problems
                    else view(card, now, is_configured=not problems)
                    for card in cards
                },
                problems=problems,
                words=self._say(cards),
                home=self._home(len(cards)),
            )

    def _problems(self) -> tuple[str, ...]:
        if not self._manager.home.jobs_yaml.exists():
            return ()  # a home without the file is a first run, not a fault
        return tuple(str(problem) for problem in self._manager.config_problems())

    def _say(self, cards: list[JobCard]) -> dict[str, Any]:
        now = self._clock()
        said = verdict.verdict(cards, now)
        return {
            "verdict": {"tone": said.tone, "now": _words(said), "past": _words(said.past)},
            "figures": [asdict(figure) for figure in figures(cards, self._slots(), now)],
        }

    def _slots(self) -> int:
        try:
            return int(self._manager.jobfile().settings.max_running)
        except BackupError:
            return 4

    def _home(self, jobs: int) -> dict[str, Any]:
        try:
            repositories = len(self._manager.jobfile().repositories)
        except BackupError:
            repositories = len({card.repository for card in self._cards if card.repository})
        return {
            "path": str(self._manager.home.path),
            "host": socket.gethostname(),
            "jobs": jobs,
            "repositories": repositories,
            **zone(),
        }


def _words(said: verdict.Verdict) -> dict[str, Any]:
    return {"headline": said.headline, "detail": [[words.text, words.is_name] for words in said.detail]}


def view(card: JobCard, now: datetime, *, is_configured: bool = True) -> dict[str, Any]:
    """A card for the browser: its facts and the words for them."""
    words = verdict.sentence(card, now)
    progress = None if card.progress is None else asdict(card.progress) | {"fraction": card.progress.fraction}
    return card.as_dict() | {
        "kind": verdict.kind_of(card),
        "attention": verdict.needs_attention(card),
        "protected": verdict.is_protected(card),
        "what": words.what,
        "deed": words.deed,
        "has_safety": bool(words.safe),
        "progress": progress,
        "is_configured": is_configured,
    }


def zone(now: datetime | None = None) -> dict[str, Any]:
    """The zone of this machine: its name as people write it, and minutes east of UTC."""
    local = (now or datetime.now(UTC)).astimezone()
    offset = local.utcoffset()
    minutes = round(offset.total_seconds() / 60) if offset else 0
    short = local.tzname() or "UTC"
    sign = "−" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    relative = f"UTC{sign}{hours}{f':{rest:02}' if rest else ''}" if minutes else "UTC"
    name = os.environ.get("TZ") or _zone_file()
    return {
        "zone": short,
        "offset": minutes,
        "zone_text": f"{name}, {relative}" if name and name.rpartition("/")[2] not in ("UTC", "") else relative,
    }


def _zone_file() -> str:
    try:
        target = str(Path("/etc/localtime").resolve())
    except OSError:
        return ""
    return target.partition("zoneinfo/")[2]


def stamp(now: datetime | None = None) -> str:
    return format_at(now or datetime.now(UTC))
