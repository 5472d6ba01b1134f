"""One backup after another of the same trees, by this engine and by the tools people know: time, memory, room.

`--small FILES --big-mb MB` are for a short try. Every command runs under a process that reaps all it leaves behind, so
that the CPU of a runner that outlives its shell is counted.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from backup_ops.engines.rclone.binary import find_binary
from table import publish

MEGABYTE = 1 << 20
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Measured:
    wall_s: float
    cpu_s: float
    rss_bytes: int

    def __str__(self) -> str:
        return f"{self.wall_s:.2f} / {self.cpu_s:.2f}"


@dataclass
class Contender:
    name: str
    backup: list[list[str]]
    restore: list[list[str]]
    stored: Path
    environment: dict[str, str] = field(default_factory=dict)
    before_each: Callable[[int], None] = lambda _: None


def measure(commands: list[list[str]], environment: dict[str, str]) -> Measured:
    """Of a fresh process, for the memory of the largest child is told once and for all of them."""
    job = json.dumps([commands, environment])
    said = subprocess.run([sys.executable, __file__, "--measure", job], stdout=subprocess.PIPE, check=True).stdout
    return Measured(**json.loads(said))


def measure_here(commands: list[list[str]], environment: dict[str, str]) -> Measured:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
        if done.returncode not in (0, 3):
            sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr.decode()}")
    wall_s = time.perf_counter() - began
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def contenders(source: Path, place: Path) -> Iterator[Contender]:
    rclone, back = str(find_binary()), str(place / "back")
    home = place / "home"
    home.mkdir(mode=0o700)
    (home / "jobs.yaml").write_text(
        f"version: 1\nrepositories: {{here: {{engine: rclone, url: {place / 'ours'}}}}}\n"
        f"jobs: {{tree: {{source: {source}, repository: here}}}}\n"
    )
    ours = [sys.executable, "-m", "backup_ops", "--home", str(home)]
    yield Contender(
        "backup-ops", [[*ours, "run", "tree"]], [[*ours, "restore", "tree", "--target", back]], place / "ours"
    )
    flags = ["--links", "--metadata", "--create-empty-src-dirs"]
    config = {"RCLONE_CONFIG": os.devnull}
    yield Contender(
        "rclone sync",
        [[rclone, "sync", str(source), str(place / "synced"), *flags]],
        [[rclone, "copy", str(place / "synced"), back, *flags]],
        place / "synced", config,
    )  # fmt: skip
    if shutil.which("restic"):
        repository = {"RESTIC_REPOSITORY": str(place / "restic"), "RESTIC_PASSWORD": "bench"}
        repository["RESTIC_CACHE_DIR"] = str(place / "cache")
        subprocess.run(["restic", "init"], env=os.environ | repository, check=True, capture_output=True)
        yield Contender(
            "restic",
            [["restic", "backup", str(source)]],
            [["restic", "restore", "latest", "--target", back]],
            place / "restic", repository,
        )  # fmt: skip
    if shutil.which("rsync"):
        linked = place / "linked"
        linked.mkdir()

        def turn(number: int) -> None:
            latest = linked / "latest"
            if number:
                latest.unlink(missing_ok=True)
                latest.symlink_to(linked / str(number - 1))

        script = (
            'n=0; while [ -e "$0/$n" ]; do n=$((n+1)); done; [ -e "$0/latest" ] && link=--link-dest=../latest; '
            f'rsync -aHAX --delete $link "{source}/" "$0/$n/"'
        )
        yield Contender(
            "rsync --link-dest",
            [["sh", "-c", script, str(linked)]],
            [["sh", "-c", f'rsync -aHAX "$(readlink -f {linked}/latest)/" {back}/']],
            linked, {}, turn,
        )  # fmt: skip


def stored_bytes(folder: Path) -> int:
    seen: set[int] = set()
    total = 0
    for below, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(below, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_size
    return total


def small_tree(source: Path, files: int, random: Random) -> None:
    """As in a home: most files of a few KiB, some of half a MiB; half of the content can be compressed."""
    for number in range(files):
        folder = source / f"{number % 97:02}" / f"{number % 1009:04}"
        folder.mkdir(parents=True, exist_ok=True)
        size = random.randrange(1 << 13) if number % 50 else random.randrange(1 << 19)
        (folder / f"{number}.dat").write_bytes(
            random.randbytes(size) if number % 2 else b"as in a text, " * (size // 14)
        )


def change_small(source: Path, random: Random) -> None:
    paths = sorted(source.rglob("*.dat"))
    for path in random.sample(paths, len(paths) // 100):
        with path.open("ab") as file:
            file.write(random.randbytes(100))


def big_tree(source: Path, megabytes: int, random: Random) -> None:
    source.mkdir()
    for number in range(4):
        with (source / f"image-{number}").open("wb") as file:
            for _ in range(megabytes // 4):
                file.write(random.randbytes(MEGABYTE))


def change_big(source: Path, random: Random) -> None:
    """One percent of the bytes, in one of the four files: as a photo library or a mail folder grows."""
    path = source / "image-2"
    with path.open("r+b") as file:
        for _ in range(max(1, sum(each.stat().st_size for each in source.iterdir()) // (100 * 3 * MEGABYTE))):
            file.seek(random.randrange(max(1, path.stat().st_size - 3 * MEGABYTE)))
            file.write(random.randbytes(3 * MEGABYTE))


def rows_of(
    kind: str, folder: Path, make: Callable[[Path, Random], None], change: Callable[[Path, Random], None]
) -> Iterator[tuple[str, ...]]:
    random = Random(1)
    source = Path(tempfile.mkdtemp(dir=folder)) / "source"
    make(source, random)
    place = source.parent / "place"
    place.mkdir()
    found = list(contenders(source, place))
    measured: dict[str, list[Measured]] = {one.name: [] for one in found}
    sizes: dict[str, list[int]] = {one.name: [] for one in found}
    for number, before in enumerate((None, change, None)):
        if before is not None:
            before(source, random)
            time.sleep(2.1)  # or a file is too young to be trusted by its times
        for one in found:  # all on the same tree
            one.before_each(number)
            subprocess.run(["sync"], check=True)
            measured[one.name].append(measure(one.backup, one.environment))
            sizes[one.name].append(stored_bytes(one.stored))
        if number == 0:
            time.sleep(2.1)
    for one in found:
        one.before_each(3)
        subprocess.run(["sync"], check=True)
        measured[one.name].append(measure(one.restore, one.environment))
        shutil.rmtree(place / "back")
    for one in found:
        first, more, same, back = measured[one.name]
        rss = max(part.rss_bytes for part in measured[one.name])
        room = " → ".join(f"{size / 1e6:,.0f}" for size in sizes[one.name][:2])
        yield kind, one.name, str(first), str(more), str(same), str(back), f"{rss / 1e6:.0f}", room


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--big-mb", type=int, default=4096)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(vars(measure_here(*json.loads(chosen.measure)))))
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        place = Path(folder)
        small = f"{chosen.small:,} small files"
        rows = [*rows_of(small, place, lambda at, chance: small_tree(at, chosen.small, chance), change_small)]
        big = f"4 files, {chosen.big_mb:,} MiB"
        rows += rows_of(big, place, lambda at, chance: big_tree(at, chosen.big_mb, chance), change_big)
    restic = subprocess.run(["restic", "version"], capture_output=True, text=True, check=False).stdout.split()[1:2]
    publish(
        "engine",
        "A first backup, one after 1 % changed, one of nothing new, a restore",
        ("tree", "tool", "first", "+1 %", "nothing changed", "restore", "MB of memory", "MB stored: first → +1 %"),
        rows,
        "Seconds: wall / CPU of everything that the command started. Memory: the largest process. One go each, all\n"
        "tools on the same tree, one after another. backup-ops as the shell has it: queue, runner, journal, the sums\n"
        "of all files and a look at what arrived are in the figures; a restore checks every sum. `rclone sync` keeps\n"
        f"one state, not points in time. restic {' '.join(restic)} compresses and encrypts.\n"
        f"Load average at the end: {os.getloadavg()[0]:.1f}.",
    )


if __name__ == "__main__":
    main()
