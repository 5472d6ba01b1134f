"""The background monitor: the thread that looks after a home and tells who wants to know what changed."""

from __future__ import annotations

import threading
from collections.abc import Callable

WATCH_EVERY_S = 0.25
DRAIN_EVERY_S = 2.0
UPKEEP_LOOK_EVERY_S = 30.0
UPKEEP_TAKES_AT_MOST_S = 4.0

Listener = Callable[[frozenset[str]], None]


class Monitor:
    """`look` says what changed (names of jobs), `settle` ends dead runs and starts waiting ones, `complain` records.

    `upkeep` gets the seconds it may take; it is called on a slow beat and a thread of its own, so that nobody waits
    for it.

    What goes wrong is recorded once, and again only after that very thing has worked in between.
    """

    def __init__(
        self,
        look: Callable[[], frozenset[str]],
        settle: Callable[[], object],
        upkeep: Callable[[float], object],
        complain: Callable[[str, str], None],
    ) -> None:
        self._look = look
        self._settle = settle
        self._upkeep = upkeep
        self._complain = complain
        self._mutex = threading.Lock()
        self._listeners: list[Listener] = []
        self._complaints: dict[object, str] = {}
        self._thread: threading.Thread | None = None
        self._upkeep_thread: threading.Thread | None = None
        self._is_stopped = threading.Event()

    @property
    def is_watching(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and not self._is_stopped.is_set()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Returns how to unsubscribe."""
        with self._mutex:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._mutex:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    def start(self) -> None:
        with self._mutex:
            if not self.is_watching:
                self._is_stopped = threading.Event()
                self._thread = self._start(self._watch, "backup-ops-watch")
                self._upkeep_thread = self._start(self._look_after_home, "backup-ops-upkeep")

    def _start(self, work: Callable[[threading.Event], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, args=(self._is_stopped,), name=name, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._is_stopped.set()
        for thread in (self._thread, self._upkeep_thread):
            if thread is not None and thread is not threading.current_thread():
                thread.join(timeout=5)

    def _watch(self, is_stopped: threading.Event) -> None:
        until_settle_s = 0.0
        while not is_stopped.wait(WATCH_EVERY_S):
            until_settle_s -= WATCH_EVERY_S
            if until_settle_s <= 0:
                until_settle_s = DRAIN_EVERY_S
                self._guard("background_monitor", "settling runs", self._settle)
            self._guard("background_monitor", "looking at the home", self._look_and_tell)

    def _look_after_home(self, is_stopped: threading.Event) -> None:
        while not is_stopped.wait(UPKEEP_LOOK_EVERY_S):
            self._guard("storage", "upkeep of the home", lambda: self._upkeep(UPKEEP_TAKES_AT_MOST_S))

    def _look_and_tell(self) -> None:
        changed = self._look()
        if not changed:
            return
        with self._mutex:
            listeners = list(self._listeners)
        for listener in listeners:  # one broken view must not keep the others from hearing

            def call(listener: Listener = listener) -> None:
                listener(changed)

            self._guard("ui", f"telling {getattr(listener, '__qualname__', listener)!s}", call)

    def _guard(self, component: str, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # the thread must outlive whatever it meets
            said = f"{what} failed: {type(error).__name__}: {error}"
            if self._complaints.get(what) != said:
                self._complaints[what] = said
                self._complain(component, said)
        else:
            self._complaints.pop(what, None)
