"""A table on the terminal and under bench/results/, with the machine and the day it was measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def spread(values: Sequence[float], unit: str = "s", digits: int = 3) -> str:
    """`median (lowest to highest)`."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def publish(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], notes: str = "") -> None:
    """Prints the table and keeps it as bench/results/NAME.md; the file before it is replaced."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    text = f"# {title}\n\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}.\n\n" + "\n".join(lines) + "\n"
    if notes:
        text += f"\n{notes.strip()}\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
