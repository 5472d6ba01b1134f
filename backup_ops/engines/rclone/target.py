"""The folder restored into, and the staging folder in it. No symlink inside leads what is put there elsewhere."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from pathlib import Path

from backup_ops.engines.rclone.names import RESTORE_STAGING, display
from backup_ops.engines.rclone.node import Node

_ACL = "system.posix_acl_"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A symlink or a file, where a folder was to be opened.
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)
# Of a program: what it may do with these was meant for its owner, and not for whoever restored it.
_RUNS_AS_OWNER = stat.S_ISUID | stat.S_ISGID
# Trees may be deeper than a process may have open files.
_MAX_OPEN = 64

# What a restore that was killed leaves in its target; the next one that may overwrite takes it away.
STAGING = RESTORE_STAGING.decode("ascii")
_STAGING_NAME = re.compile(re.escape(STAGING) + r"[0-9a-f]{8}")
_LOCK = "lock"


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
        except OSError as error:
            if error.errno in (errno.ENOENT, *_NO_FOLDER):
                return False
            raise
        try:
            return bool(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def make_folder(self, path: bytes) -> None:
        self._descend(path, make=True)

    def put(self, staged: bytes, node: Node) -> None:
        """Moves a finished file or symlink to its place in one step."""
        folder, name = self._parent(node.path, make=True)
        with contextlib.suppress(OSError):
            # Only an empty folder goes away here; that there is no other was checked before anything was written.
            os.rmdir(name, dir_fd=folder)
        try:
            os.rename(staged, name, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._put_across(staged, folder, name, node)

    def _put_across(self, staged: bytes, folder: int, name: bytes, node: Node) -> None:
        # A mount point in the target: whole and finished beside its place, then in one step like any other.
        beside = f"{STAGING}{secrets.token_hex(4)}".encode()
        try:
            if node.kind == "symlink":
                os.symlink(os.readlink(staged), beside, dir_fd=folder)
                by_descriptor = b"/proc/self/fd/%d" % folder
                above = by_descriptor if os.path.isdir(by_descriptor) else self._full(node.path.rpartition(b"/")[0])
                self._apply(above + b"/" + beside, node)
            else:
                options = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                copy = os.open(beside, options, 0o600, dir_fd=folder)
                with open(copy, "wb") as stream, open(staged, "rb") as source:
                    shutil.copyfileobj(source, stream, 1 << 20)
                    stream.flush()
                    self._apply(copy, node)
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            if isinstance(error, OSError) and error.filename in (None, beside):
                error.filename = self._full(node.path)
            raise
        os.unlink(staged)
        if node.kind == "hardlink":
            self.miss("Hard link", node.path)

    def _full(self, path: bytes) -> bytes:
        return self._path + b"/" + path if path else self._path

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
        mode = node.mode
        try:
            os.chown(place, node.uid, node.gid, follow_symlinks=follows)
        except OSError:
            status = os.stat(place, follow_symlinks=follows)
            if (status.st_uid, status.st_gid) != (node.uid, node.gid):
                self.miss("Owner", node.path)
                if node.kind != "folder":  # there setgid is who owns what comes into it
                    mode &= ~_RUNS_AS_OWNER
        attributes = node.xattrs or {}
        self._set_attributes(
            place, node, {name: value for name, value in attributes.items() if not name.startswith(_ACL)}
        )
        if node.kind != "symlink":
            with contextlib.suppress(OSError):
                os.chmod(place, mode)
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
            if len(self._open) > _MAX_OPEN:  # the root stays; from there the others are found again
                os.close(self._open.pop(1)[1])
        return descriptor

    def _enter(self, parent: int, name: bytes, path: bytes, *, make: bool) -> int:
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as error:
            if not make or error.errno not in _NO_FOLDER:
                raise
            # A file or a symlink stands where the snapshot has a folder; what it points to is left alone.
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.made.add(path)
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)


class Staging:
    """A folder in the target for what is not proven yet, locked as long as its restore lives."""

    def __init__(self, target: Path) -> None:
        """Removes what restores that are over have left, and makes a new one. Raises OSError."""
        for name in os.listdir(target):
            if _STAGING_NAME.fullmatch(name):
                _remove_leftover(target / name)
        self._descriptor = -1
        while self._descriptor < 0:
            self.path = os.fsencode(target / f"{STAGING}{secrets.token_hex(4)}")
            os.mkdir(self.path, 0o700)
            self._lock()

    def _lock(self) -> None:
        # Another restore may have seen the folder before it was locked, and be taking it away.
        try:
            descriptor = _open_lock(self.path)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(descriptor), os.stat(self.path + b"/" + _LOCK.encode()))
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        except OSError:
            is_ours = True  # a file system without locks; there no leftover is ever removed
        if is_ours:
            self._descriptor = descriptor
        else:
            os.close(descriptor)

    def remove(self) -> None:
        """May be called again."""
        remove_tree(self.path)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_lock(folder: bytes) -> int:
    above = os.open(folder, _OPEN_FOLDER)
    try:
        return os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=above)
    finally:
        os.close(above)


def _remove_leftover(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if os.lstat(folder).st_uid != os.geteuid():
            return  # not ours, and whoever owns it could lead us elsewhere
        descriptor = _open_lock(os.fsencode(folder))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(os.fsencode(folder))
        finally:
            os.close(descriptor)


def remove_tree(folder: bytes) -> None:
    """All that can be removed. Neither the stack nor the open files limit the depth."""
    folders = [folder]
    for here in folders:
        with contextlib.suppress(OSError):
            with os.scandir(here) as looking:
                entries = list(looking)
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
    for here in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(here)


def _is_at_or_below(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")
