"""A snapshot: a restorable point in time, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

EntryKind = Literal["file", "folder", "symlink", "hardlink", "other"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """`snapshot_id` is the id of the run that made it. Not `is_complete`: files were left out."""

    snapshot_id: str
    job: str
    created_at: datetime
    files: int
    bytes: int
    bytes_added: int = 0
    is_complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One path in a snapshot. `path` is relative, as the bytes on disk said it (surrogateescape where not UTF-8)."""

    path: str
    kind: EntryKind
    bytes: int
    modified_at: datetime
    mode: int
    link_target: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did, or with `dry_run` would do. `notes` say what could not be put back (owner without root)."""

    snapshot_id: str
    target: str
    files: int
    folders: int
    links: int
    bytes: int
    duration_s: float
    dry_run: bool
    notes: tuple[str, ...] = ()
