"""The journals as bytes: which files there are, and the complete lines that lie past what is folded in."""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backup_ops.errors import HomeError
from backup_ops.event import MAX_LINE_BYTES
from backup_ops.journal import SUFFIX

CHUNK_BYTES = 4 << 20
_SHOWN_BYTES = 1 << 20
_MARK_BYTES = 128
_CLOCKS_DIFFER_BY_S = 2.0


@dataclass(frozen=True)
class Position:
    """How far a journal is read: the byte after the last complete line, and the CRC-32 of the bytes just before it.

    The mark tells a journal that was rewritten, or restored from a backup, from one that has only grown.
    """

    read_to: int = 0
    mark: int = 0


@dataclass(frozen=True)
class Line:
    file: str
    offset: int
    data: bytes
    clipped_from: int = 0
    """The true length of a line that is too long to be an event; `data` is its beginning."""


@dataclass
class Portion:
    """Lines out of several journals, and the position of each journal once they are taken in."""

    lines: list[Line] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    size_bytes: int = 0
    is_last: bool = True


def sizes(folder: Path) -> dict[str, int]:
    """Every journal of the folder with its size now."""
    return listing(folder, math.inf)[0]


def listing(folder: Path, since_s: float) -> tuple[dict[str, int], set[str]]:
    """Every journal with its size now, and the names of those that were written to from the time `since_s` on."""
    found: dict[str, int] = {}
    recent: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # One that compaction removes just now must not hide the others.
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.endswith(SUFFIX) and entry.is_file():
                        status = entry.stat()
                        found[entry.name] = status.st_size
                        if status.st_mtime >= since_s:
                            recent.add(entry.name)
    except FileNotFoundError:
        return {}, set()
    except OSError as error:
        raise _unreadable(folder, error) from None
    return found, recent


def written_since_s(index: Path) -> float:
    """From when on a journal may have changed without getting longer: since the index was written last, and a bit."""
    try:
        return index.stat().st_mtime - _CLOCKS_DIFFER_BY_S
    except OSError:
        return 0.0


def unread(
    folder: Path,
    known: Mapping[str, Position],
    now: Mapping[str, int],
    *,
    limit_bytes: int,
    recent: Collection[str] = (),
) -> Portion:
    """The next complete lines of the journals, about `limit_bytes` of them. A torn last line is left where it is.

    Those in `recent` are looked into although they are as long as they were: they may have been written anew.
    """
    portion = Portion()
    for name in sorted(now):
        if now[name] == known.get(name, _START).read_to and name not in recent:
            continue
        if portion.size_bytes >= limit_bytes:
            portion.is_last = False
            break
        try:
            _read(folder, name, known.get(name, _START), now[name], limit_bytes, portion)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(folder / name, error) from None
    return portion


_START = Position()


def _read(folder: Path, name: str, known: Position, size: int, limit_bytes: int, portion: Portion) -> None:
    with open(folder / name, "rb", buffering=0) as file:
        start = known.read_to
        if start > size or _mark(file.fileno(), start) != known.mark:
            start = 0  # truncated or rewritten: what is in the index already is known there by its id
        read_to = start
        for line, end in _lines(file.fileno(), name, start, size):
            if line.data:
                portion.lines.append(line)
            portion.size_bytes += end - read_to
            read_to = end
            if portion.size_bytes >= limit_bytes and end < size:
                portion.is_last = False
                break
        if read_to != start or start != known.read_to:
            portion.positions[name] = Position(read_to, _mark(file.fileno(), read_to))


def _lines(descriptor: int, name: str, start: int, size: int) -> Iterator[tuple[Line, int]]:
    """Each complete line without its newline, and the offset after it. Memory is bounded whatever the file holds."""
    buffer, begin, skipped, position = b"", start, 0, start
    while position < size:
        chunk = os.pread(descriptor, min(CHUNK_BYTES, size - position), position)
        if not chunk:
            return
        position += len(chunk)
        *ended, rest = (buffer + chunk).split(b"\n")
        for data in ended:
            end = begin + skipped + len(data) + 1
            if skipped or len(data) > MAX_LINE_BYTES:
                yield Line(name, begin, data[:_SHOWN_BYTES], clipped_from=skipped + len(data)), end
            else:
                yield Line(name, begin, data), end
            begin, skipped = end, 0
        buffer = rest
        if len(buffer) > MAX_LINE_BYTES:
            skipped += len(buffer) - _SHOWN_BYTES
            buffer = buffer[:_SHOWN_BYTES]


def complete_lines(path: Path, read_to: int) -> Iterator[Line]:
    """The lines of one journal up to `read_to`, in their order; empty ones are left out."""
    with open(path, "rb", buffering=0) as file:
        yield from (line for line, _ in _lines(file.fileno(), path.name, 0, read_to) if line.data)


def is_read(path: Path, known: Position) -> bool:
    """Whether all of the journal's bytes are read. A line without an end never is: it may be one that was damaged."""
    with open(path, "rb", buffering=0) as file:
        is_at_end = os.fstat(file.fileno()).st_size == known.read_to
        return is_at_end and _mark(file.fileno(), known.read_to) == known.mark


def _mark(descriptor: int, read_to: int) -> int:
    begin = max(0, read_to - _MARK_BYTES)
    return zlib.crc32(os.pread(descriptor, read_to - begin, begin)) if read_to else 0


def _unreadable(path: Path, error: OSError) -> HomeError:
    return HomeError(
        f"journal {path} cannot be read: {error.strerror}.",
        hint="Make it readable for this user; its events are missing.",
    )
