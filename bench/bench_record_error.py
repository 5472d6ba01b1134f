"""What `ops.record_error` costs its caller, beside one SQLite commit for each event on the same disk, interleaved."""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import backup_ops
from table import percentile, publish

ROUNDS = 40
EACH = {"fast": 100, "durable": 25}
"""Calls in a row for each kind of case in a round; a disk's fdatasync takes ten times as long as all the rest."""

TEXT = "connection to nas timed out after 30 s"
COLUMNS = ("error_id", "at", "severity", "component", "job", "message", "details", "stack_trace")


def raised(depth: int = 12) -> OSError:
    """An error with the stack of a call `depth` functions deep."""
    try:
        _sink(depth)
    except OSError as error:
        return error
    raise AssertionError


def _sink(depth: int) -> None:
    if depth:
        _sink(depth - 1)
    raise OSError(110, "Connection timed out", "/mnt/nas/photos")


def sqlite_writer(path: Path, synchronous: str) -> Callable[[], object]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"CREATE TABLE errors ({', '.join(COLUMNS)})")
    statement = f"INSERT INTO errors VALUES ({', '.join('?' * len(COLUMNS))})"
    number = 0

    def write() -> None:
        nonlocal number
        number += 1
        details = json.dumps({"host": "nas", "attempt": 3})
        row = (f"{number:032x}", time.time(), "LOW", "storage", "photos", TEXT, details, None)
        connection.execute(statement, row)  # a transaction of its own

    return write


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    (folder / "jobs.yaml").write_text(
        f"version: 1\nrepositories:\n  mirror: {{engine: rclone, url: {folder}/mirror}}\n"
        f"jobs:\n  photos: {{source: {folder}/photos, repository: mirror}}\n",
        encoding="utf-8",
    )
    ops = backup_ops.open(folder)
    error = raised()

    def record(what: object, severity: str) -> Callable[[], object]:
        return lambda: ops.record_error(what, severity, "storage", job="photos", details={"host": "nas", "attempt": 3})

    cases: dict[str, tuple[str, Callable[[], object]]] = {
        "record_error, LOW, a text": ("fast", record(TEXT, "LOW")),
        "record_error, LOW, an exception with its traceback": ("fast", record(error, "LOW")),
        "SQLite, one commit, synchronous=NORMAL": ("fast", sqlite_writer(folder / "normal.sqlite", "NORMAL")),
        "record_error, HIGH (durable), a text": ("durable", record(TEXT, "HIGH")),
        "record_error, HIGH (durable), an exception with its traceback": ("durable", record(error, "HIGH")),
        "SQLite, one commit, synchronous=FULL (durable)": ("durable", sqlite_writer(folder / "full.sqlite", "FULL")),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, (kind, call) in cases.items():
            for _ in range(EACH[kind]):
                began = time.perf_counter_ns()
                done = call()
                took = (time.perf_counter_ns() - began) / 1000
                assert done is not None or name.startswith("SQLite"), "an error was not recorded"
                if number:  # the first round warms what is loaded on first use
                    times[name].append(took)
    ops.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # the disk of the clone, not a tmpfs
        times = measure(Path(folder), rounds)
    rows = [
        (
            name,
            f"{len(took):,}",
            f"{percentile(took, 50):.1f} µs",
            f"{percentile(took, 99):.1f} µs",
            f"{statistics.fmean(took):.1f} µs",
        )
        for name, took in times.items()
    ]
    publish(
        "record_error",
        "One error recorded",
        ("call", "n", "p50", "p99", "mean"),
        rows,
        f"{rounds} rounds, the cases one after another in each. SQLite: WAL, one connection kept open, one row and one"
        " commit for each event. Targets of record_error: 50 µs p50 and 1 ms p99 for a text, 1 ms with a traceback.",
    )


if __name__ == "__main__":
    main()
