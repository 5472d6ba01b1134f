"""Histories as years of backups leave them, made fast: ended journals of runs, or segments sealed from their lines.

A run has about ten events: its beginning, what it copied in six parts, its snapshot and its end. One run in twenty
fails with an error, one error in ten has a stack trace, and every fifth error is resolved an hour later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from backup_ops import event
from backup_ops.home import Home
from backup_ops.outcome import as_fields
from backup_ops.queue import new_run_id
from backup_ops.run import Run

if TYPE_CHECKING:
    from backup_ops.history.segments import Sealed

DAY = timedelta(days=1)
FAILS_IN, TRACED_IN, RESOLVED_IN = 20, 10, 5
_FRAME = '  File "/opt/backup-ops/backup_ops/engines/rclone.py", line {line}, in {name}\n    self._copy(part, target)\n'


def a_day(day: datetime, jobs: int, chance: Random) -> Iterator[tuple[str, list[bytes]]]:
    """One run of each job, spread over the day: the name of its journal, and its lines."""
    for number in range(jobs):
        started = day + DAY * number / jobs
        run_id = new_run_id(started)
        yield f"run-{run_id}.jsonl", list(_run(run_id, f"job-{number:03}", started, chance))


def days(first: datetime, last: datetime) -> Iterator[datetime]:
    while first < last:
        yield first
        first += DAY


def write_journals(home: Home, first: datetime, last: datetime, jobs: int, chance: Random) -> int:
    """Returns how many: one for each run from `first` to before `last`."""
    count = 0
    for day in days(first, last):
        for name, lines in a_day(day, jobs, chance):
            (home.journal / name).write_bytes(b"".join(lines))
            count += 1
    return count


def seal_segments(home: Home, events: int, years: int = 10) -> int:
    """One segment for each month up to the last one, together about that many events; returns how many there are."""
    from backup_ops.history import ledger

    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = []
    for _ in range(years * 12):
        month = (month - DAY).replace(day=1)
        months.append(month)
    made = 0
    with ledger.writing(home) as journal, ProcessPoolExecutor(mp_context=get_context("spawn"), max_workers=2) as pool:
        for sealed in pool.map(partial(_seal_month, home.path, events // len(months)), reversed(months)):
            ledger.enter(journal, sealed, index_id="none, they were only made", batch=0)
            made += sealed.events
    return made


def _seal_month(path: Path, events: int, month: datetime) -> Sealed:
    from backup_ops.history import segments
    from backup_ops.history.instance import connect
    from backup_ops.history.intake import as_file

    chance = Random(month.isoformat())
    each_day = max(1, round(events / 28 / 10))
    rows: list[bytes] = []
    for day in days(month, month + 28 * DAY):
        for _, lines in a_day(day, each_day, chance):
            rows += map(_row, lines)
    with closing(connect()) as connection, as_file(rows[:events]) as (file, options):
        source = f"SELECT * FROM read_json('{file}', {options}, columns={segments.COLUMN_TYPES})"
        return segments.seal(connection, Home(path).segments, f"{month:%Y-%m}", source)


_HEAD = re.compile(rb'"id":"([^"]+)","kind":"([^"]+)","at":"([^"]+)Z"')


def _row(line: bytes) -> bytes:
    head = _HEAD.search(line)
    assert head
    text = json.dumps(line[:-1].decode("ascii")).encode("ascii")
    return b'{"event_id":"%b","kind":"%b","occurred_at":"%b","line":%b}' % (*head.groups(), text)


def _run(run_id: str, job: str, started: datetime, chance: Random) -> Iterator[bytes]:
    run = Run(
        run_id=run_id, job=job, job_uid=job, engine="rclone", repository="mirror", host="nas", trigger="schedule",
        slot_id=f"{job}@{started:%Y-%m-%dT%H:%M}", scheduled_at=started, queued_at=started, started_at=started,
        attempts=1, outcome="running", config_version="3f9a2c41d07e",
    )  # fmt: skip
    row, whose = as_fields(run), {"job": job, "run_id": run_id, "host": "nas"}

    def line(kind: str, after_s: float, fields: Mapping[str, object]) -> bytes:
        at = started + timedelta(seconds=after_s)
        return event.encode(kind, fields, event_id=event.new_event_id(at), at=at)

    yield line(event.RUN_STARTED, 0, row | {"pid": chance.randrange(1 << 22)})
    for part in range(6):
        path = f"/srv/{job}/{chance.randrange(1 << 48):012x}/{chance.randrange(1 << 64):016x}.raw"
        yield line("files_copied", part + 1, whose | {"files": chance.randrange(5000), "largest": path})
    fails = chance.randrange(FAILS_IN) == 0
    end: dict[str, object] = {"outcome": "failed" if fails else "succeeded", "exit_code": 1 if fails else 0}
    end |= {"finished_at": event.format_at(started + timedelta(seconds=9)), "duration_s": 9 + chance.random()}
    samples = [[second, chance.randrange(1 << 34)] for second in range(10)]
    if fails:
        yield from _failure(run, line, chance)
    else:
        sizes = {"files": chance.randrange(1 << 20), "bytes": chance.randrange(1 << 40), "bytes_added": 1 << 20}
        snapshot: dict[str, object] = {
            "snapshot_id": run_id,
            "repository": "mirror",
            "created_at": event.format_at(started),
        }
        yield line(event.SNAPSHOT_CREATED, 8, whose | snapshot | sizes)
        end |= {"snapshot_id": run_id, "files_total": sizes["files"], "bytes_total": sizes["bytes"]}
    yield line("log_kept", 9, whose | {"bytes": chance.randrange(1 << 16)})
    yield line(event.RUN_FINISHED, 9, row | end | {"samples": samples})


def _failure(run: Run, line: Callable[[str, float, Mapping[str, object]], bytes], chance: Random) -> Iterator[bytes]:
    host = f"host-{chance.randrange(1 << 32):08x}"
    said: dict[str, object] = {"job": run.job, "job_uid": run.job_uid, "run_id": run.run_id, "engine": run.engine}
    said |= {"severity": chance.choice(("HIGH", "HIGH", "MEDIUM", "CRITICAL")), "component": "storage", "host": "nas"}
    said |= {"error_type": "network_error", "message": f"connection to {host} timed out after 30 s"}
    said |= {"fingerprint": f"{chance.randrange(1 << 64):016x}", "remedy": "Check host and network.", "details": host}
    if chance.randrange(TRACED_IN) == 0:
        frames = (_FRAME.format(line=chance.randrange(400), name=f"_copy_{depth}") for depth in range(12))
        said["stack_trace"] = f"Traceback (most recent call last):\n{''.join(frames)}TimeoutError: {host}"
    text = line(event.ERROR_RECORDED, 8, said)
    yield text
    if chance.randrange(RESOLVED_IN) == 0:
        resolved = {"error_id": event.decode(text)["id"], "resolved_by": "admin", "resolution_note": "Cable."}
        yield line(event.ERROR_RESOLVED, 3600, resolved)
