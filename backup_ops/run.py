"""A run: one execution of a job, with exactly one outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

Outcome = Literal["succeeded", "warning", "failed", "cancelled", "interrupted", "skipped", "missed", "lost"]
State = Literal["queued", "running"] | Outcome

OUTCOMES: tuple[Outcome, ...] = (
    "succeeded",
    "warning",
    "failed",
    "cancelled",
    "interrupted",
    "skipped",
    "missed",
    "lost",
)
GOOD_OUTCOMES: tuple[Outcome, ...] = ("succeeded", "warning")

_EXIT_CODES: dict[str, int] = {
    "succeeded": 0,
    "warning": 3,
    "failed": 1,
    "interrupted": 1,
    "lost": 1,
    "missed": 1,
    "cancelled": 130,
    "skipped": 75,
}
_WORST_FIRST = (1, 130, 3, 75, 0)


@dataclass(frozen=True, kw_only=True)
class RecordedError:
    """An error of a run as it was recorded; the table `errors` holds the rest of it."""

    error_id: str
    occurred_at: datetime
    severity: str
    component: str
    error_type: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of the table `runs`, and its errors; while a run is under way its outcome is `queued` or `running`.

    Times are UTC and aware. `files_*` and `bytes_*` count the source as it was read: `bytes_total` all of it,
    `bytes_added` what is new or changed in this run, `bytes_stored` what it cost in the repository.
    `exit_code` is the tool's, None when no tool ran. `config_version` changes with source, exclude, engine, repository.
    """

    run_id: str
    job: str
    job_uid: str
    engine: str | None = None
    repository: str | None = None
    host: str | None = None
    trigger: str = "manual"
    slot_id: str | None = None
    scheduled_at: datetime | None = None
    attempts: int = 0
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_s: float | None = None
    outcome: State = "queued"
    reason: str | None = None
    exit_code: int | None = None
    snapshot_id: str | None = None
    files_total: int | None = None
    bytes_total: int | None = None
    files_new: int | None = None
    files_changed: int | None = None
    files_deleted: int | None = None
    bytes_added: int | None = None
    bytes_stored: int | None = None
    errors_total: int = 0
    error_id: str | None = None
    config_version: str | None = None
    errors: tuple[RecordedError, ...] = field(default=(), compare=False)

    @property
    def shell_exit_code(self) -> int:
        """What `backup-ops run` exits with for this outcome."""
        return _EXIT_CODES.get(self.outcome, 1)

    def as_row(self) -> dict[str, Any]:
        """The columns in the order of the table."""
        return {name: getattr(self, name) for name in RUN_COLUMNS}


RUN_COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(Run) if column.name != "errors")


def worst_exit_code(codes: Iterable[int]) -> int:
    """The exit code of several runs: the worst, in the order 1, 130, 3, 75, 0."""
    return min(codes, key=lambda code: _WORST_FIRST.index(code) if code in _WORST_FIRST else -1, default=0)
