"""One supervised tool process: drained, stoppable, and never left behind."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from backup_ops.engines.base import StopReason
from backup_ops.errors import EngineError
from backup_ops.failure import failure_of

# What a tool may know of our environment. Everything else stays here: secrets of other jobs, and variables such as
# RCLONE_DRY_RUN or RESTIC_REPOSITORY that would silently change what the tool does.
ALLOWED_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "all_proxy",
)  # fmt: skip

DEFAULT_GRACE_S = (10.0, 5.0)
_TAIL_LINES = 200
_MAX_LINE_BYTES = 1 << 20
_LOOK_EVERY_S = 0.1
_PIPES_CLOSE_WITHIN_S = 2.0
# Whoever is told the lines may be slow, but not stand still.
_LINE_TAKEN_WITHIN_S = 60.0
# A process that waits for storage in the kernel does not even end when it is killed.
_KILLED_WITHIN_S = 30.0


class NotStarted(Exception):
    """The system could not start the program."""


@dataclass(frozen=True)
class ToolExit:
    """How a tool ended. `exit_code` is negative after a signal. `stopped` says that we ended it, and why."""

    exit_code: int
    stopped: StopReason | None
    stderr_tail: bytes


def allowed_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a tool: the allowed part of ours, the locale, and `extra`."""
    kept = {name: value for name, value in os.environ.items() if name in ALLOWED_VARIABLES or name.startswith("LC_")}
    return kept | dict(extra or {})


