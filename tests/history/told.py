"""What a test tells the journals of a home, and lines as a journal would hold them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from backup_ops import event
from backup_ops.history import History
from backup_ops.history.holdings import Lost
from backup_ops.home import Home
from backup_ops.journal import Journal
from backup_ops.run import Run

EVENTS = 100
"""Of a home that the fixture `filled` made."""

NOON = datetime(2026, 1, 24, 12, 0, tzinfo=UTC)


def events(history: History) -> int:
    return history.rows("error_statistics")[0]["errors"]


class Told:
    """What is told to the journals of a home, and the history that knows it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.journal = Journal(home.journal)
        self.rejected: list[tuple[int, str, str]] = []
        self.rebuilt: list[str] = []
        self.lost: list[Lost] = []
        self.history = self.another()

    def another(self) -> History:
        return History(
            self.home,
            on_rejected=lambda count, reason, file: self.rejected.append((count, reason, file)),
            on_rebuilt=lambda reason, _: self.rebuilt.append(reason),
            on_lost=self.lost.append,
        )

    def event(self, kind: str, *, at: datetime | None = None, **fields) -> str:
        return self.journal.append(kind, fields, at=at)

    def run(self, kind: str = "run_finished", **columns) -> Run:
        at = columns.pop("at", None)
        run = Run(**({"job": "photos", "job_uid": "photos", "queued_at": NOON} | columns))
        self.event(kind, at=at, **run.as_row())
        return run

    def error(self, message: str = "connection timed out", **columns) -> str:
        at = columns.pop("at", None)
        known = {"severity": "HIGH", "component": "storage", "error_type": "network_error", "job": "photos"}
        return self.event("error_recorded", at=at, message=message, **(known | columns))

    def seed(self) -> None:
        """Thirty days of two jobs, with errors of which one is resolved; half of it folded in, half in the tail."""
        for day in range(30):
            started = NOON - timedelta(days=30 - day)
            for job in ("photos", "mail"):
                bad = job == "mail" and day % 7 == 0
                error_id = None
                run_id = f"{started:%Y%m%dT%H%M%S}-{job[:6]:0<6}"
                if bad:
                    error_id = self.error(job=job, job_uid=job, run_id=run_id, at=started, remedy="Check the host.")
                self.run(
                    run_id=run_id, job=job, job_uid=job, queued_at=started, started_at=started, error_id=error_id,
                    finished_at=started + timedelta(seconds=60), duration_s=60.0 + day,
                    outcome="failed" if bad else "succeeded", bytes_total=None if bad else 1000 + day, files_total=10,
                    errors_total=int(bad), at=started + timedelta(seconds=60),
                )  # fmt: skip
                if not bad:
                    self.event(
                        "snapshot_created", snapshot_id=run_id, job=job, repository="mirror", run_id=run_id,
                        created_at=started, files=10, bytes=1000 + day, bytes_added=day, at=started,
                    )  # fmt: skip
            if day == 15:
                assert self.history.ingest(force=True)
        first = self.history.rows("errors", limit=1)[0]["error_id"]
        self.event("error_resolved", error_id=first, resolved=True, resolved_by="ann", resolution_note="cable", at=NOON)

    def garbage(self, *lines: bytes, name: str | None = None) -> str:
        """Raw bytes as a journal of its own; each line gets its newline."""
        name = name or f"garbage-{uuid.uuid4().hex[:8]}.jsonl"
        with open(self.home.journal / name, "ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
        return name


def line_of(kind: str, fields: dict, *, event_id: str | None = None, at: datetime = NOON) -> bytes:
    """A line as a journal would hold it, without its newline."""
    return event.encode(kind, fields, event_id=event_id or event.new_event_id(at), at=at).rstrip(b"\n")
