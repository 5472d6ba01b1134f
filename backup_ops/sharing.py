"""Sharing: the members of one Unix group may look at a home, and write nothing in it.

A shared folder has the group, its members' right to read, and the set-group bit, so that what is made in it is the
group's. Whoever makes a file in a home takes the mode from the folder; nobody has to ask anybody else.
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from collections.abc import Iterable
from pathlib import Path

FILE_MODE, SHARED_FILE_MODE = 0o600, 0o640
FOLDER_MODE, SHARED_FOLDER_MODE = 0o700, 0o2750
REMEMBERED_IN = "shared"
_NO_GROUP = (1 << 32) - 1
"""The number that means none to the kernel; every real one is below it."""


def is_shared(folder: str | os.PathLike[str]) -> bool:
    """Whether what is made in the folder is to be readable for its group."""
    try:
        mode = os.stat(folder).st_mode
    except OSError:
        return False
    return mode & (stat.S_ISGID | 0o050) == (stat.S_ISGID | 0o050)


def open_file(path: str | os.PathLike[str], flags: int, *, is_private: bool = False) -> int:
    """Opens a file of a home, close-on-exec; one that is made by this call gets the mode that its folder asks for.

    A private one is its owner's alone wherever it lies.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    try:
        if flags & os.O_CREAT and not is_private and not os.fstat(descriptor).st_mode & 0o040:
            let_in(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def let_in(path: str | os.PathLike[str], descriptor: int | None = None) -> None:
    """Makes a file of ours readable for the group, if its folder is shared. An umask would have kept the group out."""
    if is_shared(os.path.dirname(os.fspath(path)) or "."):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours
            os.chmod(path if descriptor is None else descriptor, SHARED_FILE_MODE)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Sees to a folder of a home: made, if it is not there, with the mode that the folder above asks for."""
    is_open = is_shared(os.path.dirname(os.fspath(path)))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o750 if is_open else FOLDER_MODE)
    if is_open and not is_shared(path):  # an umask was in the way, or whoever made it did not look
        with contextlib.suppress(OSError):
            os.chmod(path, SHARED_FOLDER_MODE)


def is_open_to(gid: int, path: Path) -> bool:
    """Whether the group may read the file, or what is made in the folder; what is not there is in nobody's way."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(status.st_mode):
        return status.st_gid == gid and is_shared(path)
    return bool(status.st_mode & (0o040 if status.st_gid == gid else 0o004))


def is_open(path: Path) -> bool:
    """Whether anybody but the owner has a right to it."""
    with contextlib.suppress(OSError):
        return bool(path.lstat().st_mode & 0o077)
    return False


def remembered_group(home: str | os.PathLike[str], owner: int) -> int | None:
    """The group that a home's owner said shares it, or None. What anybody else wrote there does not count."""
    path = os.path.join(home, REMEMBERED_IN)
    try:
        status = os.lstat(path)
        if status.st_uid != owner or not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
            return None
        with open(path, encoding="ascii") as file:
            gid = int(file.read(20))
            return gid if 0 <= gid < _NO_GROUP else None
    except (OSError, ValueError):
        return None


def is_member(gid: int) -> bool:
    """Whether this process belongs to the group."""
    return gid == os.getegid() or gid in os.getgroups()


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def remember(home: Path, gid: int) -> None:
    beside = home / f".{REMEMBERED_IN}.{os.getpid()}"
    try:
        beside.write_text(f"{gid}\n", encoding="ascii")
        beside.chmod(SHARED_FILE_MODE)
        os.chown(beside, -1, gid)
        os.replace(beside, home / REMEMBERED_IN)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def forget(home: Path) -> None:
    (home / REMEMBERED_IN).unlink(missing_ok=True)


def open_to(gid: int, folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Gives the files and folders to the group, to read. From the inside out: what is half done is still closed."""
    for path in files:
        _give(path, gid, SHARED_FILE_MODE)
    for path in folders:
        _give(path, gid, SHARED_FOLDER_MODE)


def close_others(paths: Iterable[Path]) -> list[Path]:
    """Takes every right of group and others away, from what is ours. Returns what was open."""
    closed = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if status.st_uid == os.geteuid() and status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode):
                path.chmod(stat.S_IMODE(status.st_mode) & ~0o077)
                closed.append(path)
    return closed


def close_again(gid: int, folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Takes everything back, the outermost first; `gid` is the owner's own group."""
    for path in folders:
        _give(path, gid, FOLDER_MODE)
    for path in files:
        _give(path, gid, FILE_MODE)


def _give(path: Path, gid: int, mode: int) -> None:
    """Never through a link, which may lead out of the home, and never by opening it: that would drop DuckDB's lock."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return
        if status.st_gid != gid:
            os.chown(path, -1, gid)
        path.chmod(mode)  # after the change of the group, which takes the set-group bit away