class Tool:
    """A process in a session of its own. Its pipes carry bytes; each is drained, line by line, by a thread.

    `cancel` or the deadline ends its whole group: INT, after `grace_s[0]` TERM, after `grace_s[1]` KILL. Where setpriv
    is installed the kernel sends TERM when the thread that called `run` dies, so a killed backup-ops leaves nothing
    running. What the tool leaves in its group when it ends is ended too. Files it makes are for this user only.
    """

    def __init__(
        self,
        arguments: Sequence[str | bytes],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
        on_tool: Callable[[int | None], None] | None = None,
        cancel: threading.Event | None = None,
        deadline_at: float | None = None,
        grace_s: tuple[float, float] = DEFAULT_GRACE_S,
        is_low_priority: bool = False,
    ) -> None:
        self._program = arguments[0]
        self._arguments = [*_wrappers(is_low_priority), *arguments]
        self._environment = dict(environment) if environment is not None else allowed_environment()
        self._stdin = stdin
        self._on_stdout = on_stdout or (lambda _: None)
        self._on_stderr = on_stderr or (lambda _: None)
        self._on_tool = on_tool or (lambda _: None)
        self._cancel = cancel or threading.Event()
        self._deadline_at = deadline_at
        self._grace_s = grace_s
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._broken_callback: Exception | None = None
        self._taking: set[int] = set()
        """Threads that are in a callback now; each other one has told all there is to read."""
        self._lines_taken = 0

    def run(self) -> ToolExit:
        """Starts it and waits for its end. Raises NotStarted.

        An exception of a callback ends the tool and comes out of here. EngineError: it does not end even when killed,
        or a callback stood still, and lines were lost.
        """
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL if self._stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            raise NotStarted(error.strerror or str(error)) from error
        threads = self._pump(process)
        stopped: StopReason | None = None
        try:
            self._on_tool(process.pid)
            with _exit_descriptor(process) as descriptor:
                while not _has_ended(process, descriptor, self._next_look_s()):
                    if self._broken_callback is not None:
                        break
                    stopped = self._reason_to_stop()
                    if stopped is not None:
                        break
        finally:
            # Also after an exception, a KeyboardInterrupt for one: the tool does not share our terminal.
            self._end(process, threads)
            self._on_tool(None)
        if self._broken_callback is None and stopped is None:
            stopped = self._wait_for_callbacks(threads)
        if self._broken_callback is not None:
            raise self._broken_callback
        return ToolExit(process.returncode, stopped, b"\n".join(self._tail))

    def _reason_to_stop(self) -> StopReason | None:
        if self._cancel.is_set():
            return "cancelled"
        if self._deadline_at is not None and time.monotonic() >= self._deadline_at:
            return "timeout"
        return None

    def _next_look_s(self) -> float:
        if self._deadline_at is None:
            return _LOOK_EVERY_S
        return max(0.0, min(_LOOK_EVERY_S, self._deadline_at - time.monotonic()))

    def _pump(self, process: subprocess.Popen[bytes]) -> list[threading.Thread]:
        assert process.stdout is not None
        assert process.stderr is not None
        threads = [
            threading.Thread(
                target=self._drain, args=(process.stdout, self._on_stdout), name="tool-stdout", daemon=True
            ),
            threading.Thread(
                target=self._drain, args=(process.stderr, self._take_stderr), name="tool-stderr", daemon=True
            ),
        ]
        if process.stdin is not None:
            threads.append(threading.Thread(target=self._feed, args=(process.stdin,), name="tool-stdin", daemon=True))
        for thread in threads:
            thread.start()
        return threads

    def _feed(self, pipe: IO[bytes]) -> None:
        # A tool that ends early breaks the pipe; its exit code and messages tell why.
        with contextlib.suppress(OSError):
            pipe.write(self._stdin or b"")
        with contextlib.suppress(OSError):
            pipe.close()

    def _take_stderr(self, line: bytes) -> None:
        self._tail.append(line)
        self._on_stderr(line)

    def _drain(self, pipe: IO[bytes], take: Callable[[bytes], None]) -> None:
        # Reads to the end whatever happens: a tool whose pipe nobody empties stands still, and one whose pipe is closed
        # dies.
        with contextlib.suppress(OSError, ValueError), pipe:
            while line := pipe.readline(_MAX_LINE_BYTES):
                if self._broken_callback is None:
                    self._taking.add(threading.get_ident())
                    try:
                        take(line.removesuffix(b"\n"))
                    except Exception as error:  # raised again by `run`, in the caller's thread
                        self._broken_callback = error
                    self._lines_taken += 1
                    self._taking.discard(threading.get_ident())

    def _end(self, process: subprocess.Popen[bytes], threads: list[threading.Thread]) -> None:
        if process.poll() is None:
            for kind, grace_s in ((signal.SIGINT, self._grace_s[0]), (signal.SIGTERM, self._grace_s[1])):
                _signal_group(process, kind)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(grace_s)
                    break
            else:
                _signal_group(process, signal.SIGKILL)
                try:
                    process.wait(_KILLED_WITHIN_S)
                except subprocess.TimeoutExpired:
                    raise self._hung(
                        f"(process {process.pid}) was killed and did not end within {_KILLED_WITHIN_S:g} s: it waits"
                        " for storage that does not answer.",
                        "Check the disk or the network share it works on; it ends when that answers or is unmounted.",
                    ) from None
        if not _joined(threads, _PIPES_CLOSE_WITHIN_S):
            # Somebody it started still holds its pipes, so its group is not empty and its number is not reused.
            _signal_group(process, signal.SIGKILL)
            _joined(threads, _PIPES_CLOSE_WITHIN_S)

    def _wait_for_callbacks(self, threads: list[threading.Thread]) -> StopReason | None:
        # Lines wait in the pipes as long as a thread is in a callback. One that waits for more to read only has a pipe
        # that somebody outside the group keeps open.
        taken, since, seen_idle = self._lines_taken, time.monotonic(), 0
        while not _joined(threads, _LOOK_EVERY_S) and self._broken_callback is None:
            stopped = self._reason_to_stop()
            if stopped is not None:
                return stopped
            seen_idle = 0 if self._taking or self._lines_taken != taken else seen_idle + 1
            if seen_idle * _LOOK_EVERY_S >= _PIPES_CLOSE_WITHIN_S:
                break
            if self._lines_taken != taken:
                taken, since = self._lines_taken, time.monotonic()
            elif self._taking and time.monotonic() - since >= _LINE_TAKEN_WITHIN_S:
                raise self._hung(
                    f"has ended, and no line of its output was taken for {_LINE_TAKEN_WITHIN_S:g} s: the rest is lost.",
                    "Check the disk that the log of the run is written to, then run it again.",
                )
        return None

    def _hung(self, what: str, remedy: str) -> EngineError:
        name = os.path.basename(os.fsdecode(self._program))
        return EngineError(failure_of("io_error", f"{name} {what}", remedy))


def _wrappers(is_low_priority: bool) -> list[str]:
    # Each of these replaces itself by the next: the pid is the tool's own in the end.
    wrappers: list[str] = []
    setpriv = shutil.which("setpriv")
    if setpriv:
        wrappers += [setpriv, "--pdeathsig", "TERM", "--"]
    if is_low_priority:
        for name, *options in (("nice", "-n", "10"), ("ionice", "-c", "3")):
            found = shutil.which(name)
            if found:
                wrappers += [found, *options]
    return wrappers


@contextlib.contextmanager
def _exit_descriptor(process: subprocess.Popen[bytes]) -> Iterator[int | None]:
    """A descriptor that is readable once the process has ended; None where the system has no such thing."""
    descriptor = None
    with contextlib.suppress(AttributeError, OSError):
        descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _has_ended(process: subprocess.Popen[bytes], descriptor: int | None, wait_s: float) -> bool:
    if descriptor is not None:
        poll = select.poll()  # unlike select() it takes descriptors above 1023
        poll.register(descriptor, select.POLLIN)
        poll.poll(wait_s * 1000)
        return process.poll() is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
        return True
    return False


def _signal_group(process: subprocess.Popen[bytes], kind: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, kind)


def _joined(threads: list[threading.Thread], within_s: float) -> bool:
    end = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
