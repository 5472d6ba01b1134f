"""The file systems a source lies on, and how soon a change of a file shows in its times on each of them.

What is written through a mapping (mmap) moves ctime only with the first store to a page that is clean: that one is a
fault, which the kernel sees. The page is dirty then, and all that is stored into it until it was written back, up to
half a minute later, moves nothing. So a file can change for ever so often behind a ctime that is long past.

Each file system is therefore synced before the first look at what is on it. The next store to any page is a fault
again, and moves ctime to a time after the sync; a ctime from before it tells of all that happens from then on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from typing import Literal

from backup_ops.engines.base import RunContext

Trust = Literal["synced", "unsynced", "never"]
"""Of `unsynced` ones a change can show late, of `never` ones not at all."""

# A change within the clock tick in which the file was last looked at leaves its times as they are: up to 10 ms on
# kernels before 6.13, two seconds on FAT.
FRESH_NS = 2_000_000_000
# Where nothing was synced, a page that was stored into is clean after Linux's dirty_expire (30 s), one round of what
# writes back (5 s), and a reserve.
UNSYNCED_FRESH_NS = 40_000_000_000
# What moves ctime with the fault. FUSE, ZFS and network file systems do when they write back, and whoever serves them
# can hold dirty pages that no sync of ours reaches; a server that is gone would hold up the run as well. A volatile
# overlay says that it is synced, and does nothing.
_AT_THE_FAULT = {
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3", "vfat", "xfs",
}  # fmt: skip
# They write nothing back, so a page stays dirty for ever.
_IN_MEMORY = {"tmpfs", "ramfs"}
_MOUNTS = "/proc/self/mountinfo"
_CHECK_EVERY_S = 0.2


class FileSystems:
    """Those met by one scan, by the device of their files."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._trust: dict[int, Trust] = {}

    def enter(self, folder: int) -> None:
        """Before what is in the folder (a descriptor) is looked at. Syncs a file system not met before; Stopped."""
        device = os.fstat(folder).st_dev
        if device in self._trust:
            return
        kind = _kind_of(device, folder)
        if kind in _IN_MEMORY:
            self._trust[device] = "never"
        elif kind in _AT_THE_FAULT and self._is_synced(folder):
            self._trust[device] = "synced"
        else:
            self._trust[device] = "unsynced"

    def trust(self, device: int) -> Trust:
        """How far the times of the files there can be believed."""
        if device not in self._trust:
            # Another one than that of the folder it lies in: a file that was mounted by itself.
            self._trust[device] = "never" if _kind_of(device) in _IN_MEMORY else "unsynced"
        return self._trust[device]

    def _is_synced(self, folder: int) -> bool:
        """Whether the file system was synced; Linux only. A disk can take minutes, and the run is stopped meanwhile."""
        done: list[int] = []
        descriptor = os.dup(folder)  # its own: the scan may be gone when the kernel comes back

        def sync() -> None:
            try:
                done.append(ctypes.CDLL(None).syncfs(descriptor))
            except AttributeError:
                done.append(-1)
            finally:
                os.close(descriptor)

        thread = threading.Thread(target=sync, name="syncfs", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_CHECK_EVERY_S)
            self._context.check()
        return done == [0]


def _kind_of(device: int, folder: int | None = None) -> str | None:
    """What the file system is called (`ext4`); None where the system does not say."""
    mount = None if folder is None else _mount_id(folder)
    shown = b"%d:%d" % (os.major(device), os.minor(device))
    found = None
    with contextlib.suppress(OSError, ValueError, IndexError), open(_MOUNTS, "rb") as lines:
        for line in lines:
            about, _, of = line.partition(b" - ")
            words = about.split()
            # btrfs gives its subvolumes devices that no mount has; there only the mount tells.
            if words[0] == mount or words[2] == shown:
                found = of.split()[0].decode("ascii", "replace")
                if words[0] == mount:
                    break
    return found


def _mount_id(descriptor: int) -> bytes | None:
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"mnt_id":
                return value.strip()
    return None
