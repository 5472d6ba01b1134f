"""The home: the folder that holds jobs.yaml, queue, journals, history.duckdb, logs and locks.

One owner, made 0700; a group that the owner shares it with may look. It lies on a disk of this machine, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from backup_ops import sharing
from backup_ops.errors import HomeError
from backup_ops.filesystem import network_mount_of

HOME_VARIABLE = "BACKUP_OPS_HOME"

_RUN = r"\d{8}T\d{6}-[\w-]+"
_SHARED_IN = {
    "queue": rf"\.?{_RUN}(\.\d+)?\.(json|claim|cancel|damaged|new)",
    "journal": r"[\w.-]+\.jsonl",
    "segments": r"[\w.-]+\.parquet",
    "logs": rf"{_RUN}\.log\.zst",
    "repositories": r"[0-9a-f]{16}\.json",
    "locks": r"(gate|db)\.lock",
    "runs": r"progress\.(json|new)",
}
"""The names of what a home makes in each of its folders for others to read; nothing else there is opened to them."""
_PRIVATE_IN = {"locks": r"[\w.-]+\.lock", "runs": r".*"}
_PRIVATE = r"history\.(broken|new)-.*|spill"
"""What a home makes for its owner alone."""


@dataclass(frozen=True)
class _Content:
    """What lies in a home: folders and files that it shares, what it keeps to its owner, and what others put there."""

    folders: list[Path]
    files: list[Path]
    private: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


class Home:
    """Paths of one home. Making the object touches nothing; `open` checks it, `make` creates it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path = Path(os.path.abspath(os.path.expanduser(path)))
        except FileNotFoundError:
            raise HomeError(
                f"home {os.fspath(path)} is below the working directory, and that is gone.", hint="Change to another."
            ) from None
        self.jobs_yaml = self.path / "jobs.yaml"
        self.queue = self.path / "queue"
        self.journal = self.path / "journal"
        self.segments = self.path / "segments"
        self.history = self.path / "history.duckdb"
        self.logs = self.path / "logs"
        self.runs = self.path / "runs"
        self.repositories = self.path / "repositories"
        self.locks = self.path / "locks"
        self.operate_token = self.path / "operate.token"
        self.is_guest = False
        """Whether this user may only look, as `open` found: the home is another's, who shares it."""

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def locate(cls, path: str | os.PathLike[str] | None = None) -> Home:
        """The home that is meant: `path`, else $BACKUP_OPS_HOME, else the platform's user data folder."""
        if path is None:
            path = os.environ.get(HOME_VARIABLE) or None
        if path is None:
            import platformdirs  # 6 ms that a named home need not pay

            path = platformdirs.user_data_path("backup-ops")
        return cls(path)

    def identity(self) -> str:
        """A word that is this home's for life, also when it is moved; repositories remember whose they are by it."""
        path = self.path / "home.id"
        for _ in range(3):
            is_empty = False
            with contextlib.suppress(FileNotFoundError):
                known = path.read_text(encoding="ascii").strip()
                if known:
                    return known
                is_empty = True
            beside = self.path / f".home.id.{os.getpid()}-{secrets.token_hex(4)}"
            with beside.open("w", encoding="ascii") as file:
                file.write(secrets.token_hex(8))
                file.flush()
                os.fsync(file.fileno())
            sharing.let_in(beside)
            # Empty: a loss of power took its content. One that appeared meanwhile is another process's, and stays.
            if is_empty:
                os.replace(beside, path)
                continue
            with contextlib.suppress(FileExistsError):
                os.link(beside, path)
            beside.unlink()
        known = path.read_text(encoding="ascii").strip()
        if not known:
            raise HomeError(f"{path} is empty.", hint="Remove it; it is made anew.")
        return known

    def make(self) -> list[str]:
        """Creates what is missing (0700) and checks the rest. Returns notices: what was put right."""
        self._check_file_system()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise HomeError(f"home {self.path} is a file, not a folder.", hint="Name another with --home.") from None
        except OSError as error:
            raise HomeError(
                f"home {self.path} cannot be made: {error.strerror}.", hint="Name another with --home."
            ) from None
        return self.open()

    def open(self) -> list[str]:
        """Checks file system, owner and rights, tightens looser modes. Returns notices. Raises HomeError.

        Another user's home is opened when it is shared with a group of this user, to look only: see `is_guest`.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise HomeError(
                f"there is no home at {self.path}.",
                hint="Make one with `backup-ops init`, or name another with --home.",
            ) from None
        except OSError as error:
            raise HomeError(
                f"home {self.path} cannot be read: {error.strerror}.",
                hint="Run as its owner, or name another with --home.",
            ) from None
        if not stat.S_ISDIR(status.st_mode):
            raise HomeError(f"home {self.path} is a file, not a folder.", hint="Name another with --home.")
        self._check_file_system()
        self.is_guest = status.st_uid != os.geteuid()
        if self.is_guest:
            self._check_guest(status)
            return []
        if self.is_read_only:
            return [f"home {self.path} is on a file system that is mounted read-only: nothing can be recorded or run."]
        notices = self._tighten(status)
        try:
            for folder in self.folders:
                sharing.make_folder(folder)
        except OSError as error:
            raise HomeError(
                f"home {self.path} is not writable: {error.strerror}.",
                hint="Free space or mount it read-write, or name another with --home.",
            ) from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise HomeError(
                f"home {self.path} is not writable by user {user_name(os.geteuid())}.",
                hint=f"Run `chmod u+rwx {self.path}`, or name another with --home.",
            )
        return notices

    @property
    def is_read_only(self) -> bool:
        """Whether its file system is mounted read-only just now, as a kernel does that met an error of the disk."""
        with contextlib.suppress(OSError):
            return bool(os.statvfs(self.path).f_flag & os.ST_RDONLY)
        return False

    @property
    def is_to_look_at(self) -> bool:
        """Whether nothing in it can or may be changed by this user."""
        return self.is_guest or self.is_read_only

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that every home has."""
        return (self.queue, self.journal, self.segments, self.logs, self.runs, self.repositories, self.locks)

    def check_writable(self) -> None:
        """Raises HomeError where one may only look."""
        if self.is_read_only:
            raise HomeError(
                f"home {self.path} lies on a file system that is mounted read-only.", hint="Mount it read-write first."
            )
        if self.is_guest:
            owner = user_name(self.path.stat().st_uid)
            raise HomeError(
                f"user {user_name(os.geteuid())} may only look at home {self.path}, which belongs to user {owner}.",
                hint=f"Run it as {owner}, or in a home of your own with --home.",
            )

    # --- sharing

    def shared_with(self) -> int | None:
        """The group that the owner shares the home with, by number, or None."""
        with contextlib.suppress(OSError):
            return sharing.remembered_group(self.path, self.path.stat().st_uid)
        return None

    def share(self, gid: int) -> list[str]:
        """Lets the members of the group look at the home, now and from now on. Returns notices. Raises HomeError.

        Whatever lies in the home and is not the home's own (tokens, keys, files that somebody put there) is closed to
        everybody else, for only the home's mode kept them out so far.
        """
        self.check_writable()
        if os.geteuid() != 0 and not sharing.is_member(gid):
            raise HomeError(
                f"home {self.path} cannot be shared with group {sharing.group_name(gid)}: user "
                f"{user_name(os.geteuid())} does not belong to it, and may not give files to it.",
                hint="Name a group of your own (`id -Gn` lists them), or run it as root.",
            )
        self.identity()  # a guest could not make it
        content = self._content()
        try:
            sharing.close_others(content.private)
            strange = sharing.close_others(content.others)
            sharing.open_to(gid, content.folders, content.files)
            sharing.remember(self.path, gid)
            sharing.open_to(gid, [self.path], [])
        except OSError as error:
            thing = f"{error.filename}: " if error.filename else ""  # a full disk names none
            raise HomeError(
                f"home {self.path} could not be shared: {thing}{error.strerror}.",
                hint="Nothing is open that was not; try again when that is mended.",
            ) from None
        notices = [f"{path} is not the home's own; it is closed to everybody but its owner now." for path in strange]
        return notices + [
            f"{folder} is closed to others (mode {mode:04o}): unless a right of another kind lets group "
            f"{sharing.group_name(gid)} in, its members cannot reach the home."
            for folder in self.path.parents
            if not (mode := stat.S_IMODE((status := folder.stat()).st_mode)) & 0o001
            and not (status.st_gid == gid and mode & 0o010)
        ]

    def unshare(self) -> None:
        """Takes it back: the home is its owner's alone. Raises HomeError."""
        self.check_writable()
        content = self._content()
        own = _own_group()
        private_folders = [path for path in content.private if path.is_dir()]
        files = content.files + [path for path in content.private if path not in private_folders]
        files += [folder / entry.name for folder in private_folders for entry in _scan(folder) if entry.is_file()]
        try:
            sharing.close_again(own, [self.path], [])
            sharing.forget(self.path)
            sharing.close_again(own, content.folders + private_folders, files)
        except OSError as error:
            raise HomeError(
                f"{error.filename or self.path} could not be taken back: {error.strerror}.", hint="Try again."
            ) from None

    def amiss_for(self, gid: int) -> tuple[list[Path], list[Path]]:
        """What the group should be able to read and cannot, and what it can and should not: locks, others' files."""
        content = self._content()
        lasting = [
            path for path in (*content.folders, *content.files) if self.runs not in path.parents
        ]  # what a run makes goes with it
        closed = [path for path in (self.path, *lasting) if not sharing.is_open_to(gid, path)]
        locks = [path for path in content.private if path.parent == self.locks]
        return closed, [path for path in (*content.others, *locks) if sharing.is_open(path)]

    def _content(self) -> _Content:
        runs = [
            self.runs / entry.name for entry in _scan(self.runs) if entry.is_dir() and re.fullmatch(_RUN, entry.name)
        ]
        found = _Content(
            [*self.folders, *runs], [self.jobs_yaml, self.path / "home.id", self.history, Path(f"{self.history}.wal")]
        )
        for folder in found.folders:
            kind = "runs" if folder in runs else folder.name
            for entry in _scan(folder):
                path, is_file = folder / entry.name, entry.is_file()
                if path in runs:
                    continue
                if folder != self.runs and is_file and re.fullmatch(_SHARED_IN[kind], entry.name):
                    found.files.append(path)
                elif folder != self.runs and re.fullmatch(_PRIVATE_IN.get(kind, "(?!)"), entry.name):
                    found.private.append(path)
                else:
                    found.others.append(path)
        own = {*self.folders, *found.files, self.path / sharing.REMEMBERED_IN}
        for entry in _scan(self.path):
            path = self.path / entry.name
            if path not in own:
                (found.private if re.fullmatch(_PRIVATE, entry.name) else found.others).append(path)
        return found

    def _tighten(self, status: os.stat_result) -> list[str]:
        mode = stat.S_IMODE(status.st_mode)
        gid = self.shared_with() if mode & 0o077 else None
        wanted = 0o2750 & (mode | stat.S_ISGID) if gid is not None and gid == status.st_gid else 0o700
        if not mode & 0o077 & ~wanted:
            return []
        if gid is None and self.is_something_else:  # `--home /` must not shut everybody else out of the machine
            raise HomeError(
                f"{self.path} is not a home: it holds other things and is open to others "
                f"(mode {mode:04o}). Nothing in it was touched.",
                hint="Name a folder of its own with --home.",
            )
        try:
            self.path.chmod(wanted)
        except OSError as error:
            raise HomeError(
                f"home {self.path} is open to others (mode {mode:04o}) and cannot be tightened: {error.strerror}.",
                hint=f"Run `chmod {wanted:o} {self.path}`.",
            ) from None
        return [f"home {self.path} was open to others (mode {mode:04o}); it is {wanted:04o} now."]

    def _check_guest(self, status: os.stat_result) -> None:
        gid = sharing.remembered_group(self.path, status.st_uid)
        is_open = gid is not None and sharing.is_member(gid) and os.access(self.path, os.R_OK | os.X_OK)
        if not is_open:
            owner = user_name(status.st_uid)
            raise HomeError(
                f"home {self.path} belongs to user {owner}, and this is user {user_name(os.geteuid())}.",
                hint=f"Run as {owner}, or name a home of your own with --home.",
            )

    def _check_file_system(self) -> None:
        mount = network_mount_of(self.path)
        if mount is not None:
            raise HomeError(
                f"home {self.path} lies on a network file system ({mount.type}, mounted at {mount.point}), where locks "
                "and appends of several processes are not to be trusted.",
                hint="Name a home on a disk of this machine with --home; repositories may well lie on that mount.",
            )

    @property
    def is_something_else(self) -> bool:
        """Whether it is a folder in which other things lie, and nothing of a home."""
        if any(path.exists() for path in (self.jobs_yaml, self.journal, self.history)):
            return False
        try:
            return any(entry.name != "lost+found" for entry in self.path.iterdir())
        except OSError:
            return True


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in the folder, but for links; nothing where it is missing."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.is_symlink()]
    except FileNotFoundError:
        return []


def _own_group() -> int:
    try:
        return pwd.getpwuid(os.geteuid()).pw_gid
    except KeyError:
        return os.getegid()
