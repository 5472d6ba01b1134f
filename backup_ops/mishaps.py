"""Mishaps: what goes wrong with the home itself, told to its journal as errors with a remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from backup_ops import outcome
from backup_ops.errors import JournalFull
from backup_ops.failure import failure_of
from backup_ops.home import Home
from backup_ops.journal import Journal

if TYPE_CHECKING:
    from backup_ops.history.holdings import Lost

_LOGGER = logging.getLogger("backup_ops")


class Mishaps:
    """Usable from any thread. Never raises for a journal that cannot be written: then it is logged."""

    def __init__(self, home: Home, journal: Callable[[], Journal]) -> None:
        self._home = home
        self._journal = journal

    def rejected(self, count: int, reason: str, journal: str) -> None:
        self.record(
            "storage",
            f"{count:,} lines of journal {journal} could not be read ({reason}); they are in the table 'rejected'.",
            'Look at them: backup-ops sql "SELECT * FROM rejected". A failing disk or a foreign writer is likely.',
            severity="HIGH",
        )

    def rebuilt(self, reason: str, was_damaged: bool) -> None:
        self.record(
            "storage",
            f"history.duckdb was made anew from segments and journals: {reason}",
            "If it happens again, check the disk: `dmesg`, `smartctl -a`; `backup-ops doctor` looks at all of it.",
            severity="HIGH" if was_damaged else "LOW",
        )

    def lost(self, lost: Lost) -> None:
        self.record(
            "storage",
            str(lost),
            f"Put a good copy from a backup of this home into {self._home.segments}: the next question takes it in. "
            "Check the disk: `dmesg`, `smartctl -a`.",
            severity="CRITICAL",
        )

    def record(self, component: str, message: str, remedy: str | None = None, severity: str = "MEDIUM") -> None:
        failure = failure_of("unknown", message, remedy, component=component, severity=severity)
        try:
            outcome.record_failure(self._journal(), failure)
        except (JournalFull, OSError) as error:
            _LOGGER.error("%s (this was to be recorded: %s)", error, message)
