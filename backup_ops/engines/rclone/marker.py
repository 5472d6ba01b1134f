"""The marker: the file that makes a place a repository, and says whose it is."""

from __future__ import annotations

import contextlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops.engines.base import Owner
from backup_ops.engines.rclone import encryption
from backup_ops.engines.rclone.binary import ABSENT, Rclone
from backup_ops.engines.rclone.location import Location
from backup_ops.engines.rclone.seal import Damaged, seal, unseal
from backup_ops.errors import EngineError
from backup_ops.event import format_at
from backup_ops.failure import failure_of, failure_of_os_error

PLAIN_FORMAT = 1
ENCRYPTED_FORMAT = 2
"""Another number, so that a version that knows nothing of encryption refuses the repository and writes nothing there in
plain. All else is the same."""

MARKER = "backup_ops.json"
_NEW_MARKER = f".{MARKER}."
# How long a marker of a run elsewhere, which saw nobody before it, may take to appear on a remote.
_SETTLE_S = 2.0


def read_marker(location: Location, rclone: Rclone) -> dict[str, Any] | None:
    """The marker; None when there is none. Raises EngineError when it is damaged or of a newer format."""
    printed = rclone.lines("cat", location.path(MARKER))
    if printed is None:
        return None
    # Object storage answers for what is not there with nothing, and calls that a success. A marker that was cut to
    # nothing reads the same, but is listed.
    if not printed and location.folder is None and MARKER.encode() not in _files_at(location, rclone):
        return None
    try:
        marker = unseal(b"\n".join(printed) + b"\n")
    except Damaged as error:
        message = f"the marker {location.path(MARKER)} is damaged: {error}."
        remedy = "Put it back from another copy of the repository. Nothing is read or written until then."
        raise EngineError(failure_of("repository_corrupt", message, remedy)) from None
    check_format(f"repository {location}", marker)
    if marker.get("engine") != "rclone":
        what = f"repository {location} was made by engine {marker.get('engine')}."
        raise refused(what, "Correct 'engine' in jobs.yaml.")
    return marker


def _files_at(location: Location, rclone: Rclone) -> list[bytes]:
    return rclone.lines("lsf", "--files-only", location.path()) or []


def check_writable(location: Location, rclone: Rclone, owner: Owner, *, known_before: bool) -> dict[str, Any] | None:
    """The marker of a repository this owner may write to; None when one can be created there. Raises EngineError."""
    marker = read_marker(location, rclone)
    if marker is not None:
        check_owner(location, marker, owner)
        return marker
    if known_before:
        raise missing(
            f"repository {location} held snapshots before, and now {why_missing(location, rclone)}. It is not created"
            " again.",
            "Mount or connect it. If it is gone for good, give the new one another url in jobs.yaml.",
        )
    # A marker that is being made lies beside its place for a moment.
    if any(not name.startswith(_NEW_MARKER.encode()) for name in rclone.lines("lsf", location.path()) or ()):
        raise refused(
            f"folder {location} is not empty and holds no {MARKER}: it is no repository.",
            "Name a folder that does not exist yet, or an empty one.",
        )
    above = _missing_above(location, rclone)
    if above is not None:
        raise missing(
            f"repository {location} cannot be created: {above} does not exist.",
            "Mount the disk, or create the folder above the repository."
            if location.folder is not None
            else "Correct the url, or create the folder or bucket above the repository.",
        )
    _ = location.secret  # one that cannot be had is known before anything is made
    return None


def create_marker(location: Location, rclone: Rclone, owner: Owner) -> dict[str, Any]:
    """Makes the last folder and the marker in it; the one of a run that was faster holds, if we may write there.

    Raises EngineError.
    """
    marker: dict[str, Any] = {
        "format": PLAIN_FORMAT,
        "product": "backup-ops",
        "engine": "rclone",
        "repository_id": secrets.token_hex(16),
        "created_at": format_at(datetime.now(UTC)),
        "owner": {"host": owner.host, "home_id": owner.home_id},
    }
    if location.password is not None:
        marker |= {"format": ENCRYPTED_FORMAT, "encryption": encryption.described(rclone, location)}
    rclone.must("mkdir", location.path())
    if location.folder is None:
        _found_there(location, rclone, marker)
    else:
        _found_here(location.folder, marker)
    founded = read_marker(location, rclone)
    if founded is None:
        raise missing(f"repository {location} vanished while this run began.")
    check_owner(location, founded, owner)
    return founded


def _found_here(folder: Path, marker: dict[str, Any]) -> None:
    """Puts the marker in its place, unless there is one."""
    try:
        _write_new(folder / MARKER, seal(marker))
    except FileExistsError:
        return
    except OSError as error:
        message = f"the marker {folder / MARKER} cannot be written: {error.strerror}."
        remedy = "Grant this user write access to it." if isinstance(error, PermissionError) else None
        raise EngineError(failure_of_os_error(error, message, remedy)) from None


