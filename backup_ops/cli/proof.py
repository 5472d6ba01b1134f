"""`verify` and `diff`: whether what is stored is what was stored, and what changed."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from backup_ops.cli.cells import counted, printable
from backup_ops.cli.shell import Shell
from backup_ops.cli.snapshots import asked, progress
from backup_ops.quantity import format_bytes, format_duration
from backup_ops.snapshot import Change, Damage, Verified

_SIGNS = {"new": "+", "deleted": "-", "changed": "~", "moved": ">", "metadata": "m"}
_SHOWN_SNAPSHOTS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def verify(shell: Shell, arguments: Namespace) -> int:
    with progress(shell, f"verify {arguments.job or arguments.repository}") as look:
        if arguments.repository is None:
            verified = shell.ops.verify(arguments.job, level=arguments.level, on_progress=look)
        else:
            verified = asked(shell, arguments).verify(arguments.level, on_progress=look)
    for note in verified.notes:
        shell.notice(note)
    if shell.as_json:
        shell.say_object(_as_data(verified))
    else:
        for damage in verified.damages:
            shell.say(printable(_of_damage(damage)))
        if verified.damages_total > len(verified.damages):
            shell.say(f"… and {verified.damages_total - len(verified.damages):,} more, which are not listed.")
        if not (shell.is_quiet and verified.is_sound):
            shell.say(f"{verified} Took {format_duration(verified.duration_s)}.")
    return 0 if verified.is_sound else 1


def _as_data(verified: Verified) -> dict[str, Any]:
    facts = {name: getattr(verified, name) for name in Verified.__dataclass_fields__}
    damages = [{name: getattr(damage, name) for name in Damage.__dataclass_fields__} for damage in verified.damages]
    return facts | {"is_sound": verified.is_sound, "damages": damages}


def _of_damage(damage: Damage) -> str:
    shown = ", ".join(damage.snapshots[:_SHOWN_SNAPSHOTS])
    more = len(damage.snapshots) - _SHOWN_SNAPSHOTS
    whose = f" (in {shown}{f' and {more:,} older' if more > 0 else ''})" if damage.stored else ""
    return f"{damage.path}: {damage.what}{whose}"


def diff(shell: Shell, arguments: Namespace) -> int:
    changes = asked(shell, arguments).diff(arguments.before, arguments.after)
    if shell.as_json:
        shell.say_rows(_row(change) for change in changes)
        return 0
    counts: Counter[str] = Counter()
    for change in _counting(changes, counts):
        shell.say(printable(_of_change(change)))
    if not shell.is_quiet:
        kinds = [f"{counts[kind]:,} {kind}" for kind in _SIGNS if counts[kind]]
        shell.say(f"{counted(counts.total(), 'change')}: {', '.join(kinds)}." if kinds else "Nothing changed.")
    return 0


def _counting(changes: Iterator[Change], counts: Counter[str]) -> Iterator[Change]:
    for change in changes:
        counts[change.change] += 1
        yield change


def _of_change(change: Change) -> str:
    was, now = change.bytes_before, change.bytes_after
    sizes = [format_bytes(size) for size in (was, now) if size is not None]
    size = " -> ".join(sizes if was != now or len(sizes) < 2 else sizes[:1])
    origin = f"{change.path_before} -> " if change.path_before is not None else ""
    folder = "/" if change.kind == "folder" else ""
    return f"{_SIGNS[change.change]} {origin}{change.path}{folder}{f'  ({size})' if size else ''}"


def _row(change: Change) -> dict[str, Any]:
    return {
        "change": change.change,
        "path": change.path,
        "kind": change.kind,
        "path_before": change.path_before,
        "bytes_before": change.bytes_before,
        "bytes_after": change.bytes_after,
        "mtime_before": _time(change.mtime_ns_before),
        "mtime_after": _time(change.mtime_ns_after),
    }


def _time(time_ns: int | None) -> datetime | None:
    return None if time_ns is None else _EPOCH + timedelta(microseconds=time_ns // 1000)
