"""The home: the folder that holds jobs.yaml, queue, journals, history.duckdb, logs and locks. One owner, made 0700."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import stat
from pathlib import Path

from backup_ops.errors import HomeError

HOME_VARIABLE = "BACKUP_OPS_HOME"


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
        """Checks owner and rights, tightens looser modes to 0700. Returns notices. Raises HomeError."""
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
        if status.st_uid != os.geteuid():
            owner = _user_name(status.st_uid)
            raise HomeError(
                f"home {self.path} belongs to user {owner}, and this is user {_user_name(os.geteuid())}.",
                hint=f"Run as {owner}, or name a home of your own with --home.",
            )
        notices = []
        if status.st_mode & 0o077:
            if self._is_something_else():  # `--home /` must not shut everybody else out of the machine
                raise HomeError(
                    f"{self.path} is not a home: it holds other things and is open to others "
                    f"(mode {stat.S_IMODE(status.st_mode):04o}). Nothing in it was touched.",
                    hint="Name a folder of its own with --home.",
                )
            try:
                self.path.chmod(0o700)
            except OSError as error:
                raise HomeError(
                    f"home {self.path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}) "
                    f"and cannot be tightened: {error.strerror}.",
                    hint=f"Run `chmod 700 {self.path}`.",
                ) from None
            notices.append(
                f"home {self.path} was open to others (mode {stat.S_IMODE(status.st_mode):04o}); it is 0700 now."
            )
        try:
            for folder in (self.queue, self.journal, self.logs, self.runs, self.repositories, self.locks):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"home {self.path} is not writable: {error.strerror}.",
                hint="Free space or mount it read-write, or name another with --home.",
            ) from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise HomeError(
                f"home {self.path} is not writable by user {_user_name(os.geteuid())}.",
                hint=f"Run `chmod u+rwx {self.path}`, or name another with --home.",
            )
        return notices

    def _is_something_else(self) -> bool:
        if any(path.exists() for path in (self.jobs_yaml, self.journal, self.history)):
            return False
        try:
            return any(entry.name != "lost+found" for entry in self.path.iterdir())
        except OSError:
            return True


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
