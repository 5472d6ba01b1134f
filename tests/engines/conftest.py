from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_of_engines import Bench

from backup_ops.engines import engine_for


@pytest.fixture
def seed() -> int:
    """A new one each time, shown when the test fails; BACKUP_OPS_SEED repeats it."""
    chosen = int(os.environ.get("BACKUP_OPS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"BACKUP_OPS_SEED={chosen}")
    return chosen


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    source = tmp_path / "source"
    made = Bench(tmp_path, engine_for("rclone"), source)
    yield made
    assert threading.active_count() < 20
    assert not any(is_of(tmp_path, pid) for pid in made.tools if pid is not None), "a tool outlived its call"


def is_of(folder: Path, pid: int) -> bool:
    """Whether the process works in the folder: after thousands of tools their numbers are used again by others."""
    try:
        return os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture
def small(bench: Bench) -> Bench:
    """With a source of a few files."""
    (bench.source / "folder").mkdir(parents=True)
    (bench.source / "one").write_bytes(b"one")
    (bench.source / "folder" / "two").write_bytes(b"two" * 1000)
    return bench
