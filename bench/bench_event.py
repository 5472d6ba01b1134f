"""What it costs to record one event: Journal.append, from the call to the return."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from backup_ops.journal import Journal
from table import percentile, publish

SMALL = {"run_id": "20261124T095501-3f9a2c", "job": "photos"}
ERROR = {
    "severity": "HIGH",
    "component": "engine",
    "error_type": "permission_denied",
    "message": "3 of 140 files could not be read (permission denied): scans/scan-002.pdf and 2 more",
    "job": "scans",
    "run_id": "20261124T095501-3f9a2c",
    "stack_trace": "Traceback (most recent call last):\n" + '  File "runner.py", line 1, in perform\n' * 30,
    "remedy": "Grant this user read access, or exclude the path in jobs.yaml.",
}
CASES = (
    ("small event", SMALL, False, 50_000),
    ("error with a stack trace", ERROR, False, 20_000),
    ("bytes that are no UTF-8", {"message": b"caf\xe9 \xff" * 20}, False, 10_000),
    ("error, durable (fdatasync)", ERROR, True, 1_000),
)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # the disk of the clone, not a tmpfs
        for name, fields, durable, count in CASES:
            journal = Journal(Path(folder))
            times = []
            began = time.perf_counter()
            for _ in range(count):
                at = time.perf_counter_ns()
                journal.append("error_recorded", fields, durable=durable)
                times.append((time.perf_counter_ns() - at) / 1000)
            rate = count / (time.perf_counter() - began)
            journal.close()
            rows.append(
                (
                    name,
                    f"{count:,}",
                    f"{percentile(times, 50):.1f} µs",
                    f"{percentile(times, 99):.1f} µs",
                    f"{rate:,.0f}",
                )
            )
    publish("event", "One event recorded", ("event", "n", "p50", "p99", "events/s"), rows)


if __name__ == "__main__":
    main()
