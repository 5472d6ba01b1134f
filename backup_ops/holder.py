"""Holders: the processes that hold a file locked or open now, as the kernel tells (Linux; elsewhere nobody is seen)."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    pid: int
    is_exclusive: bool = True

    @property
    def name(self) -> str:
        """What the process is called, or `?` when it is gone or hidden."""
        try:
            return (_PROC / str(self.pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return "?"

    @property
    def is_stopped(self) -> bool:
        """Whether it stands still (Ctrl-Z, SIGSTOP, a debugger) and will let go of nothing by itself."""
        try:
            status = (_PROC / str(self.pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] in ("T", "t")

    @property
    def uid(self) -> int | None:
        """The user it runs as, or None when it is gone or hidden."""
        try:
            about = (_PROC / str(self.pid) / "status").read_text(encoding="utf-8", errors="replace")
            return int(about.partition("\nUid:")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


def lock_holders(path: Path) -> list[Holder]:
    """Who holds a flock on the file; who only waits for it does not count."""
    return holders_among([path]).get(path, [])


def holders_among(paths: Iterable[Path]) -> dict[Path, list[Holder]]:
    """Those of the files on which somebody holds a flock, and who does, all at one moment."""
    held: defaultdict[str, list[Holder]] = defaultdict(list)
    try:
        lines = (_PROC / "locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:  # 1: FLOCK  ADVISORY  WRITE 733 fe:00:131081 0 EOF
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK":
            held[words[5]].append(Holder(int(words[4]), words[3] == "WRITE"))
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
            if place in held:
                found[path] = held[place]
    return found


def openers(path: Path) -> list[Holder]:
    """Other processes that have the file open, as far as this user may see them."""
    wanted = os.path.realpath(path)
    return [Holder(pid) for pid in _pids() if pid != os.getpid() and wanted in _open_files(pid)]


def _pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir(_PROC):
            if name.isdigit():
                yield int(name)


def _open_files(pid: int) -> set[str]:
    """By the names of the links, which cost no look at the file: one on a dead mount would hold us up."""
    found: set[str] = set()
    folder = f"{_PROC}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"{folder}/{name}"))
    return found
