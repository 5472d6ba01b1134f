"""How long a shell waits: imports and `--help`, each in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from table import publish, spread

PAIRS = 15
COMMAND = str(Path(sysconfig.get_path("scripts")) / "backup-ops")
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import backup_ops": [sys.executable, "-c", "import backup_ops"],
    "from backup_ops import classify": [sys.executable, "-c", "from backup_ops import classify"],
    "from backup_ops import open": [sys.executable, "-c", "from backup_ops import open"],
    "import backup_ops.runner": [sys.executable, "-c", "import backup_ops.runner"],
    "backup-ops --version": [COMMAND, "--version"],
    "backup-ops --help": [COMMAND, "--help"],
    "backup-ops run --help": [COMMAND, "run", "--help"],
}


def seconds(argv: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for argv in CASES.values():
        seconds(argv)  # once for the file cache
    for _ in range(PAIRS):  # alternating, so that a noisy minute meets all alike
        for name, argv in CASES.items():
            measured[name].append(seconds(argv))
    rows = [
        (name, spread([wall for wall, _ in times], digits=3), spread([cpu for _, cpu in times], digits=2))
        for name, times in measured.items()
    ]
    publish(
        "start", "Start-up", ("what", "wall: median (lowest to highest)", "CPU"), rows, f"{PAIRS} rounds, alternating."
    )


if __name__ == "__main__":
    main()
