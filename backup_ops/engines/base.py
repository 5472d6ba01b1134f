"""What every engine offers, and what goes in and out of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from backup_ops.failure import Failure
from backup_ops.job import Job, Limits, Repository
from backup_ops.progress import Progress
from backup_ops.snapshot import Change, Entry, Restored, Snapshot, Verified, VerifyLevel

StopReason = Literal["cancelled", "timeout"]


class Stopped(Exception):
    """The work was ended before it was done, and nothing was committed. No error: the caller asked for it."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason: StopReason = reason


@dataclass(frozen=True)
class Owner:
    """Who may write to a repository: one home on one host, because nothing locks a repository between hosts.

    An empty `home_id` matches every home of the host.
    """

    host: str = field(default_factory=socket.gethostname)
    home_id: str = ""

    def may_write(self, owner: Owner) -> bool:
        homes = {self.home_id, owner.home_id}
        return self.host == owner.host and (len(homes) == 1 or "" in homes)


@dataclass(kw_only=True)
class RunContext:
    """What an engine needs to know about the run it works for, and whom to tell.

    `cancel` and `deadline_at` (time.monotonic) end the work with Stopped. The callbacks are called from whatever
    thread has the news. `on_log` gets each line the tool wrote to stderr, without its newline. `on_tool` gets the pid
    of a tool that was started, and None when it is gone. `scratch` is a private folder, left as it was.
    `known_before`: an earlier run succeeded in this repository, so one that is not there now is missing, not new.
    `force` lets the run pass the guard against too many deletions. `distrusted` are stored files (`runs/RUN/PATH`) that
    were proven damaged: what the source still holds of them is stored again. `promised` are the job's snapshots that
    the home knows to have been made in this repository.
    """

    run_id: str
    scratch: Path
    cancel: threading.Event = field(default_factory=threading.Event)
    deadline_at: float | None = None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_log: Callable[[bytes], None] = lambda _: None
    on_tool: Callable[[int | None], None] = lambda _: None
    limits: Limits = field(default_factory=Limits)
    known_before: bool = False
    force: bool = False
    owner: Owner = field(default_factory=Owner)
    distrusted: frozenset[str] = frozenset()
    promised: frozenset[str] = frozenset()

    def check(self) -> None:
        """Raises Stopped when the work should end. Cheap enough to be asked for every file."""
        if self.cancel.is_set():
            raise Stopped("cancelled")
        if self.deadline_at is not None and time.monotonic() >= self.deadline_at:
            raise Stopped("timeout")


@dataclass(frozen=True)
class ItemFailure:
    """One thing that did not get into the snapshot as it is now; the rest of the run went on.

    Not `is_left_out`: the snapshot has the version before, or it is no file of the source.
    """

    path: str
    failure: Failure
    is_left_out: bool = True


@dataclass(frozen=True, kw_only=True)
class BackupResult:
    """What a committed run did. Files count paths (each name of a hard-linked file), bytes count content once.

    `files_new` and `files_deleted` compare paths with the job's snapshot before, so a file that moved is in both;
    `files_changed` had other content. `bytes_added` is content sent, `bytes_stored` that plus what describes it.
    `exit_code` is the last one of the tool that copied, None when there was nothing to copy.
    """

    snapshot_id: str | None
    files_total: int
    bytes_total: int
    files_new: int
    files_changed: int
    files_deleted: int
    bytes_added: int
    bytes_stored: int
    item_failures: tuple[ItemFailure, ...] = ()
    exit_code: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a run would do now. `sample` holds at most 50 lines `+ path`, `~ path`, `- path`: new, changed, deleted."""

    files_total: int
    bytes_total: int
    files_new: int
    files_changed: int
    files_deleted: int
    bytes_added: int
    sample: tuple[str, ...] = ()
    item_failures: tuple[ItemFailure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    name: str
    path: str


class Engine(Protocol):
    """Drives one tool. Methods raise EngineError (with a Failure), Stopped, a UsageError or EngineMissing.

    Call it from a thread that outlives the call: the kernel ends a tool whose starting thread ends.
    """

    @property
    def name(self) -> str: ...

    def probe(self) -> EngineInfo:
        """Where the tool is. Raises EngineMissing. Starts nothing."""

    def version(self) -> str:
        """What the tool says its version is."""

    def backup(self, job: Job, repository: Repository, context: RunContext) -> BackupResult:
        """Makes the snapshot `context.run_id`. When this raises, nothing was committed."""

    def preview(self, job: Job, repository: Repository, context: RunContext) -> Preview:
        """What `backup` would do now; writes nothing, and raises what `backup` would raise before it writes."""

    def snapshots(
        self, repository: Repository, job: Job | None = None, *, on_damage: Callable[[Failure], None] | None = None
    ) -> list[Snapshot]:
        """Snapshots of the job (without one: of all), newest first.

        A snapshot whose seal is damaged raises; with `on_damage` it is told there and left out of the list.
        """

    def ls(self, repository: Repository, snapshot_id: str, path: str = "") -> Iterator[Entry]:
        """What is in the snapshot at and below `path`, in the order of the paths. Raises UsageError."""

    def restore(
        self,
        repository: Repository,
        snapshot_id: str,
        target: Path,
        paths: Sequence[str] = (),
        *,
        overwrite: bool = False,
        dry_run: bool = False,
        context: RunContext,
    ) -> Restored:
        """Puts the snapshot, or `paths` of it, directly under `target`. Raises RestoreRefused."""

    def diff(self, repository: Repository, before: str, after: str) -> Iterator[Change]:
        """What changed from one snapshot to another, in the order of the paths. Raises UnknownSnapshot.

        The time of a folder, which every change in it moves, is no change of its own.
        """

    def verify(
        self,
        repository: Repository,
        *,
        job: Job | None = None,
        level: VerifyLevel = "list",
        sample_files: int = 50,
        context: RunContext,
    ) -> Verified:
        """Whether the job's snapshots (without one: all) are as they were stored.

        `list` proves what describes them, and that each stored file is there with its size; `sample` reads some files
        too, chosen by chance; `full` all. What is damaged is a result, no error.
        """

    def take_over(self, repository: Repository, context: RunContext) -> Owner | None:
        """Makes `context.owner` the one that may write. Returns whose it was; None when it was theirs already."""

    def discard(self, repository: Repository, run_ids: Sequence[str], context: RunContext) -> list[str]:
        """Removes what these runs, which are over, have left there; a snapshot is left alone. Returns whose it did."""

    def is_committed(self, repository: Repository, run_id: str) -> bool:
        """Whether the run's snapshot is there, with its seal intact."""
