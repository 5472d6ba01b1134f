"""The comparison the round trips rely on sees every property it claims to see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import differences, snapshot_of


def _break_link(root: Path) -> None:
    content = (root / "first").stat()
    shutil.copy2(root / "first", root / "copy")
    (root / "copy").replace(root / "second")
    assert (root / "first").stat().st_mtime_ns == content.st_mtime_ns


def _in_secret(root: Path) -> None:
    before = (root / "file").stat()
    (root / "file").write_bytes(b"CONTENT")
    os.utime(root / "file", ns=(before.st_mtime_ns, before.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "content": _in_secret,
    "mode": lambda root: (root / "file").chmod(0o600),
    "setuid": lambda root: (root / "file").chmod(0o4644),
    "owner": lambda root: os.chown(root / "file", 77, -1),
    "group": lambda root: os.chown(root / "file", -1, 77),
    "owner of a symlink": lambda root: os.chown(root / "link", 77, -1, follow_symlinks=False),
    "nanosecond of a file": lambda root: os.utime(root / "file", ns=(0, 1_000_000_000_000_000_001)),
    "nanosecond of a folder": lambda root: os.utime(root / "folder", ns=(0, 1_000_000_000_000_000_001)),
    "nanosecond of a symlink": lambda root: os.utime(root / "link", ns=(0, 1), follow_symlinks=False),
    "nanosecond of the root": lambda root: os.utime(root, ns=(0, 1)),
    "attribute": lambda root: os.setxattr(root / "file", "user.x", b"2"),
    "attribute of a folder": lambda root: os.setxattr(root / "folder", "user.x", b"1"),
    "link target": lambda root: ((root / "link").unlink(), (root / "link").symlink_to("other")),
    "link became what it points to": lambda root: (
        (root / "link").unlink(),
        shutil.copy2(root / "file", root / "link"),
    ),
    "hard link": _break_link,
    "empty folder": lambda root: (root / "folder").rmdir(),
    "missing file": lambda root: (root / "file").unlink(),
    "extra file": lambda root: (root / "extra").touch(),
    "name": lambda root: (root / "file").rename(root / "file "),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_comparison_sees(damage: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 and ("owner" in damage or "group" in damage):
        pytest.skip("only root may give files away")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    (root / "first").write_bytes(b"linked")
    (root / "second").hardlink_to(root / "first")
    (root / "link").symlink_to("file")
    os.setxattr(root / "file", "user.x", b"1")
    for path in (root / "file", root / "folder", root):
        os.utime(path, ns=(0, 1_000_000_000_000_000_000))
    before = snapshot_of(root)
    assert differences(before, snapshot_of(root)) == []
    DAMAGES[damage](root)
    assert differences(before, snapshot_of(root))
