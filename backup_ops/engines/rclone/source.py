"""The source: which folders a job reads, and what is in them now."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup_ops.engines.base import ItemFailure, RunContext
from backup_ops.engines.rclone.exclude import Exclude
from backup_ops.engines.rclone.names import display
from backup_ops.engines.rclone.node import Node, node_of
from backup_ops.errors import EngineError
from backup_ops.failure import failure_of, failure_of_os_error
from backup_ops.progress import Progress

_TELL_EVERY_S = 0.3
_KEPT_IN_NOTE = 5
# A change within the clock tick in which the file was last looked at leaves its times as they are: up to 10 ms on
# kernels before 6.13, two seconds on FAT and some network file systems.
FRESH_NS = 2_000_000_000


@dataclass
class Scan:
    """What was found: `nodes` by path. `unread` are folders whose content could not be listed."""

    started_ns: int
    nodes: dict[bytes, Node] = field(default_factory=dict)
    unread: list[bytes] = field(default_factory=list)
    failures: list[ItemFailure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> int:
        return sum(node.is_content for node in self.nodes.values())


class Source:
    """The folders a job reads. One: its content lies directly in a snapshot. Several: each under its own name."""

    def __init__(self, paths: Sequence[str], exclude: Sequence[str]) -> None:
        """Raises EngineError when a path cannot be a source; nothing is read but the folders themselves."""
        self.roots: dict[bytes, Path] = {}
        if not paths:
            raise EngineError(failure_of("config_invalid", "the job names no source.", "Name a folder under 'source'."))
        for text in paths:
            path = Path(os.path.abspath(os.path.expanduser(text)))
            _check_folder(path)
            name = os.fsencode(path.name) if len(paths) > 1 else b""
            if len(paths) > 1 and (not name or name in self.roots):
                raise EngineError(
                    failure_of(
                        "config_invalid",
                        f"source {path} needs a name of its own in the snapshot, and '{path.name}' is taken or empty.",
                        "Give the other source to a job of its own.",
                    )
                )
            self.roots[name] = path
        self._excludes = {name: Exclude(exclude, str(root)) for name, root in self.roots.items()}

    def __str__(self) -> str:
        return ", ".join(str(root) for root in self.roots.values())

    def full_path(self, path: bytes) -> bytes:
        """Where a path of the snapshot lies now."""
        if b"" in self.roots:
            return os.path.join(os.fsencode(self.roots[b""]), path) if path else os.fsencode(self.roots[b""])
        name, _, rest = path.partition(b"/")
        root = os.fsencode(self.roots[name])
        return os.path.join(root, rest) if rest else root

    def scan(self, context: RunContext, repository: Path | None) -> Scan:
        """Reads the tree, not the content. Does not follow symlinks and does not enter the repository."""
        return _Scanning(self, context, repository).scan(self._excludes)


def _check_folder(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise EngineError(failure_of("source_missing", f"source {path} does not exist.")) from None
    except OSError as error:
        raise EngineError(failure_of_os_error(error, f"source {path} cannot be read: {error.strerror}.")) from None
    if not stat.S_ISDIR(status.st_mode):
        raise EngineError(
            failure_of(
                "config_invalid", f"source {path} is a file, not a folder.", f"Name the folder it is in: {path.parent}"
            )
        )
    try:
        with os.scandir(path):
            pass
    except OSError as error:
        raise EngineError(failure_of_os_error(error, f"source {path} cannot be read: {error.strerror}.")) from None


class _Scanning:
    def __init__(self, source: Source, context: RunContext, repository: Path | None) -> None:
        self._source = source
        self._context = context
        self._repository = _identity(repository)
        self._scratch = _identity(context.scratch)
        self._result = Scan(started_ns=time.time_ns())
        self._hard_links: dict[tuple[int, int], Node] = {}
        self._special: Counter[str] = Counter()
        self._special_paths: list[str] = []
        self._files = 0
        self._bytes = 0
        self._told_at = 0.0

    def scan(self, excludes: dict[bytes, Exclude]) -> Scan:
        for name, root in self._source.roots.items():
            full = os.fsencode(root)
            self._add(node_of(name, full, os.stat(full), "folder"))
            self._walk(name, full, excludes[name])
        for kind, count in self._special.items():
            self._result.notes.append(f"{count:,} {kind} not stored: only files, folders and links are.")
        if self._special_paths:
            self._result.notes.append(f"Not stored: {', '.join(self._special_paths)}")
        return self._result

    def _walk(self, root_path: bytes, root_full: bytes, exclude: Exclude) -> None:
        # An explicit stack: a tree can be deeper than Python's recursion goes.
        stack = [(root_path, root_full)]
        skip = len(root_path) + 1 if root_path else 0
        while stack:
            folder, full = stack.pop()
            try:
                with os.scandir(full) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    self._fail(folder, error, "its content cannot be listed")
                    self._result.unread.append(folder)
                continue
            below: list[tuple[bytes, bytes]] = []
            for entry in found:
                path = folder + b"/" + entry.name if folder else entry.name
                self._tell(path)
                try:
                    self._look(path, entry, exclude, path[skip:], below)
                except FileNotFoundError:
                    continue  # deleted since the folder was listed: it is not there any more, and that is all
                except OSError as error:
                    self._fail(path, error, "it cannot be looked at")
            stack.extend(reversed(below))

    def _look(
        self,
        path: bytes,
        entry: os.DirEntry[bytes],
        exclude: Exclude,
        below_root: bytes,
        below: list[tuple[bytes, bytes]],
    ) -> None:
        status = entry.stat(follow_symlinks=False)
        is_folder = stat.S_ISDIR(status.st_mode)
        if exclude.matches(below_root, is_folder):
            return
        if is_folder:
            if (status.st_dev, status.st_ino) == self._scratch:
                return  # where this very run keeps its papers: they change and vanish while it goes on
            if (status.st_dev, status.st_ino) == self._repository:
                self._result.notes.append(f"Not stored: {display(path)}, the repository itself.")
                return
            self._add(node_of(path, entry.path, status, "folder"))
            below.append((path, entry.path))
        elif stat.S_ISLNK(status.st_mode):
            self._add(node_of(path, entry.path, status, "symlink"))
        elif stat.S_ISREG(status.st_mode):
            self._add_file(path, entry.path, status)
        else:
            self._special[_special_kind(status.st_mode)] += 1
            if len(self._special_paths) < _KEPT_IN_NOTE:
                self._special_paths.append(display(path))

    def _add_file(self, path: bytes, full: bytes, status: os.stat_result) -> None:
        node = node_of(path, full, status, "file")
        self._files += 1
        self._bytes += node.size_bytes
        if status.st_nlink > 1:
            first = self._hard_links.setdefault((status.st_dev, status.st_ino), node)
            if first is not node:
                self._bytes -= node.size_bytes
                node.kind, node.link_target = "hardlink", first.path
        self._add(node)

    def _add(self, node: Node) -> None:
        self._result.nodes[node.path] = node

    def _fail(self, path: bytes, error: OSError, what: str) -> None:
        name = display(path) or str(self._source)
        failure = failure_of_os_error(error, f"{name}: {what}: {error.strerror}.")
        self._result.failures.append(ItemFailure(name, failure))

    def _tell(self, path: bytes) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self._context.check()
            self._context.on_progress(
                Progress(phase="reading", files_done=self._files, bytes_done=None, item=display(path))
            )


def _identity(folder: Path | None) -> tuple[int, int] | None:
    if folder is None or not folder.is_dir():
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino


def _special_kind(mode: int) -> str:
    for is_kind, name in (
        (stat.S_ISSOCK, "sockets"),
        (stat.S_ISFIFO, "pipes"),
        (stat.S_ISCHR, "devices"),
        (stat.S_ISBLK, "devices"),
    ):
        if is_kind(mode):
            return name
    return "special files"
