"""The snapshots in one repository: list, find, look into, compare, restore, verify. Needs no home."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from backup_ops.engines import engine_for
from backup_ops.engines.base import Owner, RunContext
from backup_ops.errors import EngineError, UnknownSnapshot, UsageError, did_you_mean
from backup_ops.failure import Failure
from backup_ops.job import Job, Limits, Repository, SecretReference
from backup_ops.snapshot import Change, Entry, Restored, Snapshot, Verified, VerifyLevel

if TYPE_CHECKING:
    from backup_ops.engines.base import Engine
    from backup_ops.progress import Progress

OnProgress = Callable[["Progress"], None]


@dataclass(frozen=True)
class Snapshots:
    """Those of one job, or without one of all. A snapshot is named by its id (a unique beginning will do), by `latest`,
    or by a time: the newest that is not younger.

    Not `is_known`: nobody has written there yet, so a repository that is not there holds no snapshot, and is no error.
    `has_home` decides what a hint tells people to type.
    """

    engine: Engine
    repository: Repository
    job: Job | None = None
    owner: Owner = field(default_factory=Owner)
    is_known: bool = True
    distrusted: frozenset[str] = frozenset()
    has_home: bool = True

    @classmethod
    def at(cls, url: str, engine: str = "rclone", password: SecretReference | None = None) -> Snapshots:
        """All that is in a repository, on a machine that has nothing else. Raises EngineMissing."""
        setting = Repository(name=url, engine=engine, url=url, password=password)
        return cls(engine_for(engine), setting, has_home=False)

    def of_job(self, name: str) -> Snapshots:
        """Only those of the job that has, or had, this name. Raises UsageError."""
        found = self.all(on_damage=lambda _: None)
        named = [snapshot for snapshot in found if snapshot.job == name]
        if not named:
            names = sorted({snapshot.job for snapshot in found})
            hint = did_you_mean(name, names) or (f"Jobs: {', '.join(names)}." if names else "It holds no snapshot.")
            raise UsageError(f"{self._place} holds no snapshot of a job '{name}'.", hint=hint)
        return replace(self, job=Job(name=name, job_uid=named[0].job_uid))

    def all(self, *, on_damage: Callable[[Failure], None] | None = None) -> list[Snapshot]:
        """Newest first. A damaged seal raises EngineError, or is told to `on_damage` and left out."""
        try:
            return self.engine.snapshots(self.repository, self.job, on_damage=on_damage)
        except EngineError as error:
            if error.failure.error_type == "repository_missing" and not self.is_known:
                return []
            raise

    def find(self, wanted: str = "latest") -> Snapshot:
        """The snapshot that is meant.

        Raises UnknownSnapshot, or UsageError when `latest` could be that of several jobs.

        While a seal is damaged only an id will do: what it sealed may be the one that is meant.
        """
        damaged: list[Failure] = []
        found = self.all(on_damage=damaged.append)
        matching = [snapshot for snapshot in found if wanted and snapshot.snapshot_id.startswith(wanted)]
        if len(matching) == 1:
            return matching[0]
        moment = None if matching else _moment(wanted)
        if damaged and (wanted == "latest" or moment is not None or not matching):
            remedy = "Name a sound snapshot by its id, and put this file back from another copy of the repository."
            raise EngineError(replace(damaged[0], remedy=remedy))
        if not found:
            raise UnknownSnapshot(self.nothing_yet, hint=self.what_to_do_for_one)
        if wanted == "latest" or moment is not None:
            self._check_one_job(found)
        if wanted == "latest":
            return found[0]
        if moment is not None:
            before = [snapshot for snapshot in found if snapshot.created_at <= moment]
            if before:
                return before[0]
            raise UnknownSnapshot(
                f"{self._whose} has no snapshot from {wanted} or before; the oldest is {found[-1].snapshot_id}.",
                hint=f"{self._listed_by} lists them.",
            )
        some = (
            f"{len(matching)} snapshots of {self._whose} begin with" if matching else f"{self._whose} has no snapshot"
        )
        raise UnknownSnapshot(f"{some} '{wanted}'.", hint=f"{self._listed_by} lists them.")

    @property
    def nothing_yet(self) -> str:
        """Says where that was looked for: a url that is wrong reads like one where nothing was written."""
        place = "" if self.job is None else f" in repository {self.repository.url}"
        return f"{self._whose} has no snapshot{place} yet."

    @property
    def what_to_do_for_one(self) -> str:
        if self.job is None or not self.has_home:
            return ""
        return (
            f"Run it: backup-ops run {quote(self.job.name)}. If there are some elsewhere, first correct the url of "
            f"repository '{self.repository.name}' in jobs.yaml."
        )

    def ls(self, snapshot: str = "latest", path: str = "") -> Iterator[Entry]:
        """Everything at and below `path`, in the order of the paths."""
        return self.engine.ls(self.repository, self.find(snapshot).snapshot_id, path)

    def diff(self, before: str, after: str = "latest") -> Iterator[Change]:
        """What changed from one to the other, in the order of the paths."""
        first, second = self.find(before).snapshot_id, self.find(after).snapshot_id
        return self.engine.diff(self.repository, first, second)

    def restore(
        self,
        target: Path,
        snapshot: str = "latest",
        paths: Sequence[str] = (),
        *,
        overwrite: bool = False,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Restored:
        """Puts it, or `paths` of it, directly under `target`; every file is checked against its sha256."""
        chosen = self.find(snapshot).snapshot_id
        with self.context(f"restore-{chosen}", on_progress, cancel) as context:
            return self.engine.restore(
                self.repository, chosen, target, tuple(paths), overwrite=overwrite, dry_run=dry_run, context=context
            )

    def verify(
        self,
        level: VerifyLevel = "list",
        *,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Verified:
        """Whether they are as they were stored. What is damaged is in the result, and raises nothing.

        The job's bandwidth and priority hold for it, as they do for its runs.
        """
        limits = None if self.job is None else self.job.limits
        with self.context("verify", on_progress, cancel, limits) as context:
            return self.engine.verify(self.repository, job=self.job, level=level, context=context)

    @contextlib.contextmanager
    def context(
        self,
        purpose: str,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
        limits: Limits | None = None,
    ) -> Iterator[RunContext]:
        """For work in this process that is no run: an interrupt ends it, or `cancel`."""
        with tempfile.TemporaryDirectory(prefix=f"backup-ops-{purpose}-") as scratch:  # not on the home's, full, disk
            yield RunContext(
                run_id=purpose,
                scratch=Path(scratch),
                owner=self.owner,
                distrusted=self.distrusted,
                on_progress=on_progress or (lambda _: None),
                cancel=cancel or threading.Event(),
                limits=limits or Limits(),
            )

    def _check_one_job(self, found: Sequence[Snapshot]) -> None:
        uids = {snapshot.job_uid for snapshot in found}
        if len(uids) > 1:
            names = sorted({snapshot.job for snapshot in found})
            raise UsageError(
                f"{self._place} holds snapshots of {len(uids)} jobs: {', '.join(names)}.",
                hint=f"Say of which: --job {quote(names[0])}, or name a snapshot by its id.",
            )

    @property
    def _place(self) -> str:
        return f"repository {self.repository.url}"

    @property
    def _whose(self) -> str:
        return self._place if self.job is None else f"job '{self.job.name}'"

    @property
    def _listed_by(self) -> str:
        if self.has_home and self.job is not None:
            return f"`backup-ops snapshots {quote(self.job.name)}`"
        return f"`backup-ops snapshots --repository {quote(self.repository.url)}`"


def _moment(text: str) -> datetime | None:
    """A time as people write it: `2026-11-24`, `2026-11-24 10:00`, with or without zone; local where none is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) <= 10:  # a day means the end of it
        moment = moment.replace(hour=23, minute=59, second=59)
    return moment.astimezone(UTC)
