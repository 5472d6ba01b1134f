"""What a page may do to the home: run and cancel, once however often it is asked, and only with the right to."""

from __future__ import annotations

import threading
import time
from typing import Any

from backup_ops.errors import BackupError, UnknownRun
from backup_ops.manager import JobManager

_SAME_DEED_S = 1.0
"""A second press within this time is the same press: a double click, or two tabs that were clicked in one go."""


class Operator:
    """Carries out what pages of this process ask for. Usable from any thread."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._mutex = threading.Lock()
        self._done_at: dict[tuple[str, str], float] = {}

    def run(self, job: str, by: str) -> dict[str, Any]:
        """Submits a run; the answer says what became of it. Queued or running already: nothing is submitted."""
        with self._mutex:
            if self._is_repeated("run", job):
                return _told(job, True, "")
            live = next(
                (
                    card.state
                    for card in self._manager.cards()
                    if card.job == job and card.state in ("running", "queued")
                ),
                None,
            )
            if live is not None:
                return _told(job, False, f"{job} is {live} already.")
            try:
                submitted = self._manager.submit(job, trigger="manual", by=by)
            except BackupError as error:
                return _told(job, False, str(error))
            if submitted.state == "skipped":
                return _told(job, False, f"Not started: {submitted.reason}.")
            self._done_at[("run", job)] = time.monotonic()
            return _told(job, True, f"Queued as {submitted.run_id}.")

    def cancel(self, job: str, by: str) -> dict[str, Any]:
        """Asks the job's runs to stop."""
        with self._mutex:
            if self._is_repeated("cancel", job):
                return _told(job, True, "")
            try:
                stopped = self._manager.cancel(job, by=by)
            except UnknownRun:
                return _told(job, False, f"{job} is not running any more.")
            except BackupError as error:
                return _told(job, False, str(error))
            self._done_at[("cancel", job)] = time.monotonic()
            return _told(job, True, f"Asked {', '.join(stopped)} to stop.")

    def _is_repeated(self, deed: str, job: str) -> bool:
        done_at = self._done_at.get((deed, job))
        return done_at is not None and time.monotonic() - done_at < _SAME_DEED_S


def _told(job: str, is_done: bool, text: str) -> dict[str, Any]:
    return {"type": "told", "job": job, "ok": is_done, "text": text}
