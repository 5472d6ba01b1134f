"""A node: one path of a tree, as the scan finds it and as a manifest keeps it."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, replace

from backup_ops.snapshot import EntryKind

_LAST_NS = 2**63 - 1


@dataclass(slots=True)
class Node:
    """`path` is relative, its bytes as on disk; the root of a single source has the empty path.

    `link_target`: of a symlink what it says, of a hard link the path of the first name of the same file. A file and its
    hard links have `sha256`, `stored_run` and `stored_path` each, once they are stored. `ctime_ns` is None when the
    file was so fresh that a later change might not show in it. `stale` tells why this is an older version of the path.
    """

    path: bytes
    kind: EntryKind
    size_bytes: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int
    inode: int
    ctime_ns: int | None
    link_target: bytes | None = None
    xattrs: dict[str, bytes] | None = None
    sha256: str | None = None
    stored_run: str | None = None
    stored_path: str | None = None
    stale: str | None = None

    @property
    def is_content(self) -> bool:
        return self.kind in ("file", "hardlink")

    def take_content_of(self, other: Node) -> None:
        self.sha256, self.stored_run, self.stored_path = other.sha256, other.stored_run, other.stored_path

    def as_stale(self, reason: str) -> Node:
        return replace(self, stale=reason)

    def looks_like(self, status: os.stat_result) -> bool:
        """Whether the file on disk is the one the scan saw, with nothing changed since."""
        return (
            stat.S_ISREG(status.st_mode)
            and (status.st_size, status.st_ino) == (self.size_bytes, self.inode)
            and kept_time(status.st_mtime_ns) == self.mtime_ns
            and kept_time(status.st_ctime_ns) == self.ctime_ns
        )


def kept_time(time_ns: int) -> int:
    """The nearest time a manifest can hold: 64 bits of nanoseconds end in the year 2262, file systems do not."""
    return min(max(time_ns, -_LAST_NS - 1), _LAST_NS)


def node_of(
    path: bytes, full_path: bytes, status: os.stat_result, kind: EntryKind, xattrs: dict[str, bytes] | None
) -> Node:
    return Node(
        path=path,
        kind=kind,
        size_bytes=status.st_size if kind == "file" else 0,
        mtime_ns=kept_time(status.st_mtime_ns),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        inode=status.st_ino,
        ctime_ns=kept_time(status.st_ctime_ns),
        link_target=os.readlink(full_path) if kind == "symlink" else None,
        xattrs=xattrs,
    )


def read_xattrs(full_path: bytes) -> dict[str, bytes] | None:
    """Extended attributes, ACLs and capabilities among them; None when there are none. Raises OSError."""
    if not hasattr(os, "listxattr"):
        return None
    try:
        found = {}
        for name in os.listxattr(full_path, follow_symlinks=False):
            try:
                found[name] = os.getxattr(full_path, name, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since they were listed
                    raise
        return found or None
    except OSError as error:
        # ENOTSUP: the file system has none. EACCES: the content cannot be read either, and that is reported.
        if error.errno in (errno.ENOTSUP, errno.EACCES):
            return None
        raise
