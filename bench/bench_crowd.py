"""A crowd over a small and over a large history: how long each kind of asker waits, and how new the answers are.

The crowd is that of tests/history/crowd.py: a dashboard of 8 threads with 5 questions a second each, two notebooks of
which one asks for 20 s at a stretch, 20 runners with 20 events a second each, a shell call a second, two witnesses that
write an event and ask for it. `--seconds 10 --size 1` is a short try.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from backup_ops import event
from backup_ops.history import History
from backup_ops.home import Home
from backup_ops.journal import Journal
from backup_ops.run import Run
from table import percentile, publish

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "history"))

from crowd import Crowd, Notes, gather, lost_and_doubled

JOBS = 100
RUNS_IN_A_JOURNAL = 20_000
MEGABYTE = 1 << 20


def day_by_day(chance: Random) -> Iterator[bytes]:
    """Lines of years of runs, one a day for each job: its beginning, its end, what it copied, one error in twenty."""
    begin = datetime.now(UTC) - timedelta(days=3650)
    number = 0
    while True:
        number += 1
        started = begin + timedelta(days=number // JOBS % 3640, seconds=864 * (number % JOBS))
        job = f"job-{number % JOBS:02}"
        run = Run(
            run_id=f"{started:%Y%m%dT%H%M%S}-{chance.randrange(1 << 24):06x}", job=job, job_uid=job, engine="rclone",
            repository="mirror", host="nas", trigger="schedule", queued_at=started, started_at=started, attempts=1,
            outcome="running",
        )  # fmt: skip
        about = {"job": job, "run_id": run.run_id, "host": "nas"}

        def line(kind: str, seconds: float, fields: dict[str, object], at: datetime = started) -> bytes:
            moment = at + timedelta(seconds=seconds)
            return event.encode(kind, fields, event_id=event.new_event_id(moment), at=moment)

        yield line("run_started", 0, run.as_row())
        for part in range(6):
            path = f"/srv/{job}/{chance.randrange(1 << 48):012x}/{chance.randrange(1 << 64):016x}.raw"
            yield line("files_copied", part + 1, about | {"files": chance.randrange(5000), "largest": path})
        bad = number % 20 == 0
        if bad:
            said = f"connection to host-{chance.randrange(1 << 32):08x} timed out after {chance.randrange(90)} s"
            yield line(
                "error_recorded",
                8,
                about
                | {"severity": "HIGH", "component": "storage", "error_type": "network_error", "message": said}
                | {"job_uid": job, "engine": "rclone", "remedy": "Check host and network."},
            )
        end = {"finished_at": started + timedelta(seconds=9), "duration_s": 9.0 + chance.random()}
        end |= {"outcome": "failed" if bad else "succeeded", "bytes_total": chance.randrange(1 << 40)}
        yield line("run_finished", 9, run.as_row() | end)
        yield line(
            "snapshot_created",
            10,
            about | {"snapshot_id": run.run_id, "repository": "mirror", "created_at": event.format_at(started)},
        )


def fill(home: Home, size_bytes: int) -> int:
    """Folds journals in, as the product does, until the index is that large; returns how many events it holds."""
    history, lines, events = History(home), day_by_day(Random(7)), 0
    began = time.monotonic()
    runs = RUNS_IN_A_JOURNAL if size_bytes > 20 * MEGABYTE else 100
    while not home.history.exists() or home.history.stat().st_size < size_bytes:
        journal = Journal(home.journal)  # an ended one, by the time it is read
        journal.append("bench_began", {})
        journal.close()
        with open(journal.path, "ab") as file:
            for _, text in zip(range(runs * 10), lines, strict=False):
                file.write(text)
                events += 1
        while not history.ingest(force=True):
            pass
        journal.path.unlink()
        size = home.history.stat().st_size / MEGABYTE
        print(f"\r{events:,} events, {size:,.0f} MB, {time.monotonic() - began:,.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    history.close()
    return events


def rows_of(size: str, notes: Notes) -> list[tuple[str, ...]]:
    def milliseconds(values: list[float]) -> list[str]:
        return [f"{percentile(values, percent) * 1000:,.1f}" for percent in (50, 95, 99)]

    rows = [
        (size, kind, f"{len(seconds):,}", *milliseconds(seconds), f"{max(seconds) * 1000:,.0f}")
        for kind, seconds in sorted(notes.seconds.items())
    ]
    rows += [
        (size, f"age of the newest event, {kind}", f"{len(ages):,}", *milliseconds(ages), f"{max(ages) * 1000:,.0f}")
        for kind, ages in sorted(notes.ages_s.items())
    ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--size", type=int, nargs="+", default=[1, 500], help="MB of history.duckdb")
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    sentences = []
    for size in given.size:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # the disk of the clone, not a tmpfs
            home = Home(Path(folder, "home"))
            home.make()
            events = fill(home, size * MEGABYTE)
            load = os.getloadavg()[0]
            notes = gather(home.path, Crowd(), given.seconds)
            lost, doubled = lost_and_doubled(home.path, notes.written)
        rows += rows_of(f"{size} MB", notes)
        sentences.append(
            f"{size} MB ({events:,} events): {len(notes.failures)} failures; own events seen at once"
            f" {notes.witnessed - len(notes.unseen)} of {notes.witnessed}; {len(notes.written):,} events written,"
            f" {lost} lost, {doubled} doubled; {notes.ingests} ingests (those of shell calls not counted);"
            f" CPU {notes.cpu_s:.0f} s in {given.seconds:.0f} s; load average of the machine before it {load:.1f}."
        )
        print(sentences[-1], *notes.failures[:5], sep="\n", file=sys.stderr)
    publish(
        "crowd",
        "A crowd over one home",
        ("history", "what", "n", "p50 ms", "p95 ms", "p99 ms", "max ms"),
        rows,
        "\n".join(sentences)
        + f"\n\n{given.seconds:.0f} s each. The long query keeps two threads busy for 20 of 30 s, on purpose on as many"
        " cores as there are. Where the load average is well above 0, others had a share of the machine: the times are"
        " too long then.",
    )


if __name__ == "__main__":
    main()
