"""Trees to back up, and a comparison of two trees that forgives nothing."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

ODD_NAMES = (
    b"new\nline", b"carriage\rreturn", b"not utf-8 \xff\xfe", b"-dash", b" leading", b"trailing ", b"x.rclonelink",
    b"tab\t", b"bell\x07", b"\x1b[31mred", b"del\x7f", b"n" * 255, b"\x01" * 255, b"100%", b"100%25", b"%0A", b"a%~b",
    "␊ picture".encode(), "‛ quote".encode(), "‛‛ two".encode(), "‛␊".encode(), "／ wide".encode(), "．．".encode(),
    "e\u0301".encode(), "é".encode(), b"star*?[a-z]{b}", b"back\\slash", b"co:lon", b"#hash", b";semi", b"~x.partial",
    b"quo'te\"", b"...", b". .", b"y.3f2eb940.partial", "😀".encode(), b"\xed\xa0\x80",
    b"$(touch x)", b"CON", b"case", b"CASE",
)  # fmt: skip


def snapshot_of(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Every property of every path below `root`, its own included, that a restore has to bring back."""
    found: dict[bytes, tuple[object, ...]] = {}
    names_of_inode: dict[tuple[int, int], list[bytes]] = {}
    base = os.fsencode(root)

    def look(path: bytes) -> None:
        full = os.path.join(base, path) if path else base
        status = os.lstat(full)
        names = sorted(os.listxattr(full, follow_symlinks=False))
        xattrs = tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names)
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        elif stat.S_ISREG(status.st_mode):
            with open(full, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            names_of_inode.setdefault((status.st_dev, status.st_ino), []).append(path)
        found[path] = (
            stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
            xattrs, content,
        )  # fmt: skip
        if stat.S_ISDIR(status.st_mode):
            for name in os.listdir(full):
                look(os.path.join(path, name) if path else name)

    look(b"")
    for names in names_of_inode.values():
        for name in names:
            found[name] += (tuple(sorted(names)),)
    return found


def differences(expected: dict[bytes, tuple[object, ...]], actual: dict[bytes, tuple[object, ...]]) -> list[str]:
    return [
        f"{path!r}: expected {expected.get(path)}, is {actual.get(path)}"
        for path in sorted(expected.keys() | actual.keys())
        if expected.get(path) != actual.get(path)
    ]


class RandomTree:
    """A tree that grows and changes like real ones do, the same for the same seed."""

    def __init__(self, root: Path, seed: int, files: int) -> None:
        self.root = root
        self._random = random.Random(seed)
        self._number = 0
        root.mkdir()
        for name in ODD_NAMES:
            self._write(os.path.join(os.fsencode(root), name), name)
        for name in (b"odd folder\n", b"\xffolder", b"plain folder"):
            folder = os.path.join(os.fsencode(root), name)
            os.mkdir(folder)
            for below in ODD_NAMES[:6]:
                self._write(os.path.join(folder, below), name + below)
        for index in range(files):
            self._add(index)
        self._special()

    def change(self, amount: int) -> None:
        """Adds, edits (also without a trace in size and mtime), deletes, renames, flips, new rights and links."""
        changes = (
            self._add, self._edit, self._edit_in_secret, self._delete, self._rename, self._flip, self._rights,
            self._link, self._touch, self._rename_folder, self._break_link,
        )  # fmt: skip
        for index in range(amount):
            changes[index % len(changes)](index)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_dir() and not path.is_symlink())

    def _new_path(self, stem: str) -> Path:
        self._number += 1
        folder = self._random.choice([self.root, *self._folders()])
        return folder / f"{stem}{self._number}"

    def _write(self, path: bytes | Path, content: bytes) -> None:
        with open(path, "wb") as stream:
            stream.write(content)
        moment = self._random.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(moment, moment))

    def _add(self, _: int) -> None:
        self._write(self._new_path("file"), self._random.randbytes(self._random.choice((0, 1, 100, 5000, 200_000))))

    def _edit(self, _: int) -> None:
        self._write(self._random.choice(self._files()), self._random.randbytes(self._random.randrange(1, 3000)))

    def _edit_in_secret(self, _: int) -> None:
        path = self._random.choice([path for path in self._files() if path.stat().st_size > 0])
        before = path.stat()
        with path.open("r+b") as stream:
            stream.write(self._random.randbytes(before.st_size))
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))

    def _delete(self, index: int) -> None:
        if index % 3 == 0 and (folders := self._folders()):
            shutil.rmtree(self._random.choice(folders))
        else:
            self._random.choice(self._files()).unlink()

    def _rename(self, _: int) -> None:
        path = self._random.choice(self._files())
        path.rename(self._new_path("renamed"))

    def _rename_folder(self, _: int) -> None:
        if folders := self._folders():
            path = self._random.choice(folders)
            path.rename(path.with_name(f"{path.name[:20]}-moved"))

    def _flip(self, index: int) -> None:
        if index % 2:
            path = self._random.choice(self._files())
            path.unlink()
            path.mkdir()
            self._write(path / "inside", b"was a file")
        elif folders := self._folders():
            path = self._random.choice(folders)
            shutil.rmtree(path)
            self._write(path, b"was a folder")

    def _rights(self, _: int) -> None:
        self._random.choice(self._files()).chmod(self._random.choice((0o600, 0o4755, 0o2711, 0o1640, 0o744)))

    def _touch(self, _: int) -> None:
        moment = self._random.randrange(10**18, 17 * 10**17)
        os.utime(self._random.choice(self._files()), ns=(moment, moment))

    def _link(self, index: int) -> None:
        target = self._random.choice(self._files())
        if index % 2:
            os.link(target, self._new_path("hard"))
        else:
            self._new_path("soft").symlink_to(self._random.choice((str(target), "nowhere", "../..", "a\nb")))

    def _break_link(self, _: int) -> None:
        linked = [path for path in self._files() if path.stat().st_nlink > 1]
        if linked:
            path = self._random.choice(linked)
            copy = path.with_name("copy-of-link")
            shutil.copy2(path, copy)
            copy.replace(path)

    def _special(self) -> None:
        empty = self.root / "empty" / "also empty"
        empty.mkdir(parents=True)
        (self.root / "dangling").symlink_to("no such thing")
        os.symlink(b"bytes \xff\n", os.path.join(os.fsencode(self.root), b"dangling\xff"))
        (self.root / "absolute").symlink_to("/etc/hostname")
        first = self.root / "a first name"
        self._write(first, b"one file, three names")
        os.link(first, self.root / "z second name")
        os.link(first, empty.parent / "third\nname")
        shut = 0o000 if os.geteuid() == 0 else 0o600
        for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1644), ("shut", shut)):
            path = self.root / name
            self._write(path, name.encode())
            path.chmod(mode)
        shared = self.root / "shared"
        shared.mkdir(mode=0o700)
        shared.chmod(0o3770)
        if os.geteuid() == 0:
            os.chown(first, 1234, 4321)
            os.chown(self.root / "dangling", 1234, 4321, follow_symlinks=False)
            os.chown(shared, 12, 34)
        os.setxattr(self.root / "sticky", "user.note", b"\x00\xff bytes")
        os.setxattr(shared, "user.folder", b"x")
        if shutil.which("setfacl"):
            subprocess.run(["setfacl", "-m", "u:4242:rw", self.root / "setgid"], check=True)
            subprocess.run(["setfacl", "-d", "-m", "g:4242:rx", shared], check=True)
        for path in (shared, empty, self.root / "dangling"):
            os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321), follow_symlinks=False)
        os.utime(self.root, ns=(1, 1_400_000_000_111_222_333))
