"""Rebuilding history.duckdb from the journals: beside the old file, then in its place, by one process."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path

import duckdb

from backup_ops.history.guard import Guard
from backup_ops.history.ingest import Ingested, fold_in
from backup_ops.history.instance import connect, create, identity
from backup_ops.history.trouble import meaning
from backup_ops.home import Home

_SWAP_WAIT_S = 30.0
_INDEX = "new"
QUARANTINED_KEPT = 3


def rebuild(
    home: Home, *, instead_of: tuple[int, int] | None, is_damaged: bool, wait_s: float
) -> list[Ingested] | None:
    """Makes a new index and puts it in the place of the file that had the identity `instead_of` (None: of nothing).

    A damaged file is kept beside, as history.broken-TIME.duckdb; an outdated one is replaced. None: somebody else has
    just done it. Raises HistoryBusy when another process is at it for longer than `wait_s`, OSError when the home
    cannot be written to.
    """
    guard = Guard(home)
    with guard.ingesting(wait_s):
        if identity(home.history) != instead_of:
            return None
        for stale in home.path.glob("history.new-*.duckdb*"):
            stale.unlink(missing_ok=True)
        new = home.path / f"history.new-{uuid.uuid4().hex}.duckdb"
        try:
            batches = _build(home, new)
            with guard.writing(_SWAP_WAIT_S):
                _put_aside(home, keep=is_damaged)
                new.replace(home.history)
        except BaseException as error:
            for path in (new, Path(f"{new}.wal")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            told = meaning(error, home.history) if isinstance(error, duckdb.Error) else None
            if told is not None:
                raise told from error
            raise
    return batches


def _build(home: Home, new: Path) -> list[Ingested]:
    batches: list[Ingested] = []
    with connect() as connection:
        create(connection, new, _INDEX)
        while not batches or not batches[-1].is_complete:
            batches.append(fold_in(connection, home, _INDEX))
        connection.execute(f"DETACH {_INDEX}")
    os.chmod(new, 0o600)
    return batches


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
