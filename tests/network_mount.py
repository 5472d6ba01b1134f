"""Real mounts for tests: a network file system by `rclone mount`, and one whose server never answers."""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import wait_until


@contextlib.contextmanager
def rclone_mount(folder: Path):
    """An empty folder, mounted as `fuse.rclone`. Skips where the kernel, or who may mount, does not allow it."""
    rclone = shutil.which("rclone", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    fusermount = shutil.which("fusermount3") or shutil.which("fusermount")
    if sys.platform != "linux" or not os.path.exists("/dev/fuse") or fusermount is None or rclone is None:
        pytest.skip("a FUSE mount needs Linux, /dev/fuse, fusermount and rclone")
    behind, point, tools = folder / "behind", folder / "mounted", folder / "tools"
    for made in (behind, point, tools):
        made.mkdir()
    (tools / "fusermount3").symlink_to(fusermount)  # rclone asks for this name only
    process = subprocess.Popen(
        [rclone, "mount", f":local:{behind}", point, "--config", os.devnull, "--vfs-cache-mode", "off"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"},
    )
    try:
        wait_until(lambda: process.poll() is not None or os.path.ismount(point), what="the mount")
        if process.poll() is not None:
            pytest.skip(f"rclone cannot mount here: {process.stderr.read().strip().splitlines()[-1]}")
        yield point, behind
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
        if os.path.ismount(point):
            subprocess.run([fusermount, "-u", "-z", point], check=False)


@contextlib.contextmanager
def dead_mount(point: Path, kind: str = "fuse.sshfs"):
    """A mount that takes every question and answers none, as one of a server that is gone. Needs root."""
    if sys.platform != "linux" or os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("a mount without a server needs root and /dev/fuse")
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"ada@nas:/", os.fsencode(point), kind.encode(), 0, options) != 0:
        os.close(device)
        pytest.skip(f"the kernel refuses a FUSE mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(device)  # whoever still waits for an answer gets an error now
        libc.umount2(os.fsencode(point), 2)
