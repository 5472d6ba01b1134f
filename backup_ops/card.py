"""A job card: everything a face shows of a job at one glance."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from backup_ops.event import format_at
from backup_ops.progress import Progress


@dataclass(frozen=True, kw_only=True)
class JobCard:
    """`state` is `queued` or `running` now, else the outcome of the last run, else `none`.

    `run_id` and the columns from `reason` to `bytes_added` are of the run under way, else of the last one. `waits_for`
    says why a queued run is not running. `last_good_at` is the end of the newest run that succeeded or ended with
    warnings. `sizes` are the bytes of the last 30 good runs, oldest first. The error is that of the last run
    that is over; `last_outcome` is that of the last one that says whether the job works: neither skipped nor cancelled.
    """

    job: str
    job_uid: str
    engine: str | None
    repository: str | None
    source: tuple[str, ...]
    state: str
    run_id: str | None = None
    reason: str | None = None
    waits_for: str | None = None
    progress: Progress | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_s: float | None = None
    snapshot_id: str | None = None
    files_total: int | None = None
    bytes_total: int | None = None
    bytes_added: int | None = None
    last_good_at: datetime | None = None
    last_outcome: str | None = None
    usual_duration_s: float | None = None
    sizes: tuple[int, ...] = ()
    error_type: str | None = None
    error_message: str | None = None
    remedy: str | None = None
    errors_unresolved: int = 0
    schedule_text: str | None = None
    revision: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times as RFC 3339."""
        data = asdict(self)
        for name in ("queued_at", "started_at", "finished_at", "last_good_at"):
            if data[name] is not None:
                data[name] = format_at(data[name])
        return data

    def same_as(self, other: JobCard | None) -> bool:
        """Whether it shows the same, whatever the revision."""
        return other is not None and replace(self, revision=0) == replace(other, revision=0)
