"""Whose the home is, where it lies, and who may do what with it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from backup_ops import sharing
from backup_ops.filesystem import mount_of
from backup_ops.finding import Finding
from backup_ops.home import Home, user_name


def home_itself(home: Home) -> Iterator[Finding]:
    try:
        status = home.path.stat()
    except FileNotFoundError:
        yield Finding(
            "home",
            "problem",
            f"there is no home at {home.path}.",
            "Make one with `backup-ops init`, or name another with --home.",
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Finding("home", "problem", f"home {home.path} is a file, not a folder.", "Name another with --home.")
        return
    if os.access(home.path, os.R_OK | os.X_OK) and home.is_something_else:
        yield Finding(
            "home",
            "problem",
            f"{home.path} is not a home: other things lie in it, and nothing of a home.",
            "Name another with --home, or make one with `backup-ops init`.",
        )
        return
    mount = mount_of(home.path)
    lies_on = f", on {mount.type} ({mount.source}, mounted at {mount.point})" if mount is not None else ""
    mode = stat.S_IMODE(status.st_mode)
    said = f"{home.path} belongs to user {user_name(status.st_uid)}, mode {mode:04o}{lies_on}"
    if mount is not None and mount.is_network:
        yield Finding(
            "home",
            "problem",
            f"{said}. Locks and appends of several processes are not to be trusted there; every other command refuses.",
            "Move the home to a disk of this machine. Repositories may well lie on that mount.",
        )
    elif mode & 0o077 and home.shared_with() is None:
        yield Finding(
            "home", "warning", f"{said}, open to others.", f"The next command closes it; or: chmod 700 {home.path}"
        )
    else:
        yield Finding("home", "ok", f"{said}.")


def rights(home: Home) -> Iterator[Finding]:
    status = home.path.stat()
    me = user_name(os.geteuid())
    if status.st_uid != os.geteuid():
        gid = home.shared_with()
        if gid is not None and sharing.is_member(gid):
            yield Finding("rights", "ok", f"user {me} may look, as a member of group {sharing.group_name(gid)}.")
        else:
            owner = user_name(status.st_uid)
            yield Finding("rights", "problem", f"user {me} may not use the home of user {owner}.", f"Run as {owner}.")
        return
    found = False
    for path in (home.path, *home.folders):
        if not path.exists():
            if path in home.folders:
                found = True
                yield Finding("rights", "warning", f"{path} is missing.", "The next command makes it anew, empty.")
        elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            found = True
            yield Finding(
                "rights", "problem", f"{path} is not writable by user {me}; {_why_not_writable(path)}.", "Mend that."
            )
    umask = _umask()
    if umask & 0o700:
        found = True
        yield Finding("rights", "problem", f"the umask {umask:04o} takes rights from the owner.", "Set it: umask 022")
    if not found:
        yield Finding("rights", "ok", f"user {me} may read and write everything; the umask is {umask:04o}.")


def _why_not_writable(path: Path) -> str:
    with contextlib.suppress(OSError):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return "its file system is read-only"
    return f"its mode is {stat.S_IMODE(path.stat().st_mode):04o}"


def _umask() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The call that asks for it sets it too, for every thread.
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(text.partition("Umask:")[2].split()[0], 8)
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


def sharing_of(home: Home) -> Iterator[Finding]:
    gid = home.shared_with()
    if gid is None:
        yield Finding("sharing", "ok", "the home is its owner's alone.")
        return
    name = sharing.group_name(gid)
    again = f"Run: backup-ops doctor --share {name}"
    closed, open_secrets = home.amiss_for(gid)
    for path in open_secrets:
        yield Finding(
            "sharing",
            "warning",
            f"{path} is not for group {name} to read, and it may.",
            f"Close it: chmod go= {path}",
        )
    if closed:
        more = f" and {len(closed) - 1:,} more" if len(closed) > 1 else ""
        yield Finding("sharing", "warning", f"group {name} may look, but cannot read {closed[0]}{more}.", again)
    if not closed and not open_secrets:
        yield Finding("sharing", "ok", f"the members of group {name} may look at everything and write nothing.")
