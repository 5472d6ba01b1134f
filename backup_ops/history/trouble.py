"""What DuckDB's errors mean for the index: held by somebody, newer than we are, damaged, or the machine's fault.

Only what shows that the bytes of the file are wrong is damage, and leads to a rebuild. Everything else has a sentence
of its own, and the file is left alone.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import duckdb

from backup_ops.errors import BackupError, HistoryBusy, HistoryDamaged, HistoryNewer, HomeError
from backup_ops.history.schema import STORAGE_VERSION

_HELD_BY_OTHER = "Could not set lock"
_HELD_HERE = ("Unique file handle conflict", "different configuration", "already attached")
_NEWER = re.compile(r"version number \d+, but we can only read versions? |newer version of DuckDB|WAL version")
_TOO_OLD = f"Invalid Input Error: The version string '{STORAGE_VERSION}' is not a known DuckDB version"
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
_NO_MEMORY = ("no memory is left", "End something else, or try again later.")
_MACHINE: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk that holds it is full", _FREE_SPACE),
    errno.EDQUOT: ("the quota of its disk is used up", _FREE_SPACE),
    errno.EACCES: ("permission denied", "Make it readable and writable for this user."),
    errno.EROFS: ("its file system is read-only", "Mount the home read-write."),
    errno.ENFILE: ("all processes together have too many files open", "End something else, or raise fs.file-max."),
    errno.EMFILE: ("this process has too many files open", "Close some, or raise `ulimit -n`."),
    errno.ENOMEM: _NO_MEMORY,
    errno.EIO: ("its disk fails to read or write", "Check the disk: dmesg, smartctl -a."),
}
"""What the system says when it is neither the file's fault nor ours; DuckDB quotes it in the system's own words.

ENFILE goes before EMFILE: its words begin with those of the other.
"""

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


class HeldHere(HistoryBusy):
    """This process has the file open by other means; waiting for it would be waiting for oneself."""


def meaning(error: duckdb.Error, path: Path) -> BackupError | None:
    """The error that this one is about the index at `path`, or None when it is not about the file."""
    text = str(error)
    if text.startswith(_TOO_OLD):
        return HomeError(
            f"{path} cannot be made by this DuckDB ({duckdb.__version__}): it does not know the format"
            f" {STORAGE_VERSION}.",
            hint="Update duckdb here: pip install --upgrade duckdb. Nothing is lost: the journals hold every event.",
        )
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
    if isinstance(error, duckdb.OutOfMemoryException):
        # A query that outgrew the memory it may use is told in DuckDB's words: they say how much, and what to set.
        return _unusable(path, *_NO_MEMORY) if "Allocation failure" in text else None
    for number, (what, hint) in _MACHINE.items():
        if os.strerror(number) in text:
            return _unusable(path, what, hint)
    if any(words in text for words in _DAMAGED) and ("enough bytes" not in text or path.name in text):
        return HistoryDamaged(f"{path} is damaged: {text.splitlines()[0]}")
    return None


def meaning_of_system(error: OSError, path: Path) -> HomeError | None:
    """The error behind one of the system's about a file at `path`, or None when it is not the machine's trouble."""
    known = _MACHINE.get(error.errno or 0)
    return _unusable(path, *known) if known else None


def check_place(path: Path) -> None:
    """Raises HomeError where something lies at `path` that neither is an index nor may be replaced by one.

    That is a link whose target is not there, as of a disk that is not mounted, and whatever is no file.
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise HomeError(
                f"{path} is a link to {os.readlink(path)}, and that is not there.",
                hint="Mount what it leads to, or remove the link: history.duckdb is made anew from the journals.",
            ) from None
        return
    except OSError:
        return  # opening it will tell what is wrong
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in _KINDS if is_one(mode)), "a device")
        raise HomeError(
            f"{path} is {kind}, not a file.", hint="Move it away: history.duckdb is made anew from the journals."
        )


def _unusable(path: Path, what: str, hint: str) -> HomeError:
    return HomeError(f"{path} cannot be used: {what}.", hint=hint)
