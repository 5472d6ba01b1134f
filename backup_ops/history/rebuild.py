"""Rebuilding history.duckdb from segments and journals: beside the old file, then in its place, by one process."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from backup_ops import sharing
from backup_ops.errors import BackupError, HistoryBusy
from backup_ops.history.guard import Guard
from backup_ops.history.holdings import DAMAGED, HELD, MISSING, UNREADABLE, Lost, states, take_in
from backup_ops.history.ingest import fold_in
from backup_ops.history.instance import Missing, Outdated, attach, connect, create, identity, positions
from backup_ops.history.intake import Rejected
from backup_ops.history.trouble import check_place, meaning
from backup_ops.home import Home

_SWAP_WAIT_S = 30.0
_INDEX = "new"
QUARANTINED_KEPT = 3
_MEMORY, _UNCHECKED = "768MB", "64MB"
"""What DuckDB may take, which it would fill with blocks of the new file that nobody reads again; and how much of it may
lie in the log: a checkpoint takes the longer the larger the file is (bench/results/history.md)."""


def reached(stage: str) -> None:
    """Where a rebuild is; tests put something in its place that kills the process there."""


@dataclass(frozen=True)
class Rebuilt:
    """What the new index was made of. The events of the `lost` segments are not in it."""

    events: int
    journals: int
    segments: int
    lost: tuple[Lost, ...]
    rejected: tuple[Rejected, ...]
    duration_s: float

    @property
    def damaged_segments(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.lost if one.state in (DAMAGED, UNREADABLE))

    @property
    def missing_segments(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.lost if one.state == MISSING)


def rebuild(
    home: Home,
    *,
    instead_of: tuple[int, int] | None,
    is_damaged: bool,
    wait_s: float,
    tell: Callable[[Rebuilt], None],
) -> Rebuilt | None:
    """Makes a new index and puts it in the place of the file that had the identity `instead_of` (None: of nothing).

    A damaged file is kept beside, as history.broken-TIME.duckdb; an outdated one is replaced, unless a segment is
    damaged or missing: then the old index may be all that knows its events, and is kept too. `tell` is called as the
    last step before the new file takes its place: killed in between it is all done and told again. None: somebody else
    has just done it. Raises HistoryBusy when another process is at it for longer than `wait_s`, OSError when the home
    cannot be written to.
    """
    guard = Guard(home)
    with guard.ingesting(wait_s):
        check_place(home.history)
        if identity(home.history) != instead_of:
            return None
        for stale in home.path.glob("history.new-*.duckdb*"):
            stale.unlink(missing_ok=True)
        new = home.path / f"history.new-{uuid.uuid4().hex}.duckdb"
        try:
            rebuilt = _build(home, new)
            reached("built")
            with guard.writing(_SWAP_WAIT_S):
                _check_not_held(home)
                _put_aside(home, keep=is_damaged or bool(rebuilt.lost))
                reached("aside")
                tell(rebuilt)
                reached("told")
                new.replace(home.history)
            reached("swapped")
        except BaseException as error:
            if isinstance(error, FileNotFoundError) and home.path.is_dir() and not new.exists():
                return None  # the folder of locks was removed under us, and who holds the new lock removed our file
            for path in (new, Path(f"{new}.wal")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            told = meaning(error, home.history) if isinstance(error, duckdb.Error) else None
            if told is not None:
                raise told from error
            raise
    return rebuilt


def _check_not_held(home: Home) -> None:
    """Raises HistoryBusy when a foreign program holds the old file: it would write its log beside the new one."""
    with connect() as connection:
        try:
            # Read-only: what is damaged is kept as it is, and no checkpoint of it can fail.
            attach(connection, home.history, "old", read_only=True, wait_s=1.0)
            connection.execute("DETACH old")
        except HistoryBusy:
            raise
        except (Missing, Outdated, BackupError, duckdb.Error):
            return  # it is to be replaced for a reason


def _build(home: Home, new: Path) -> Rebuilt:
    begun = time.monotonic()
    with connect(spill_to=home.path / "spill") as connection:
        connection.execute(f"SET memory_limit = '{_MEMORY}'; SET checkpoint_threshold = '{_UNCHECKED}'")
        create(connection, new, _INDEX)
        lost: list[Lost] = []
        rejected = take_in(connection, home, _INDEX, lost.append, note_missing=True)
        is_complete = False
        while not is_complete:
            batch = fold_in(connection, home, _INDEX, lost.append)
            rejected += batch.rejected
            is_complete = batch.is_complete
        rows = connection.execute(
            f"SELECT (SELECT count(*) FROM {_INDEX}.events) + (SELECT count(*) FROM {_INDEX}.errors)"
        ).fetchone()
        counts = Counter(state for state, _ in states(connection, _INDEX).values())
        read = len(positions(connection, _INDEX))
        connection.execute(f"DETACH {_INDEX}")
    os.chmod(new, sharing.FILE_MODE)
    sharing.let_in(new)
    return Rebuilt(
        events=rows[0] if rows else 0,
        journals=read,
        segments=counts[HELD],
        lost=tuple(lost),
        rejected=tuple(rejected),
        duration_s=time.monotonic() - begun,
    )


def _put_aside(home: Home, *, keep: bool) -> None:
    """The log goes first: DuckDB would replay an old one into a new file."""
    stem = f"history.broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}.duckdb"
    for suffix in (".wal", ""):
        path = Path(f"{home.history}{suffix}")
        with contextlib.suppress(FileNotFoundError):
            if keep:
                path.rename(home.path / f"{stem}{suffix}")
            elif suffix:
                path.unlink()
    for old in sorted(home.path.glob("history.broken-*.duckdb"))[:-QUARANTINED_KEPT]:
        old.unlink(missing_ok=True)
        Path(f"{old}.wal").unlink(missing_ok=True)
