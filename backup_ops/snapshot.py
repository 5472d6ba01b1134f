"""A snapshot: a restorable point in time, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

EntryKind = Literal["file", "folder", "symlink", "hardlink", "other"]
ChangeKind = Literal["new", "deleted", "changed", "moved", "metadata"]
VerifyLevel = Literal["list", "sample", "full"]
VERIFY_LEVELS: tuple[VerifyLevel, ...] = ("list", "sample", "full")


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
    job_uid: str = ""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What is different at one path from one snapshot to another.

    `changed` is other content, or another kind of thing; `moved` the same content, gone from `path_before`; `metadata`
    the same content with another time, mode, owner, attribute or hard link. Sizes are None where there is no content,
    times are nanoseconds since 1970. `kind` is what it is now, or was before it was deleted.
    """

    change: ChangeKind
    path: str
    kind: EntryKind
    path_before: str | None
    bytes_before: int | None
    bytes_after: int | None
    mtime_ns_before: int | None
    mtime_ns_after: int | None


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One thing that is not as it was stored, and the snapshots it is missing from, newest first.

    `path` is that of the snapshots' file, or of a file of the repository's own (`snapshots/….parquet`). `stored` is
    where the content lies in the repository.
    """

    path: str
    what: str
    stored: str | None = None
    snapshots: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a verification looked at, and what it found. Files and bytes count stored content once.

    `damages` holds the first 10,000 of `damages_total`.
    """

    level: VerifyLevel
    repository: str
    snapshots: int
    snapshots_damaged: int
    files: int
    bytes: int
    files_read: int
    bytes_read: int
    damages: tuple[Damage, ...]
    damages_total: int
    duration_s: float
    notes: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        return not self.damages_total

    def __str__(self) -> str:
        """`2 snapshots of 3 are damaged …`, one sentence for an event, an error or a person."""
        looked = f"{_counted(self.snapshots, 'snapshot')}, {_counted(self.files, 'stored file')}"
        if self.level != "list":
            looked += f", {self.files_read:,} of them read"
        if self.is_sound:
            return f"repository {self.repository} is sound: {looked}."
        return (
            f"repository {self.repository} is damaged: {self.damages_total:,} of its files, in"
            f" {self.snapshots_damaged:,} of {self.snapshots:,} snapshots (level {self.level})."
        )


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
