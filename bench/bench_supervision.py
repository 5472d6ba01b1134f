"""What supervision costs: the same rclone command, bare and through `Tool`, in CPU seconds."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from backup_ops.engines.process import Tool, allowed_environment
from backup_ops.engines.rclone.binary import find_binary
from table import publish, spread

PAIRS = 12
SHAPES = {"2,000 files of 4 KiB": (2_000, 4 << 10), "40 files of 8 MiB": (40, 8 << 20)}
ENVIRONMENT = allowed_environment({"RCLONE_CONFIG": "/dev/null"})


def cpu_seconds() -> float:
    """Of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def bare(argv: list[str]) -> None:
    subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def supervised(argv: list[str]) -> None:
    lines: list[bytes] = []
    ended = Tool(argv, environment=ENVIRONMENT, on_stderr=lines.append).run()
    assert ended.exit_code == 0, ended


def measure(source: Path, target: Path) -> dict[str, list[tuple[float, float]]]:
    argv = [
        str(find_binary()), "copy", str(source), str(target), "--use-json-log", "--stats", "500ms",
        "--stats-log-level", "NOTICE", "--retries", "1",
    ]  # fmt: skip
    measured: dict[str, list[tuple[float, float]]] = {"bare": [], "supervised": []}
    for pair in range(PAIRS + 1):
        for name, call in (
            (("bare", bare), ("supervised", supervised)) if pair % 2 else (("supervised", supervised), ("bare", bare))
        ):
            shutil.rmtree(target, ignore_errors=True)
            before, began = cpu_seconds(), time.perf_counter()
            call(argv)
            if pair:  # the first pair warms the cache
                measured[name].append((cpu_seconds() - before, time.perf_counter() - began))
    return measured


def main() -> None:
    rows = []
    for shape, (count, size_bytes) in SHAPES.items():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            source, target = Path(folder, "source"), Path(folder, "target")
            source.mkdir()
            random = Random(1)
            for number in range(count):
                (source / f"{number:05}").write_bytes(random.randbytes(size_bytes))
            measured = measure(source, target)
        ratios = [after[0] / before[0] for before, after in zip(measured["bare"], measured["supervised"], strict=True)]
        for name, times in measured.items():
            ratio = spread(ratios, "×", 2) if name == "supervised" else ""
            rows.append(
                (
                    shape,
                    name,
                    spread([cpu for cpu, _ in times], digits=2),
                    f"{statistics.median(wall for _, wall in times):.2f} s",
                    ratio,
                )
            )
    publish(
        "supervision",
        "rclone, bare and supervised",
        ("copies", "how", "CPU: median (lowest to highest)", "wall", "supervised / bare, by pair"),
        rows,
        f"The same argv, {PAIRS} pairs, the order alternating. CPU: rclone and the Python waiting for it.",
    )


if __name__ == "__main__":
    sys.exit(main())
