"""What the signals of a terminal, of systemd and of `kill` mean while runs are waited for."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_LEAVING = (signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Remembers what came, for the length of a `with` block. A second SIGINT is a KeyboardInterrupt at once.

    What is ignored stays ignored (nohup, a shell's background job). Only the main thread hears signals: elsewhere
    nothing is ever remembered.
    """

    def __init__(self) -> None:
        self.is_cancelled = False
        self.leave_by: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *_LEAVING):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number in _LEAVING:
            self.leave_by = signal.Signals(number)
        elif self.is_cancelled:
            raise KeyboardInterrupt
        else:
            self.is_cancelled = True
