"""What DuckDB's errors mean for the index: held by somebody, newer than we are, damaged, or the machine's fault.

Only what shows that the bytes of the file are wrong is damage, and leads to a rebuild. Everything else has a sentence
of its own, and the file is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from backup_ops.errors import BackupError, HistoryBusy, HistoryDamaged, HistoryNewer, HomeError

_HELD_BY_OTHER = "Could not set lock"
_HELD_HERE = ("Unique file handle conflict", "different configuration", "already attached")
_NEWER = re.compile(r"version number \d+, but we can only read versions? |newer version of DuckDB|WAL version")
_DAMAGED = (
    "Corrupt database file",
    "Could not read enough bytes",
    "Failure while replaying WAL",
    "Corrupt WAL file",
    "not a valid DuckDB database file",
)
_NOT_ABOUT_BYTES = (duckdb.InvalidInputException, duckdb.BinderException, duckdb.ParserException)
"""Errors that carry a user's own words, which may be any."""

_FREE_SPACE = "Free space. Nothing is lost: the journals hold every event."
_MACHINE: tuple[tuple[str, str, str], ...] = (
    ("No space left", "the disk that holds it is full", _FREE_SPACE),
    ("Disk quota exceeded", "the quota of its disk is used up", _FREE_SPACE),
    ("Permission denied", "permission denied", "Make it readable and writable for this user."),
    ("Read-only file system", "its file system is read-only", "Mount the home read-write."),
    ("Too many open files", "this process has too many files open", "Close some, or raise `ulimit -n`."),
    ("Cannot allocate memory", "no memory is left", "End something else, or try again later."),
    ("Input/output error", "its disk fails to read or write", "Check the disk: dmesg, smartctl -a."),
)  # fmt: skip


class HeldHere(HistoryBusy):
    """This process has the file open by other means; waiting for it would be waiting for oneself."""


def meaning(error: duckdb.Error, path: Path) -> BackupError | None:
    """The error that this one is about the index at `path`, or None when it is not about the file."""
    text = str(error)
    if isinstance(error, _NOT_ABOUT_BYTES):
        return None
    if _HELD_BY_OTHER in text:
        holder = re.search(r"held in (.+?)(?: by user \S+)? \(PID (\d+)\)", text)
        who = f"process {holder[2]} ({Path(holder[1]).name})" if holder else "another process"
        return HistoryBusy(
            f"{path} is held open by {who}, which is no backup-ops.",
            hint="Close its connection; ops.reading() instead of duckdb.connect() shares the file. Nothing is lost.",
        )
    if any(words in text for words in _HELD_HERE):
        return HeldHere(
            f"{path} is held open by this very process, through duckdb.connect().",
            hint="Close that connection; ops.reading() gives one that shares the file. Nothing is lost.",
        )
    if _NEWER.search(text):
        return HistoryNewer(
            f"{path} was written by a newer DuckDB than this one ({duckdb.__version__}).",
            hint="Use the newer environment, or update duckdb here. The file is left as it is.",
        )
    for words, what, hint in _MACHINE:
        if words in text:
            return HomeError(f"{path} cannot be used: {what}.", hint=hint)
    if any(words in text for words in _DAMAGED) and ("enough bytes" not in text or path.name in text):
        return HistoryDamaged(f"{path} is damaged: {text.splitlines()[0]}")
    return None
