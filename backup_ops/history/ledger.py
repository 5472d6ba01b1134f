"""The ledger of the segments: a journal of its own that tells of every segment ever made, and is never compacted.

A segment that is damaged or gone is known by it: its name, and how many events of what time are missed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from backup_ops.history.segments import Sealed, Segment, parse_name
from backup_ops.home import Home
from backup_ops.journal import SUFFIX, Journal, read_events

NAME = "segments"
FILE = NAME + SUFFIX
SEGMENT_SEALED = "segment_sealed"


@dataclass(frozen=True)
class Entry:
    segment: Segment
    events: int
    first_at: str
    last_at: str
    replaces: tuple[str, ...]
    index_id: str
    batch: int
    """The index that had folded all of this when it was sealed, and how many batches were in it then."""

    @property
    def what(self) -> str:
        """What a reader misses without it."""
        return f"{self.events:,} events from {self.first_at} to {self.last_at}"


@contextlib.contextmanager
def writing(home: Home) -> Iterator[Journal]:
    """The ledger, for who holds the ingest lock. Raises JournalFull."""
    with contextlib.closing(Journal(home.journal, name=NAME)) as journal:
        yield journal


def enter(
    journal: Journal,
    sealed: Sealed,
    *,
    index_id: str,
    batch: int,
    replaces: Iterable[Segment] = (),
    journals: int = 0,
) -> None:
    """Durable when it returns: only then may what the segment holds be removed elsewhere. Raises JournalFull."""
    fields = {
        "segment": sealed.segment.name,
        "events": sealed.events,
        "bytes": sealed.size_bytes,
        "first_at": sealed.first_at,
        "last_at": sealed.last_at,
        "replaces": [part.name for part in replaces],
        "journals": journals,
        "index_id": index_id,
        "batch": batch,
    }
    journal.append(SEGMENT_SEALED, fields, durable=True)


def expected(home: Home) -> dict[str, Entry]:
    """The segments that must be there, by name: all that were made and have not been replaced."""
    entries: dict[str, Entry] = {}
    seen: set[str] = set()
    for fields in read_events(home.journal / FILE):
        if fields["id"] in seen:
            continue  # a line that stands there twice must not bring back what was replaced in between
        seen.add(fields["id"])
        entry = _entry(fields) if fields["kind"] == SEGMENT_SEALED else None
        if entry is not None:
            for name in entry.replaces:
                if name != entry.segment.name:
                    entries.pop(name, None)
            entries[entry.segment.name] = entry
    return entries


def _entry(fields: dict[str, Any]) -> Entry | None:
    segment = parse_name(str(fields.get("segment")))
    replaces, events, batch = fields.get("replaces"), fields.get("events"), fields.get("batch")
    if segment is None or not isinstance(replaces, list) or not isinstance(events, int) or not isinstance(batch, int):
        return None  # no line of ours
    first_at, last_at = str(fields.get("first_at")), str(fields.get("last_at"))
    return Entry(segment, events, first_at, last_at, tuple(map(str, replaces)), str(fields.get("index_id")), batch)
