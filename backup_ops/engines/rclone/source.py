"""The source: which folders a job reads, and what is in them now."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup_ops.engines.base import ItemFailure, RunContext
from backup_ops.engines.rclone.exclude import Exclude
from backup_ops.engines.rclone.file_systems import FileSystems
from backup_ops.engines.rclone.names import RESTORE_STAGING, display
from backup_ops.engines.rclone.node import Node, kept_time, node_of, read_xattrs
from backup_ops.errors import EngineError
from backup_ops.failure import failure_of, failure_of_os_error
from backup_ops.progress import Progress

_TELL_EVERY_S = 0.3
_KEPT_IN_NOTE = 5
# What opening a folder without following links says when it is a folder no more.
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HAS_PROC = os.path.isdir("/proc/self/fd")


@dataclass
class Scan:
    """What was found: `nodes` by path. `unread` is what could not be looked at or into, by path.

    `timeless` are files on a file system where a change need not show in ctime, `unsynced` those on one where it can
    show late.
    """

    started_ns: int
    nodes: dict[bytes, Node] = field(default_factory=dict)
    unread: list[bytes] = field(default_factory=list)
    timeless: set[bytes] = field(default_factory=set)
    unsynced: set[bytes] = field(default_factory=set)
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
        root, rest = self._split(path)
        return os.path.join(os.fsencode(root), rest) if rest else os.fsencode(root)

    def open_folder(self, path: bytes) -> int:
        """A descriptor of the folder, reached through folders only: one that became a link raises OSError.

        The source itself may be a link: it is what the job names.
        """
        root, rest = self._split(path)
        descriptor = os.open(root, _FOLDER)
        for name in rest.split(b"/") if rest else ():
            try:
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def lstat(self, path: bytes) -> os.stat_result:
        """What lies there, reached through folders only. Raises OSError."""
        with self._folder_above(path) as (descriptor, name):
            return os.stat(name, dir_fd=descriptor, follow_symlinks=False)

    def open_file(self, path: bytes) -> int:
        """A descriptor to read from, reached through folders only; a pipe does not block. Raises OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._folder_above(path) as (descriptor, name):
            return os.open(name, flags, dir_fd=descriptor)

    @contextlib.contextmanager
    def _folder_above(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        above, _, name = path.rpartition(b"/")
        descriptor = self.open_folder(above)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _split(self, path: bytes) -> tuple[Path, bytes]:
        if b"" in self.roots:
            return self.roots[b""], path
        name, _, rest = path.partition(b"/")
        return self.roots[name], rest

    def scan(self, context: RunContext, repository: Path | None, *, is_synced: bool = True) -> Scan:
        """Reads the tree, not the content. Does not follow symlinks and does not enter the repository.

        Without `is_synced` it can be compared with an earlier scan, and no later one with it.
        """
        return _Scanning(self, context, repository, is_synced).scan(self._excludes)


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
    def __init__(self, source: Source, context: RunContext, repository: Path | None, is_synced: bool) -> None:
        self._source = source
        self._context = context
        # Its folders too: one of them can be mounted below the source by itself.
        folders = (repository, repository / "runs", repository / "snapshots") if repository else ()
        self._repository = {identity for folder in folders if (identity := _identity(folder))}
        self._scratch = _identity(context.scratch)
        self._result = Scan(started_ns=time.time_ns())
        self._file_systems = FileSystems(context) if is_synced else None
        self._hard_links: dict[tuple[int, int], Node] = {}
        self._special: Counter[str] = Counter()
        self._special_paths: list[str] = []
        self._files = 0
        self._bytes = 0
        self._told_at = 0.0

    def scan(self, excludes: dict[bytes, Exclude]) -> Scan:
        for name, root in self._source.roots.items():
            full = os.fsencode(root)
            self._add(node_of(name, full, os.stat(full), "folder", self._xattrs(name, full)))
            self._walk(name, excludes[name])
        for kind, count in self._special.items():
            self._result.notes.append(f"{count:,} {kind} not stored: only files, folders and links are.")
        if self._special_paths:
            self._result.notes.append(f"Not stored: {', '.join(self._special_paths)}")
        return self._result

    def _walk(self, root_path: bytes, exclude: Exclude) -> None:
        # An explicit stack: a tree can be deeper than Python's recursion goes.
        stack = [root_path]
        skip = len(root_path) + 1 if root_path else 0
        while stack:
            folder = stack.pop()
            try:
                # By descriptor, so that a folder which becomes a link meanwhile leads nowhere else.
                descriptor = self._source.open_folder(folder)
            except OSError as error:
                self._not_listed(folder, error)
                continue
            try:
                if self._file_systems is not None:
                    self._file_systems.enter(descriptor)
                stack.extend(reversed(self._list(folder, descriptor, exclude, skip)))
            finally:
                os.close(descriptor)

    def _list(self, folder: bytes, descriptor: int, exclude: Exclude, skip: int) -> list[bytes]:
        """Takes up what is in the folder. Returns the folders in it."""
        try:
            with os.scandir(descriptor) as entries:
                found = sorted((os.fsencode(entry.name), entry) for entry in entries)
        except OSError as error:
            self._not_listed(folder, error)
            return []
        # Attributes can be asked for by path only, and this path keeps meaning the folder that was opened.
        here = b"/proc/self/fd/%d" % descriptor if _HAS_PROC else self._source.full_path(folder)
        below: list[bytes] = []
        for name, entry in found:
            path = folder + b"/" + name if folder else name
            self._tell(path)
            try:
                if self._look(path, here + b"/" + name, entry.stat(follow_symlinks=False), exclude, path[skip:]):
                    below.append(path)
            except FileNotFoundError:
                continue  # deleted since the folder was listed: it is not there any more, and that is all
            except OSError as error:
                self._fail(path, error, "it cannot be looked at")
                self._result.unread.append(path)
        return below

    def _look(self, path: bytes, full: bytes, status: os.stat_result, exclude: Exclude, below_root: bytes) -> bool:
        """Takes up one path. Returns whether it is a folder to look into."""
        is_folder = stat.S_ISDIR(status.st_mode)
        if exclude.matches(below_root, is_folder):
            return False
        if kept_time(status.st_mtime_ns) != status.st_mtime_ns:
            self._result.notes.append(f"{display(path)}: its time is kept as the nearest between 1677 and 2262.")
        if is_folder:
            if (status.st_dev, status.st_ino) == self._scratch:
                return False  # where this very run keeps its papers: they change and vanish while it goes on
            if (status.st_dev, status.st_ino) in self._repository:
                self._result.notes.append(f"Not stored: {display(path)}, the repository itself.")
                return False
            if path.rpartition(b"/")[2].startswith(RESTORE_STAGING):
                self._result.notes.append(f"Not stored: {display(path)}, what a restore has not put in its place yet.")
                return False
            self._add(node_of(path, full, status, "folder", self._xattrs(path, full)))
            return True
        if stat.S_ISLNK(status.st_mode):
            self._add(node_of(path, full, status, "symlink", self._xattrs(path, full)))
        elif stat.S_ISREG(status.st_mode):
            self._add_file(path, full, status)
        else:
            self._special[_special_kind(status.st_mode)] += 1
            if len(self._special_paths) < _KEPT_IN_NOTE:
                self._special_paths.append(display(path))
        return False

    def _xattrs(self, path: bytes, full: bytes) -> dict[str, bytes] | None:
        try:
            return read_xattrs(full)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._fail(path, error, "it is stored without its extended attributes, which cannot be read")
            return None

    def _add_file(self, path: bytes, full: bytes, status: os.stat_result) -> None:
        node = node_of(path, full, status, "file", self._xattrs(path, full))
        if self._file_systems is not None:
            trust = self._file_systems.trust(status.st_dev)
            if trust == "never":
                self._result.timeless.add(path)
            elif trust == "unsynced":
                self._result.unsynced.add(path)
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

    def _not_listed(self, folder: bytes, error: OSError) -> None:
        if error.errno == errno.ENOENT:
            return
        if error.errno in _NO_FOLDER:
            name = display(folder) or str(self._source)
            message = f"{name}: it became a link or a file while the source was read; what was below it is unknown."
            self._result.failures.append(ItemFailure(name, failure_of("source_changed", message)))
        else:
            self._fail(folder, error, "its content cannot be listed")
        self._result.unread.append(folder)

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
