"""Makes failures real: what this process gives up or mounts for itself and the runners it starts, never for others.

Root reads every file and a large disk is never full. So before the demo's first run this process gives away two rights
of its children, and mounts a small file system in a mount namespace of its own. Both end with the process, even when it
is killed: nothing has to be undone, and no other process sees the mount.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV = 0x4000, 1 << 18, 2, 4
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


class NotPossible(Exception):
    """This machine does not let us; the text is why."""


def forgo_reading_everything(needed: Path) -> None:
    """From now on the children of this process obey file modes, even as root. `needed` must stay writable to them.

    Without effect for a user who has to obey them anyway. Raises NotPossible.
    """
    if os.geteuid() != 0:
        return
    _linux_only("root reads every file")

    def drop() -> None:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)

    # It cannot be taken back: tried in a child first.
    test = ["/bin/sh", "-c", 'test -w "$1" && test -x "$1"', "sh", os.fspath(needed)]
    try:
        able = subprocess.run(test, preexec_fn=drop, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        raise NotPossible("root reads every file, and may not give that up here") from None
    if not able:
        raise NotPossible(f"root reads every file, and could not write to {needed} without that right")
    drop()


def mount_small_disk(folder: Path, size: str) -> None:
    """Mounts an empty tmpfs of that size on the folder, visible to this process and its later children only.

    Raises NotPossible. Call it from the main thread: threads that are there already do not see the mount.
    """
    _linux_only("a small disk cannot be mounted")
    try:
        _call("unshare", _CLONE_NEWNS)
        _call("mount", None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
        _call(
            "mount",
            b"tmpfs",
            os.fsencode(folder),
            b"tmpfs",
            ctypes.c_ulong(_MS_NOSUID | _MS_NODEV),
            f"size={size},mode=0700".encode(),
        )
    except OSError as error:
        raise NotPossible(f"a small disk cannot be mounted by this user here ({error.strerror})") from None


def kill_runner(run_id: str) -> bool:
    """kill -9 for the process of a run, as the kernel does when memory is short. False when it is gone already."""
    found = subprocess.run(
        ["pgrep", "-f", f"backup_ops[.]runner .*{run_id}"], capture_output=True, text=True, check=False
    )
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
            return True
    return False


@contextlib.contextmanager
def somebody_writes_to(path: Path) -> Iterator[None]:
    """While the block lasts, lines are added to the file all the time, as a busy server does to its log."""
    is_over = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not is_over.wait(0.002):
                file.write(b'192.0.2.7 - - "GET /busy.html HTTP/1.1" 200 512\n')

    writer = threading.Thread(target=write, name="writes-to-log", daemon=True)
    writer.start()
    try:
        yield
    finally:
        is_over.set()
        writer.join()


def _linux_only(what: str) -> None:
    if sys.platform != "linux":
        raise NotPossible(f"{what} on {sys.platform}")


def _call(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
