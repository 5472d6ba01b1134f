"""The file system below a path: what it is called, where it is mounted, and whether other machines write to it too.

Locks and appends of several processes are what a home stands on. File systems that are shared over a network promise
them between the processes of one machine at best, and some only say that they do.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

_MOUNTS = "/proc/self/mountinfo"
_NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "glusterfs", "kafs", "lustre", "ncpfs", "nfs",
    "nfs4", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf",
}  # fmt: skip
_NETWORK_FUSE = {
    "afs", "beegfs", "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "curlftpfs", "davfs", "davfs2", "gcsfuse",
    "geesefs", "glusterfs", "goofys", "google-drive-ocamlfuse", "gvfsd-fuse", "httpdirfs", "juicefs", "lizardfs",
    "mfs", "moosefs", "mount-s3", "mountpoint-s3", "nfs", "onedriver", "rclone", "s3backer", "s3fs", "seaweedfs",
    "smbnetfs", "sshfs", "vmhgfs-fuse", "weed",
}  # fmt: skip
"""What follows `fuse.` in the type; a plain `fuse` is judged by its source."""


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: `type` as the kernel calls it (`ext4`, `nfs4`, `fuse.sshfs`), `point` where it lies."""

    device: tuple[int, int]
    point: str
    type: str
    source: str
    options: str = ""

    @property
    def is_network(self) -> bool:
        kind, _, below = self.type.partition(".")
        if kind in ("fuse", "fuseblk"):
            # `fuse` alone tells nothing (davfs2, sshfs of old): what is mounted has an address, or a device.
            is_remote = re.match(r"\w[\w+.-]*://|[^/\s:]+:|//", self.source) is not None
            return below in _NETWORK_FUSE or (not below and is_remote)
        if kind == "9p":
            # Windows' drives under WSL, and real networks. The root of a sandbox (gVisor) is 9p too, and no network.
            return "aname=drvfs" in self.options or "trans=tcp" in self.options
        return kind in _NETWORK


def mount_of(path: str | os.PathLike[str], mounts: Iterable[Mount] | None = None) -> Mount | None:
    """The mount that `path`, or the nearest folder above that is there, lies on. None where the system does not say.

    Looks at the path and at nothing else: a dead mount elsewhere holds nobody up.
    """
    there = nearest = os.path.realpath(path)
    status = None
    while status is None:
        try:
            status = os.stat(nearest)
        except (FileNotFoundError, NotADirectoryError):
            nearest = os.path.dirname(nearest)
        except OSError:
            break
    known = list(read_mounts() if mounts is None else mounts)
    device = None if status is None else (os.major(status.st_dev), os.minor(status.st_dev))
    # btrfs gives its subvolumes devices of their own, that no mount has: then the place must do.
    same = [mount for mount in known if mount.device == device and device is not None]
    return _nearest(there, same) or (same[0] if same else _nearest(there, known))


def network_mount_of(path: str | os.PathLike[str]) -> Mount | None:
    """The mount of `path` when it is a network's, else None. Costs one stat on a disk of this machine."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError):
        if os.major(os.stat(path).st_dev) != 0:  # a block device; what comes over a network has none
            return None
    mount = mount_of(path)
    return mount if mount is not None and mount.is_network else None


def read_mounts(text: str | None = None) -> list[Mount]:
    """What is mounted, in the order of mounting: of two at one point the later hides the earlier."""
    if text is None:
        try:
            with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError:
            return []
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        about, of = before.split(" "), after.split(" ")
        if not separator or len(about) < 5 or len(of) < 2:
            continue
        major, _, minor = about[2].partition(":")
        if major.isdigit() and minor.isdigit():
            found.append(Mount((int(major), int(minor)), _plain(about[4]), of[0], _plain(of[1]), " ".join(of[2:])))
    return found


def _nearest(path: str, mounts: Iterable[Mount]) -> Mount | None:
    above = [m for m in mounts if path == m.point or path.startswith(m.point.rstrip("/") + "/")]
    longest = max((len(mount.point) for mount in above), default=0)
    return next((mount for mount in reversed(above) if len(mount.point) == longest), None)


def _plain(text: str) -> str:
    r"""The kernel writes space, tab, newline and backslash as `\040` and so on."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
