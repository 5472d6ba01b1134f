"""The marker: the file that makes a folder a repository, and says whose it is."""

from __future__ import annotations

import contextlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops.engines.base import Owner
from backup_ops.engines.rclone.binary import Rclone
from backup_ops.engines.rclone.seal import Damaged, seal, unseal
from backup_ops.errors import EngineError
from backup_ops.event import format_at
from backup_ops.failure import failure_of, failure_of_os_error
from backup_ops.job import Repository

FORMAT = 1
MARKER = "backup_ops.json"
_NEW_MARKER = f".{MARKER}."


def location_of(setting: Repository) -> Path:
    """The folder. Raises EngineError for what this version does not store on."""
    if setting.password is not None:
        # Never store in plain what somebody asked to have encrypted.
        raise refused(
            f"repository '{setting.name}' asks for encryption (password); this version of engine rclone has none.",
            "Take 'password' out to store files as they are, on a disk that is encrypted itself.",
        )
    if setting.folder is None:
        raise refused(
            f"repository '{setting.name}' is at {setting.url}, and this version stores on local folders only.",
            "Name a folder by its full path, for example a mounted disk.",
        )
    return Path(os.path.normpath(setting.folder))


def read_marker(location: Path, rclone: Rclone) -> dict[str, Any] | None:
    """The marker; None when there is none. Raises EngineError when it is damaged or of a newer format."""
    printed = rclone.lines("cat", str(location / MARKER))
    if printed is None:
        return None
    try:
        marker = unseal(b"\n".join(printed) + b"\n")
    except Damaged as error:
        message = f"the marker {location / MARKER} is damaged: {error}."
        remedy = "Put it back from another copy of the repository. Nothing is read or written until then."
        raise EngineError(failure_of("repository_corrupt", message, remedy)) from None
    check_format(f"repository {location}", marker)
    if marker.get("engine") != "rclone":
        what = f"repository {location} was made by engine {marker.get('engine')}."
        raise refused(what, "Correct 'engine' in jobs.yaml.")
    return marker


def check_writable(location: Path, rclone: Rclone, owner: Owner, *, known_before: bool) -> dict[str, Any] | None:
    """The marker of a repository this owner may write to; None when one can be created there. Raises EngineError."""
    marker = read_marker(location, rclone)
    if marker is not None:
        _check_owner(location, marker, owner)
        return marker
    if known_before:
        raise missing(
            f"repository {location} held snapshots before, and now {why_missing(location)}. It is not created again.",
            "Mount or connect it. If it is gone for good, give the new one another url in jobs.yaml.",
        )
    # A marker that is being made lies beside its place for a moment.
    if any(not name.startswith(_NEW_MARKER.encode()) for name in rclone.lines("lsf", str(location)) or ()):
        raise refused(
            f"folder {location} is not empty and holds no {MARKER}: it is no repository.",
            "Name a folder that does not exist yet, or an empty one.",
        )
    if not location.is_dir() and not location.parent.is_dir():
        raise missing(
            f"repository {location} cannot be created: {location.parent} does not exist.",
            "Mount the disk, or create the folder above the repository.",
        )
    return None


def create_marker(location: Path, rclone: Rclone, owner: Owner) -> dict[str, Any]:
    """Makes the last folder and the marker in it; the one of a run that was faster holds, if we may write there.

    Raises EngineError.
    """
    marker = {
        "format": FORMAT,
        "product": "backup-ops",
        "engine": "rclone",
        "repository_id": secrets.token_hex(16),
        "created_at": format_at(datetime.now(UTC)),
        "owner": {"host": owner.host, "home_id": owner.home_id},
    }
    rclone.must("mkdir", str(location))
    try:
        _write_new(location / MARKER, seal(marker))
    except FileExistsError:
        faster = read_marker(location, rclone)
        if faster is None:
            raise missing(f"repository {location} vanished while this run began.") from None
        _check_owner(location, faster, owner)
        return faster
    except OSError as error:
        message = f"the marker {location / MARKER} cannot be written: {error.strerror}."
        remedy = "Grant this user write access to it." if isinstance(error, PermissionError) else None
        raise EngineError(failure_of_os_error(error, message, remedy)) from None
    return marker


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
    if found != FORMAT:
        raise refused(f"{thing} has format {found}, and this version reads format {FORMAT}.", "Update backup-ops.")


def why_missing(location: Path) -> str:
    if not location.parent.is_dir():
        return f"{location.parent} does not exist"
    if not location.is_dir():
        return f"{location} does not exist"
    return f"its marker {MARKER} is not there"


def missing(message: str, remedy: str | None = None) -> EngineError:
    return EngineError(failure_of("repository_missing", message, remedy))


def refused(message: str, remedy: str) -> EngineError:
    return EngineError(failure_of("config_invalid", message, remedy))


def _check_owner(location: Path, marker: dict[str, Any], owner: Owner) -> None:
    theirs = Owner(host=marker["owner"]["host"], home_id=marker["owner"]["home_id"])
    if theirs.may_write(owner):
        return
    other = f"host {theirs.host}" if theirs.host != owner.host else f"another home ({theirs.home_id}) on this host"
    raise refused(
        f"repository {location} belongs to {other}; this is host {owner.host}, home {owner.home_id or '-'}.",
        "Two writers would not see each other's runs: give this one a repository of its own. It can restore from here.",
    )
