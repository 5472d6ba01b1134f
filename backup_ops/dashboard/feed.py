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
    """One state of a home, ready to be sent. `cards` by job; equal revisions of a card are equal cards.

    `doubt` says why nothing can be claimed now. It is in the words, too.
    """

    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    doubt: str | None = None
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
        """Finds what changes without the manager saying so, at most every 2 s: a jobs.yaml that broke or was mended,
        a history that cannot be asked, a home that is gone."""
        with self._mutex:
            if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
                return
            self._looked_at = time.monotonic()
        doubt, board = self._doubt(), self._board
        if doubt != board.doubt or self._problems(doubt) != board.problems:
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
            doubt = self._doubt()  # after the cards: asking for them finds it
            problems = self._problems(doubt)
            is_configured = not problems and self._is_there()
            now = self._clock()
            before = self._board
            self._cards = cards
            self._board = Board(
                cards={
                    card.job: known
                    if (known := before.cards.get(card.job)) is not None
                    and known["revision"] == card.revision
                    and (problems, doubt) == (before.problems, before.doubt)
                    else view(card, now, is_configured=is_configured, is_known=doubt is None)
                    for card in cards
                },
                problems=problems,
                doubt=doubt,
                words=self._say(cards),
                home=self._home(len(cards)),
            )

    def _is_there(self) -> bool:
        return os.path.isdir(self._manager.home.path)  # the method of Path raises when it may not look

    def _doubt(self) -> str | None:
        if not self._is_there():
            return (
                f"The home {self._manager.home.path} is gone: it was removed or renamed, or its disk is not mounted. "
                "Nothing can be read or run until it is back."
            )
        return self._manager.history_problem

    def _problems(self, doubt: str | None) -> tuple[str, ...]:
        is_first_run = not self._cards and not os.path.exists(self._manager.home.jobs_yaml)
        if is_first_run or (doubt is not None and not self._is_there()):
            return ()  # a home that never had the file is no fault, and one that is gone is told as such
        return tuple(str(problem) for problem in self._manager.config_problems())

    def _say(self, cards: list[JobCard]) -> dict[str, Any]:
        now = self._clock()
        doubt = self._doubt()
        said = verdict.verdict(cards, now, doubt)
        return {
            "doubt": doubt or "",
            "verdict": {"tone": said.tone, "now": _words(said), "past": _words(said.past)},
            "figures": [asdict(figure) for figure in figures(cards, self._slots(), now, is_known=doubt is None)],
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


def view(card: JobCard, now: datetime, *, is_configured: bool = True, is_known: bool = True) -> dict[str, Any]:
    """A card for the browser: its facts and the words for them. Not `is_known`: its past could not be asked for."""
    words = verdict.sentence(card, now)
    kind: str = verdict.kind_of(card)
    if kind == "none" and not is_known:
        kind, words = "unknown", verdict.Sentence("Whether it has run is not known now.")
    progress = None if card.progress is None else asdict(card.progress) | {"fraction": card.progress.fraction}
    return card.as_dict() | {
        "kind": kind,
        "attention": verdict.needs_attention(card),
        "protected": is_known and verdict.is_protected(card),
        "what": words.what,
        "deed": words.deed,
        "has_safety": bool(words.safe),
        "progress": progress,
        "is_configured": is_configured,
        "is_known": is_known,
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
