"""Which part of a snapshot is restored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from backup_ops.engines.rclone.names import display, spellings
from backup_ops.engines.rclone.node import Node
from backup_ops.errors import RestoreRefused, did_you_mean
from backup_ops.quantity import format_count

_LISTED = 10


@dataclass
class Selection:
    """Each in the order of the paths."""

    folders: list[Node]
    symlinks: list[Node]
    files: list[Node]
    """Hard links too."""

    @property
    def written(self) -> Iterator[Node]:
        """All of it."""
        return chain(self.folders, self.symlinks, self.files)

    @property
    def bytes(self) -> int:
        return sum({group_of(node): node.size_bytes for node in self.files}.values())


def select(nodes: dict[bytes, Node], snapshot_id: str, paths: Sequence[str]) -> Selection:
    """What `paths` mean: each and all below it; none or `.` is everything. Raises RestoreRefused for an unknown one."""
    chosen = nodes
    wanted = [os.fsencode(path).strip(b"/").removeprefix(b"./") for path in paths]
    if wanted and b"" not in wanted and b"." not in wanted:
        for number, name in enumerate(wanted):
            found = next((spelled for spelled in spellings(name) if spelled in nodes), None)
            if found is None:
                raise RestoreRefused(
                    f"snapshot {snapshot_id} holds no '{display(name)}'.",
                    hint=did_you_mean(display(name), _beside(name, nodes)) or "`backup-ops ls` shows what it holds.",
                )
            wanted[number] = found
        below = tuple(name + b"/" for name in wanted)
        exact = set(wanted)
        chosen = {path: node for path, node in nodes.items() if path in exact or path.startswith(below)}
    ordered = sorted(chosen.values(), key=lambda node: node.path.split(b"/"))
    return Selection(
        folders=[node for node in ordered if node.kind == "folder"],
        symlinks=[node for node in ordered if node.kind == "symlink"],
        files=[node for node in ordered if node.is_content],
    )


def _beside(path: bytes, nodes: dict[bytes, Node]) -> list[str]:
    """What lies in the folder where `path` should be, or else in the nearest one above it that exists."""
    folder = path.rpartition(b"/")[0]
    while folder and folder not in nodes:
        folder = folder.rpartition(b"/")[0]
    return [display(known) for known in nodes if known and known.rpartition(b"/")[0] == folder]


def stored_at(node: Node) -> str:
    """Where the content lies, below the folder of all runs."""
    return f"{node.stored_run}/{node.stored_path}"


def group_of(node: Node) -> tuple[bytes, int, str]:
    """The same for all names of one hard-linked file, and for nothing else."""
    return node.link_target or node.path, node.inode, stored_at(node)


def stale_notes(selection: Selection) -> tuple[str, ...]:
    """What whoever restores has to know of files that the run could not read."""
    stale = [node for node in selection.files if node.stale is not None]
    if not stale:
        return ()
    first = ", ".join(display(node.path) for node in stale[:_LISTED])
    return (f"{format_count(len(stale))} files are older versions, because the run could not read them: {first}",)
