"""What a run has to store: the scan against the job's snapshot before."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backup_ops.engines.rclone.node import Node, kept_time

if TYPE_CHECKING:
    from backup_ops.engines.base import RunContext
    from backup_ops.engines.rclone.source import Scan, Source

_CHUNK_BYTES = 1 << 20


@dataclass
class Comparison:
    """`to_store` are files whose content the repository does not hold yet; all other files know where theirs is."""

    to_store: list[Node] = field(default_factory=list)
    new: list[Node] = field(default_factory=list)
    changed: list[Node] = field(default_factory=list)
    deleted: list[Node] = field(default_factory=list)
    kept: list[Node] = field(default_factory=list)

    @property
    def bytes_to_store(self) -> int:
        return sum(node.size_bytes for node in self.to_store)


def compare(scan: Scan, previous: dict[bytes, Node], source: Source, context: RunContext) -> Comparison:
    """Finds for each file of the scan the content the repository already holds.

    Unchanged is what has the same size, mtime, inode and ctime: a program can set mtime back, but not ctime. When only
    the size is the same, or only the inode at another path (a rename), the content is read and its sha256 decides.
    """
    comparison = Comparison()
    moved_from = {
        (node.inode, node.size_bytes, node.mtime_ns): node
        for node in previous.values()
        if node.kind == "file" and node.sha256
    }
    for node in scan.nodes.values():
        if node.kind != "file":
            continue
        context.check()
        before = previous.get(node.path)
        if before is not None and not before.is_content:
            before = None
        if before is None:
            comparison.new.append(node)
            candidate = moved_from.get((node.inode, node.size_bytes, node.mtime_ns))
        elif _is_unchanged(before, node):
            node.take_content_of(before)
            continue
        else:
            candidate = before if before.size_bytes == node.size_bytes else None
        # Without sha256 the repository has lost the content, and all there is to do is to store it again.
        if (
            candidate is not None
            and candidate.sha256 is not None
            and hash_stable(source, node, context) == candidate.sha256
        ):
            node.take_content_of(candidate)
            continue
        if before is not None and not _has_same_facts(before, node):
            comparison.changed.append(node)
        comparison.to_store.append(node)
    for node in scan.nodes.values():
        if node.kind == "hardlink":
            before = previous.get(node.path)
            if before is None or not before.is_content:
                comparison.new.append(node)
    comparison.kept = _below_unread(scan, previous)
    kept = {node.path for node in comparison.kept}
    comparison.deleted = [
        node
        for node in previous.values()
        if node.is_content and node.path not in kept
        and (node.path not in scan.nodes or not scan.nodes[node.path].is_content)
    ]  # fmt: skip
    return comparison


def moved(comparison: Comparison) -> int:
    """How many of the deleted paths are the same file under another name now."""
    now = {(node.inode, node.size_bytes) for node in comparison.new}
    return sum((node.inode, node.size_bytes) in now for node in comparison.deleted)


def hash_stable(source: Source, node: Node, context: RunContext) -> str | None:
    """The sha256 of a file that is what `node` says before and after it was read; None otherwise."""
    try:
        descriptor = source.open_file(node.path)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        digest = hashlib.sha256()
        try:
            if not node.looks_like(os.fstat(descriptor)):
                return None
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                context.check()
            return digest.hexdigest() if node.looks_like(os.fstat(descriptor)) else None
        except OSError:
            return None


def refreshed(node: Node, status: os.stat_result) -> Node | None:
    """The node with what the file looks like now, or None when it is no file any more."""
    if not stat.S_ISREG(status.st_mode):
        return None
    return replace(
        node,
        size_bytes=status.st_size,
        mtime_ns=kept_time(status.st_mtime_ns),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        inode=status.st_ino,
        ctime_ns=kept_time(status.st_ctime_ns),
    )


def _is_unchanged(before: Node, now: Node) -> bool:
    return before.sha256 is not None and before.ctime_ns is not None and _has_same_facts(before, now)


def _has_same_facts(before: Node, now: Node) -> bool:
    facts = ("size_bytes", "mtime_ns", "inode", "ctime_ns")
    return all(getattr(before, name) == getattr(now, name) for name in facts)


def _below_unread(scan: Scan, previous: dict[bytes, Node]) -> list[Node]:
    """What could not be looked at this time, and what was below it: unknown is not deleted."""
    if not scan.unread:
        return []
    unread = set(scan.unread)
    prefixes = tuple(path + b"/" if path else b"" for path in scan.unread)
    return [
        node
        for node in previous.values()
        if node.path not in scan.nodes
        and (node.path in unread or node.path.startswith(prefixes))
        and (not node.is_content or node.sha256 is not None)
    ]
