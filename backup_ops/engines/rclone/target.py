"""The folder restored into. What is put there stays below it, whatever symlinks lie inside."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter

from backup_ops.engines.rclone.names import display
from backup_ops.engines.rclone.node import Node

_ACL = "system.posix_acl_"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """Reached by descriptors, one folder after the other, never through a symlink.

    Visit paths in their order: the folders on the way to the last one stay open for the next.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._open: list[tuple[bytes, int]] = [(b"", os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))]
        self._unset: Counter[str] = Counter()
        self._first_unset: dict[str, bytes] = {}
        self.made: set[bytes] = set()
        """Folders that were not there before."""

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop()[1])

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be put back, how often, and where first."""
        found = []
        for what, count in self._unset.items():
            paths = "1 path" if count == 1 else f"{count:,} paths"
            found.append(f"{what} of {paths} could not be set, first {display(self._first_unset[what]) or '.'}")
        return tuple(found)

    def is_occupied(self, path: bytes) -> bool:
        """Whether a folder with something in it stands there now."""
        try:
            folder, name = self._parent(path, make=False)
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=folder)
        except OSError:
            return False
        try:
            return bool(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def make_folder(self, path: bytes) -> None:
        self._descend(path, make=True)

    def put(self, staged: bytes, path: bytes) -> None:
        """Moves a finished file or symlink to its place in one step."""
        folder, name = self._parent(path, make=True)
        with contextlib.suppress(OSError):
            # Only an empty folder goes away here; that there is no other was checked before anything was written.
            os.rmdir(name, dir_fd=folder)
        os.rename(staged, name, dst_dir_fd=folder)

    def finish_folder(self, node: Node) -> None:
        """Rights and times of a folder, when all is in it."""
        self._apply(self._descend(node.path, make=True), node)

    def finish(self, staged: bytes, node: Node) -> None:
        """Owner, rights, attributes and times of a staged file or symlink."""
        self._apply(staged, node)

    def miss(self, what: str, path: bytes) -> None:
        self._unset[what] += 1
        self._first_unset.setdefault(what, path)

    def _apply(self, place: bytes | int, node: Node) -> None:
        # The order matters: a change of owner clears setuid and capabilities, a mode changes an ACL's mask, and writing
        # an attribute needs rights that the mode may take away.
        follows = isinstance(place, int)  # a descriptor is the thing itself, and may not be told otherwise
        try:
            os.chown(place, node.uid, node.gid, follow_symlinks=follows)
        except OSError:
            status = os.stat(place, follow_symlinks=follows)
            if (status.st_uid, status.st_gid) != (node.uid, node.gid):
                self.miss("Owner", node.path)
        attributes = node.xattrs or {}
        self._set_attributes(
            place, node, {name: value for name, value in attributes.items() if not name.startswith(_ACL)}
        )
        if node.kind != "symlink":
            with contextlib.suppress(OSError):
                os.chmod(place, node.mode)
            if stat.S_IMODE(os.stat(place).st_mode) != node.mode:
                self.miss("Mode", node.path)
            self._drop_inherited_acls(place, attributes)
        self._set_attributes(place, node, {name: value for name, value in attributes.items() if name.startswith(_ACL)})
        try:
            os.utime(place, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=follows)
        except OSError:
            self.miss("Time", node.path)

    def _set_attributes(self, place: bytes | int, node: Node, attributes: dict[str, bytes]) -> None:
        for name, value in attributes.items():
            try:
                if isinstance(place, int):
                    os.setxattr(place, name, value)
                else:
                    os.setxattr(place, name, value, follow_symlinks=False)
            except (OSError, AttributeError):  # AttributeError: a system without them
                self.miss(f"Attribute {name}", node.path)

    def _drop_inherited_acls(self, place: bytes | int, attributes: dict[str, bytes]) -> None:
        # A default ACL of the folder restored into would give rights that the file never had.
        with contextlib.suppress(OSError, AttributeError):
            for name in os.listxattr(place):
                if name.startswith(_ACL) and name not in attributes:
                    os.removexattr(place, name)

    def _parent(self, path: bytes, *, make: bool) -> tuple[int, bytes]:
        folder, _, name = path.rpartition(b"/")
        return self._descend(folder, make=make), name

    def _descend(self, folder: bytes, *, make: bool) -> int:
        while not _is_at_or_below(folder, self._open[-1][0]):
            os.close(self._open.pop()[1])
        here, descriptor = self._open[-1]
        rest = folder[len(here) :].strip(b"/")
        for name in rest.split(b"/") if rest else ():
            here = here + b"/" + name if here else name
            descriptor = self._enter(descriptor, name, here, make=make)
            self._open.append((here, descriptor))
        return descriptor

    def _enter(self, parent: int, name: bytes, path: bytes, *, make: bool) -> int:
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        except OSError:
            if not make or stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise
            # A file or a symlink stands where the snapshot has a folder; what it points to is left alone.
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.made.add(path)
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)


def _is_at_or_below(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")
