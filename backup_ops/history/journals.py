"""The journals as bytes: which files there are, and the complete lines that lie past what is folded in."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backup_ops.errors import HomeError
from backup_ops.event import MAX_LINE_BYTES
from backup_ops.journal import SUFFIX

CHUNK_BYTES = 4 << 20
_SHOWN_BYTES = 1 << 20
_MARK_BYTES = 128


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
    try:
        with os.scandir(folder) as entries:
            return {e.name: e.stat().st_size for e in entries if e.name.endswith(SUFFIX) and e.is_file()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(folder, error) from None


def unread(folder: Path, known: Mapping[str, Position], now: Mapping[str, int], *, limit_bytes: int) -> Portion:
    """The next complete lines of the journals, about `limit_bytes` of them. A torn last line is left where it is."""
    portion = Portion()
    for name in sorted(now):
        if now[name] == known.get(name, _START).read_to:
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


def _mark(descriptor: int, read_to: int) -> int:
    begin = max(0, read_to - _MARK_BYTES)
    return zlib.crc32(os.pread(descriptor, read_to - begin, begin)) if read_to else 0


def _unreadable(path: Path, error: OSError) -> HomeError:
    return HomeError(
        f"journal {path} cannot be read: {error.strerror}.",
        hint="Make it readable for this user; its events are missing.",
    )
