"""The clock: what it shows, and whether anything of the home was written later than now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from backup_ops.doctor.place import entries
from backup_ops.event import Undecodable, decode, parse_at
from backup_ops.finding import Finding
from backup_ops.home import Home
from backup_ops.quantity import format_duration

AHEAD_BY_S = 120.0


def clock(home: Home) -> Iterator[Finding]:
    now = datetime.now(UTC)
    local = now.astimezone()
    yield Finding("clock", "ok", f"it is {now:%Y-%m-%d %H:%M:%S} UTC, {local:%H:%M:%S %Z (UTC%z)} here.")
    latest = max(((at, name) for name, at in _newest_events(home)), default=None)
    if latest is not None and (ahead_s := (latest[0] - now).total_seconds()) > AHEAD_BY_S:
        yield Finding(
            "clock",
            "warning",
            f"the newest event of journal {latest[1]} is {format_duration(ahead_s)} in the future.",
            "The clock was ahead then, or is behind now. Keep it with NTP: timedatectl set-ntp true",
        )
    written = [entry.stat().st_mtime for entry in entries(home.journal) + entries(home.locks)]
    # An ingester that leaves the gate open for readers dates its lock file a few seconds ahead.
    if written and (ahead_s := max(written) - time.time()) > AHEAD_BY_S:
        yield Finding(
            "clock",
            "warning",
            f"the newest file of the home was written {format_duration(ahead_s)} in the future.",
            "The clock was set back. Events sort by the time they were written with.",
        )


def _newest_events(home: Home) -> Iterator[tuple[str, datetime]]:
    for entry in entries(home.journal):
        if entry.name.endswith(".jsonl"):
            with contextlib.suppress(OSError, Undecodable, KeyError, ValueError), open(entry.path, "rb") as journal:
                journal.seek(max(0, entry.stat().st_size - (64 << 10)))
                lines = journal.read().split(b"\n")
                at = parse_at(decode(lines[-2])["at"]) if len(lines) > 1 else None
                if at is not None:
                    yield entry.name, at
