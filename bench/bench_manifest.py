"""What a manifest of a million files costs: its size, writing and reading it, and the diff of two of them."""

from __future__ import annotations

import gc
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from backup_ops.engines.rclone.difference import differences
from backup_ops.engines.rclone.manifest import read_manifest, write_manifest
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.seal import sha256_of
from table import publish, spread

FILES = 1_000_000
FILES_IN_A_FOLDER = 50
REPEATS = 5
WORDS = ("photos", "mail", "invoices", "scans", "src", "report", "holiday", "backup", "notes", "IMG")


def nodes(seed: int) -> list[Node]:
    """A tree as people have them; sums and times are chance, as they are for whoever compresses them."""
    chance = random.Random(seed)
    made = [folder(b"", chance)]
    below = b""
    for number in range(FILES):
        if number % FILES_IN_A_FOLDER == 0:
            below = f"{chance.choice(WORDS)}/{2000 + number // 40_000}/{chance.choice(WORDS)}-{number:07d}".encode()
            made.append(folder(below, chance))
        path = below + f"/{chance.choice(WORDS)}_{chance.randrange(10**5):05d}_{number}.jpg".encode()
        made.append(file(path, f"20261124T0955{chance.randrange(60):02d}-3f9a2c", chance))
    return made


def folder(path: bytes, chance: random.Random) -> Node:
    return Node(path, "folder", 0, now(chance), 0o755, 1000, 1000, chance.randrange(1 << 24), now(chance))


def file(path: bytes, run: str, chance: random.Random) -> Node:
    node = Node(path, "file", chance.randrange(1 << 22), now(chance), 0o644, 1000, 1000, chance.randrange(1 << 24), 0)
    node.ctime_ns = node.mtime_ns
    node.sha256, node.stored_run, node.stored_path = f"{chance.getrandbits(256):064x}", run, path.decode()
    return node


def now(chance: random.Random) -> int:
    return 1_700_000_000 * 10**9 + chance.randrange(10**17)


def changed(before: list[Node], seed: int) -> Iterator[Node]:
    """1 % edited, 0.5 % deleted, 0.5 % moved, 0.5 % new, 0.5 % other rights."""
    chance = random.Random(seed)
    for node in before:
        drawn = chance.random() * 100 if node.kind == "file" else 100.0
        if drawn < 0.5:
            continue
        if drawn < 1.0:
            node.path += b".moved"
        elif drawn < 2.0:
            node.sha256, node.size_bytes, node.mtime_ns = f"{chance.getrandbits(256):064x}", 7, now(chance)
        elif drawn < 2.5:
            node.mode = 0o600
        elif drawn < 3.0:
            yield file(node.path + b".new", "20261125T095500-3f9a2c", chance)
        yield node


def measured(action: Callable[[], object], repeats: int = REPEATS) -> tuple[str, str]:
    """Wall and CPU seconds; on a machine that others use too the second says more."""
    walls, processors = [], []
    for _ in range(repeats):
        gc.collect()
        began, used = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - began)
        processors.append(time.process_time() - used)
    return spread(walls, digits=2), f"{statistics.median(processors):.2f} s"


def main() -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:  # the disk of the clone, not a tmpfs
        before, after = Path(scratch) / "before.parquet", Path(scratch) / "after.parquet"
        made = nodes(1)
        writing = measured(lambda: write_manifest(made, before), repeats=3)
        write_manifest(changed(made, 2), after)
        entries = len(made)
        made.clear()
        size = before.stat().st_size
        proving = measured(lambda: (sha256_of(before), sha256_of(after)))
        found: list[int] = []
        comparing = measured(lambda: found.append(sum(1 for _ in differences(before, after))))
        reading = measured(lambda: read_manifest(before), repeats=3)
        rows = [
            ("size", f"{size / 1e6:.1f} MB", "", f"{size / entries:.0f} bytes for each path"),
            ("writing it", *writing, "sorted by path, zstd"),
            ("reading it into Python", *reading, "a run does, and a restore"),
            ("proving two of them", *proving, "sha256 against the seal"),
            ("diff of two of them", *comparing, f"{statistics.median(found):,.0f} changes"),
        ]
        load = f"Load average when it ended: {os.getloadavg()[0]:.1f}."
        publish(
            "manifest",
            f"A manifest of {FILES:,} files",
            ("what", "wall (lowest to highest)", "CPU", "note"),
            rows,
            load,
        )


if __name__ == "__main__":
    main()
