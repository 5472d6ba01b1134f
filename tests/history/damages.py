"""What can happen to the files of a home. Each damage is done to the file in its place, as a disk or a person would."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from told import line_of

from backup_ops.history import ledger, segments
from backup_ops.home import Home

BLOCK = 4096


@dataclass(frozen=True)
class Damage:
    """One way to damage: `aim` finds what it can be done to, `strike` does it."""

    target: str
    way: str
    aim: Callable[[Home], list[Path]]
    strike: Callable[[Path, random.Random], None]

    def __str__(self) -> str:
        return f"{self.target}: {self.way}"


# --- to bytes


def bit(path: Path, chance: random.Random) -> None:
    if size := path.stat().st_size:
        offset = chance.randrange(size)
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            if byte:
                file.seek(offset)
                file.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))


def zeroed(path: Path, chance: random.Random) -> None:
    """A block of zeros in the place of another, which is what a disk gives back that lost a write."""
    size = path.stat().st_size
    begin = chance.randrange(max(1, size)) // BLOCK * BLOCK
    with open(path, "r+b") as file:
        file.seek(begin)
        file.write(bytes(min(BLOCK, size - begin)))


def truncated(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(max(1, path.stat().st_size)))


def truncated_at_line(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(data[:-1]) if byte == 10)]
    os.truncate(path, chance.choice(ends))


def emptied(path: Path, _: random.Random) -> None:
    os.truncate(path, 0)


def deleted(path: Path, _: random.Random) -> None:
    path.unlink()


def text(path: Path, _: random.Random) -> None:
    with open(path, "r+b") as file:
        file.truncate()
        file.write(b"this is no database\n" * 500)


def garbage(path: Path, chance: random.Random) -> None:
    with open(path, "ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 3000)))


def nuls(path: Path, chance: random.Random) -> None:
    with open(path, "ab") as file:
        file.write(bytes(chance.randrange(1, 3 * BLOCK)))


def foreign(path: Path, chance: random.Random) -> None:
    """Lines of another home: each of them is as good as ours, and was not written here."""
    with open(path, "ab") as file:
        file.writelines(foreign_line(chance.randrange(FOREIGN)) + b"\n" for _ in range(3))


FOREIGN = 40


def foreign_line(number: int) -> bytes:
    event_id = f"01900000-0000-7000-8000-{number:012x}"
    return line_of("foreign", {"number": number, "text": "of another home"}, event_id=event_id)


def doubled(path: Path, chance: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if lines:
        with open(path, "ab") as file:
            file.write(chance.choice(lines).rstrip(b"\n") + b"\n")


def flushed_twice(path: Path, chance: random.Random) -> None:
    """The end of the file once more."""
    data = path.read_bytes()
    with open(path, "ab") as file:
        file.write(data[chance.randrange(max(1, len(data))) :])


# --- to files


def renamed(path: Path, chance: random.Random) -> None:
    """Into another name that a segment can have, or into one that none can."""
    segment = segments.parse_name(path.name)
    assert segment is not None
    month, seal = ("2001-09", segment.sha256) if chance.random() < 0.5 else (segment.month, chance.randbytes(32).hex())
    path.rename(path.with_name(chance.choice([f"{month}.{seal}.parquet", f"{path.name}.bak"])))


def swapped(path: Path, chance: random.Random) -> None:
    other = chance.choice([other for other in path.parent.iterdir() if other != path] or [path])
    mine, others = path.read_bytes(), other.read_bytes()
    path.write_bytes(others)
    other.write_bytes(mine)


def swept(path: Path, _: random.Random) -> None:
    shutil.rmtree(path)


def swept_inside(path: Path, _: random.Random) -> None:
    for inner in path.iterdir():
        inner.unlink()


def foreign_version(path: Path, _: random.Random) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"version": 99, "what": "of a later backup-ops"}))


def scribbled(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.choice([b"", b"\xff\xfe\x00", b"[1, 2", b"null", b'{"phase": 7, "bytes_done": "x"}']))


# --- what it is done to


def _index(home: Home) -> list[Path]:
    return [home.history]


def _log_of_index(home: Home) -> list[Path]:
    return [Path(f"{home.history}.wal")]


def _segments(home: Home) -> list[Path]:
    return [home.segments / segment.name for segment in segments.present(home.segments)]


def journals_of(home: Home) -> list[Path]:
    return sorted(path for path in home.journal.glob("*.jsonl") if path.name != ledger.FILE)


def _ledger(home: Home) -> list[Path]:
    return [home.journal / ledger.FILE]


def _of(folder: str, pattern: str) -> Callable[[Home], list[Path]]:
    return lambda home: sorted((home.path / folder).glob(pattern))


def _named(*names: str) -> Callable[[Home], list[Path]]:
    return lambda home: [home.path / name for name in names]


_OF_BYTES = (bit, zeroed, truncated, emptied, deleted)
_OF_LINES = (
    bit, zeroed, truncated, truncated_at_line, garbage, nuls, emptied, deleted, foreign, doubled, flushed_twice,
)  # fmt: skip

DAMAGES: tuple[Damage, ...] = tuple(
    Damage(target, strike.__name__, aim, strike)
    for target, aim, strikes in (
        ("index", _index, (*_OF_BYTES, text)),
        ("wal", _log_of_index, (bit, truncated, deleted, garbage)),
        ("segment", _segments, (*_OF_BYTES, renamed, swapped)),
        ("journal", journals_of, _OF_LINES),
        ("ledger", _ledger, _OF_LINES),
        ("queue", _of("queue", "*.json"), (truncated, garbage, emptied, foreign_version, scribbled)),
        ("claim", _of("queue", "*.claim"), (scribbled,)),
        ("cancel", _of("queue", "*.cancel"), (scribbled,)),
        ("progress", _of("runs", "*/progress.json"), (scribbled, truncated, deleted)),
        ("folders", _named("runs", "locks"), (swept,)),
        ("locks", _named("locks"), (swept_inside,)),
        ("logs", _of("logs", "*"), (bit, truncated, deleted)),
    )
    for strike in strikes
)
"""All but an older index that is put back: for that one must have kept it."""


def fitting(home: Home, targets: tuple[str, ...]) -> dict[str, list[Damage]]:
    """By target, what can be done to this home now."""
    found: dict[str, list[Damage]] = {}
    for damage in DAMAGES:
        if damage.target in targets and any(path.exists() for path in damage.aim(home)):
            found.setdefault(damage.target, []).append(damage)
    return found
