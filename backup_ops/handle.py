"""A handle on a submitted run: wait for it, look at it, cancel it. Losing the handle does nothing to the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from backup_ops import starter
from backup_ops.errors import UnknownRun
from backup_ops.event import ERROR_RECORDED, RUN_FINISHED, parse_at
from backup_ops.journal import read_events
from backup_ops.manager import JobManager, Submitted
from backup_ops.monitor import DRAIN_EVERY_S
from backup_ops.progress import Progress
from backup_ops.run import RUN_COLUMNS, RecordedError, Run

_LOOK_EVERY_S = 0.1
_TIMES = ("scheduled_at", "queued_at", "started_at", "finished_at")


class RunHandle:
    """What `ops.submit` returns. `skipped` runs are over from the beginning."""

    def __init__(self, manager: JobManager, submitted: Submitted) -> None:
        self._manager = manager
        self._submitted = submitted
        self.run_id = submitted.run_id
        self.job = submitted.job

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} of job {self.job!r}>"

    @property
    def state(self) -> str:
        """`queued` or `running`, else the outcome."""
        if self._submitted.state == "skipped":
            return "skipped"
        if not self._manager.is_over(self.run_id):
            return "running" if starter.is_running(self._manager.home, self.run_id) else "queued"
        return self.result().outcome

    @property
    def progress(self) -> Progress | None:
        return self._manager.progress_of(self.run_id)

    @property
    def waits_for(self) -> str | None:
        return self._manager.waits_for(self.run_id)

    def cancel(self) -> None:
        """Asks the run to stop; it ends as `cancelled`. Over already: nothing happens."""
        with contextlib.suppress(UnknownRun):
            self._manager.cancel(self.run_id)

    def wait(self, timeout_s: float | None = None, *, on_look: Callable[[RunHandle], None] | None = None) -> Run:
        """The run, once it is over. Raises TimeoutError. `on_look` is called ten times a second meanwhile."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        settled_at = time.monotonic()
        while self._submitted.state != "skipped" and not self._manager.is_over(self.run_id):
            if on_look is not None:
                on_look(self)
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"run {self.run_id} of job '{self.job}' is still {self.state} after {timeout_s} s")
            if time.monotonic() - settled_at >= DRAIN_EVERY_S:
                settled_at = time.monotonic()
                self._manager.settle()
            time.sleep(_LOOK_EVERY_S)
        return self.result()

    def result(self) -> Run:
        """The run as it ended. Raises UnknownRun while it is not over."""
        run = read_run(self._manager, self.run_id)
        if run is None:
            raise UnknownRun(f"run {self.run_id} has no outcome yet.", hint="Call wait() first.")
        return run


def read_run(manager: JobManager, run_id: str) -> Run | None:
    """A run that is over, with its errors, or None: from its own journal, else from the history."""
    row: dict[str, Any] | None = None
    errors: list[dict[str, Any]] = []
    for fields in read_events(starter.journal_path(manager.home, run_id)):
        if fields["kind"] == RUN_FINISHED:
            row = fields
        elif fields["kind"] == ERROR_RECORDED:
            errors.append(fields | {"error_id": fields["id"], "occurred_at": parse_at(fields["at"])})
    if row is not None:
        row = {name: parse_at(row.get(name)) if name in _TIMES else row.get(name) for name in RUN_COLUMNS}
    else:
        found = [found for found in manager.history.rows("runs", run_id=run_id) if found["finished_at"] is not None]
        if not found:
            return None
        row = found[0]
        errors = manager.history.rows("errors", run_id=run_id)
    columns: dict[str, Any] = {name: row.get(name) for name in RUN_COLUMNS}
    return Run(**columns, errors=tuple(_recorded(error) for error in errors))


def _recorded(error: dict[str, Any]) -> RecordedError:
    columns: dict[str, Any] = {name: error.get(name) or "" for name in RecordedError.__dataclass_fields__}
    return RecordedError(**columns)
