"""The session: one browser page's mirror of the feed. It holds what was sent, and sends what has changed since."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import param

from backup_ops.dashboard.feed import Board, Feed, stamp

PATCH_EVERY_MS = 200
"""Changes within this time travel in one message: 250 a second became 2.5 messages a second."""


class Schedule(Protocol):
    """The part of a Bokeh document that runs things on the session's own loop."""

    def add_next_tick_callback(self, callback: Callable[[], None]) -> Any: ...

    def add_timeout_callback(self, callback: Callable[[], None], timeout_milliseconds: int) -> Any: ...


class Session(param.Parameterized):
    """Mirrors the feed for one page. Everything but the subscription runs on the session's loop.

    It subscribes to the feed, never to the manager's parameters: watchers of a process-lived object would keep every
    page alive that was ever opened. `close` ends the subscription.
    """

    revision = param.Integer(default=0, bounds=(0, None), doc="Grows with each patch that was sent.")

    def __init__(self, feed: Feed, send: Callable[[dict[str, Any]], None], schedule: Schedule, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]  # param annotates its parameters, not __init__
        self._feed = feed
        self._send = send
        self._schedule = schedule
        self._sent = Board()
        self._mutex = threading.Lock()
        self._is_armed = False
        self.is_closed = False
        self._is_synced = False
        self._unsubscribe = feed.subscribe(self._on_change)

    def sync(self, operate: dict[str, Any]) -> None:
        """Sends everything: the page was just drawn, or has come back."""
        self._feed.look()
        board = self._feed.board
        self._sent = board
        self._is_synced = True
        self._send(
            {
                "type": "state",
                "at": stamp(),
                "cards": list(board.cards.values()),
                "problems": list(board.problems),
                "home": board.home,
                "operate": operate,
                **self._feed.words(),
            }
        )

    def beat(self) -> None:
        """Says that the server lives, and what it says differently by now."""
        if self.is_closed or not self._is_synced:
            return
        words = self._feed.words()
        news = words if words != self._sent.words else {}
        if news:
            self._sent = replace(self._sent, words=words)
        self._send({"type": "beat", "at": stamp(), **news})

    def close(self) -> None:
        self.is_closed = True
        self._unsubscribe()

    def _on_change(self) -> None:
        """On any thread. One callback is on its way at a time; what changes meanwhile travels with it."""
        with self._mutex:
            if self._is_armed or self.is_closed:
                return
            self._is_armed = True
        self._schedule.add_next_tick_callback(self._arm)

    def _arm(self) -> None:
        if not self.is_closed:
            self._schedule.add_timeout_callback(self._flush, PATCH_EVERY_MS)

    def _flush(self) -> None:
        with self._mutex:
            self._is_armed = False
        if self.is_closed or not self._is_synced:
            return
        board, sent = self._feed.board, self._sent
        self._sent = board
        changed = [card for job, card in board.cards.items() if card is not sent.cards.get(job)]
        gone = [job for job in sent.cards if job not in board.cards]
        news: dict[str, Any] = board.words if board.words != sent.words else {}
        if board.problems != sent.problems:
            news = news | {"problems": list(board.problems)}
        if board.home != sent.home:
            news = news | {"home": board.home}
        if changed or gone or news:
            self.revision += 1
            self._send({"type": "patch", "at": stamp(), "cards": changed, "gone": gone, **news})