def _found_there(location: Location, rclone: Rclone, marker: dict[str, Any]) -> None:
    """The same on a remote, where nothing can be created only if it is not there.

    Each run that founds puts its marker beside the place, waits until those that began before have done the same, and
    then all of them put the same one in its place: the first by name. Who comes later finds it there.
    """
    own = f"{_NEW_MARKER}{marker['repository_id']}"
    with rclone.scratch_folder() as folder:
        (folder / own).write_bytes(seal(marker))
        try:
            rclone.must("copyto", str(folder / own), location.path(own), "--no-check-dest")
            if rclone.context.cancel.wait(_SETTLE_S):
                rclone.context.check()
            if read_marker(location, rclone) is not None:
                return
            beside = sorted(name.decode() for name in _files_at(location, rclone))
            first = next((name for name in beside if name.startswith(_NEW_MARKER)), own)
            if first != own and rclone.quietly("copyto", location.path(first), str(folder / first)).exit_code in ABSENT:
                return  # whoever put it there has put it in its place by now
            rclone.must("copyto", str(folder / first), location.path(MARKER), "--no-check-dest")
        finally:
            with contextlib.suppress(EngineError):
                rclone.quietly("deletefile", location.path(own), is_stoppable=False)


def replace_marker(location: Location, rclone: Rclone, marker: dict[str, Any]) -> None:
    """Puts another marker into the place of the one there, whole or not at all. Raises EngineError."""
    with rclone.scratch_folder() as folder:
        (folder / MARKER).write_bytes(seal(marker))
        rclone.must("copyto", str(folder / MARKER), location.path(MARKER), "--no-check-dest", is_stoppable=False)


def _write_new(file: Path, content: bytes) -> None:
    """Makes the file whole or not at all. Raises FileExistsError; rclone would replace what is there."""
    beside = file.with_name(f"{_NEW_MARKER}{secrets.token_hex(4)}")
    try:
        with open(beside, "xb", opener=_for_this_user) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(beside, file)
        except FileExistsError:
            raise
        except OSError:  # FAT and some network file systems have no hard links
            with open(file, "xb", opener=_for_this_user) as stream:
                stream.write(content)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def check_format(thing: str, content: dict[str, Any]) -> None:
    """Raises EngineError when the content is of a format this version does not read."""
    found = content.get("format")
    if found not in (PLAIN_FORMAT, ENCRYPTED_FORMAT):
        known = f"formats {PLAIN_FORMAT} and {ENCRYPTED_FORMAT}"
        raise refused(f"{thing} has format {found}, and this version reads {known}.", "Update backup-ops.")


def why_missing(location: Location, rclone: Rclone) -> str:
    """What of the place is not there, as the end of a sentence. Raises EngineError when a remote does not answer."""
    above = _missing_above(location, rclone)
    if above is not None:
        return f"{above} does not exist"
    if not _is_folder(location.path(), location, rclone):
        return f"{location} does not exist"
    return f"its marker {MARKER} is not there"


def _missing_above(location: Location, rclone: Rclone) -> str | None:
    """The folder above the place, if that is not there."""
    if location.folder is not None:
        is_there = location.folder.is_dir() or location.folder.parent.is_dir()
        return None if is_there else str(location.folder.parent)
    above = location.above
    return None if above is None or _is_folder(above, location, rclone) else above


def _is_folder(path: str, location: Location, rclone: Rclone) -> bool:
    if location.folder is not None:
        return Path(path).is_dir()
    return rclone.quietly("lsf", "--max-depth", "1", path).exit_code not in ABSENT


def missing(message: str, remedy: str | None = None) -> EngineError:
    return EngineError(failure_of("repository_missing", message, remedy))


def refused(message: str, remedy: str) -> EngineError:
    return EngineError(failure_of("config_invalid", message, remedy))


def check_owner(location: Location, marker: dict[str, Any], owner: Owner) -> None:
    """Raises EngineError when the repository is somebody else's."""
    theirs = Owner(host=marker["owner"]["host"], home_id=marker["owner"]["home_id"])
    if theirs.may_write(owner):
        return
    other = f"host {theirs.host}" if theirs.host != owner.host else f"another home ({theirs.home_id}) on this host"
    raise refused(
        f"repository {location} belongs to {other}; this is host {owner.host}, home {owner.home_id or '-'}.",
        "Two writers would not see each other's runs: give this one a repository of its own (it can restore from here),"
        " or, if the owner writes no more, take it over: backup-ops run JOB --take-over",
    )
