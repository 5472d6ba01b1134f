"""What a page may do to the home: run and cancel, once however often it is asked, and only with the right to."""

from __future__ import annotations

import threading
import time
from typing import Any

from backup_ops.errors import BackupError, UnknownRun
from backup_ops.ops import Ops

_SAME_DEED_S = 1.0
"""A second press within this time is the same press: a double click, or two tabs that were clicked in one go."""


class Operator:
    """Carries out what pages of this process ask for, and always answers. Usable from any thread."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._manager = ops.manager
        self._mutex = threading.Lock()
        self._done: dict[str, tuple[str, float]] = {}  # by job: the last deed, and when

    def run(self, job: str, by: str) -> dict[str, Any]:
        """Submits a run; the answer says what became of it. Queued or running already: nothing is submitted."""
        with self._mutex:
            if self._is_repeated("run", job):
                return _told(job, True, "")
            try:
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
                submitted = self._manager.submit(job, trigger="manual", by=by)
            except BackupError as error:
                return _told(job, False, str(error))
            except Exception as error:
                return self._broken(job, "started", error)
            if submitted.state == "skipped":
                return _told(job, False, f"Not started: {submitted.reason}.")
            self._done[job] = "run", time.monotonic()
            return _told(job, True, f"Queued as {submitted.run_id}.")

    def cancel(self, job: str, by: str, run_id: str | None = None) -> dict[str, Any]:
        """Asks that run to stop, without one all runs of the job: what the page shows may be over by now."""
        with self._mutex:
            if self._is_repeated("cancel", job):
                return _told(job, True, "")
            try:
                stopped = self._manager.cancel(run_id or job, by=by)
            except UnknownRun:
                return _told(job, False, f"{job} is not running any more.")
            except BackupError as error:
                return _told(job, False, str(error))
            except Exception as error:
                return self._broken(job, "cancelled", error)
            self._done[job] = "cancel", time.monotonic()
            return _told(job, True, f"Asked {', '.join(stopped)} to stop.")

    def _is_repeated(self, deed: str, job: str) -> bool:
        """Run, Cancel, Run within the second are three deeds: only the last one counts."""
        last, done_at = self._done.get(job, ("", 0.0))
        return last == deed and time.monotonic() - done_at < _SAME_DEED_S

    def _broken(self, job: str, done: str, error: Exception) -> dict[str, Any]:
        """The page shows Starting until it is answered, whatever went wrong."""
        self._ops.record_error(error, component="ui", job=job)
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.strerror and error.filename:
            reason = f"{error.filename}: {error.strerror}"
        return _told(job, False, f"{job} could not be {done}: {reason}.")


def _told(job: str, is_done: bool, text: str) -> dict[str, Any]:
    return {"type": "told", "job": job, "ok": is_done, "text": text}
