"""The engine `rclone`: snapshots in run folders, described by sealed manifests."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import param

from backup_ops.engines.base import BackupResult, EngineInfo, Owner, Preview, RunContext
from backup_ops.engines.rclone import backup, ownership, restore, verification
from backup_ops.engines.rclone.binary import Rclone, failed, find_binary
from backup_ops.engines.rclone.difference import differences
from backup_ops.engines.rclone.location import Location, location_of
from backup_ops.engines.rclone.manifest import iterate_manifest
from backup_ops.engines.rclone.names import display, spellings
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.repository import Repository
from backup_ops.errors import EngineError, UnknownSnapshot, UsageError
from backup_ops.event import parse_at
from backup_ops.failure import Failure
from backup_ops.job import Job
from backup_ops.job import Repository as RepositorySetting
from backup_ops.snapshot import Change, Entry, Restored, Snapshot, Verified, VerifyLevel


class RcloneEngine(param.Parameterized):
    """See `Engine` for what each method promises."""

    name = param.String(default="rclone", constant=True, doc="What `engine:` says in jobs.yaml.")
    binary_path = param.String(
        default=None,
        allow_None=True,
        constant=True,
        doc="Path of rclone; absent: beside this Python, else on the PATH.",
    )

    def __init__(self, binary_path: str | None = None) -> None:
        super().__init__(name="rclone", binary_path=binary_path)  # type: ignore[no-untyped-call]  # as in job.py

    def probe(self) -> EngineInfo:
        return EngineInfo(name="rclone", path=str(find_binary(self.binary_path)))

    def version(self) -> str:
        with self._reading() as rclone:
            printed: list[bytes] = []
            ended = rclone.call("version", on_stdout=printed.append)
        if ended.exit_code != 0 or not printed:
            raise failed(ended)
        return printed[0].decode("utf-8", "replace").removeprefix("rclone ").strip()

    def backup(self, job: Job, repository: RepositorySetting, context: RunContext) -> BackupResult:
        location = location_of(repository)
        return backup.back_up(job, location, self._rclone(context, location))

    def preview(self, job: Job, repository: RepositorySetting, context: RunContext) -> Preview:
        location = location_of(repository)
        return backup.preview(job, location, self._rclone(context, location))

    def snapshots(
        self,
        repository: RepositorySetting,
        job: Job | None = None,
        *,
        on_damage: Callable[[Failure], None] | None = None,
    ) -> list[Snapshot]:
        def damaged(_: str, failure: Failure) -> None:
            if on_damage is None:
                raise EngineError(failure)
            on_damage(failure)

        with self._opened(repository) as opened:
            heads = opened.heads(damaged)
            found = [_snapshot(head) for head in heads if job is None or head["job_uid"] == job.job_uid]
        return sorted(found, key=lambda snapshot: (snapshot.created_at, snapshot.snapshot_id), reverse=True)

    def ls(self, repository: RepositorySetting, snapshot_id: str, path: str = "") -> Iterator[Entry]:
        below = os.fsencode(path).strip(b"/").removeprefix(b"./")
        below = b"" if below == b"." else below
        with self._opened(repository) as opened, opened.manifest(opened.head(snapshot_id)) as file:
            is_found = False
            for spelled in spellings(below):
                for node in iterate_manifest(file, spelled):
                    is_found = True
                    if node.path:  # the root of the source itself has no name
                        yield _entry(node)
                if is_found:
                    return
            if below:
                raise UsageError(
                    f"snapshot {snapshot_id} holds no '{display(below)}'.",
                    hint="Without a path `ls` shows all it holds.",
                )

    def restore(
        self,
        repository: RepositorySetting,
        snapshot_id: str,
        target: Path,
        paths: Sequence[str] = (),
        *,
        overwrite: bool = False,
        dry_run: bool = False,
        context: RunContext,
    ) -> Restored:
        location = location_of(repository)
        opened = Repository.open(location, self._rclone(context, location))
        return restore.restore(opened, snapshot_id, target, paths, overwrite=overwrite, dry_run=dry_run)

    def diff(self, repository: RepositorySetting, before: str, after: str) -> Iterator[Change]:
        with (
            self._opened(repository) as opened,
            opened.manifest(opened.head(before)) as first,
            opened.manifest(opened.head(after)) as second,
        ):
            yield from differences(first, second)

    def verify(
        self,
        repository: RepositorySetting,
        *,
        job: Job | None = None,
        level: VerifyLevel = "list",
        sample_files: int = 50,
        context: RunContext,
    ) -> Verified:
        location = location_of(repository)
        try:
            opened = Repository.open(location, self._rclone(context, location))
        except EngineError as error:
            if error.failure.error_type != "repository_corrupt":
                raise
            return verification.marker_damaged(str(location), level, error.failure)
        return verification.verify(
            opened, level, job_uid=None if job is None else job.job_uid, sample_files=sample_files
        )

    def take_over(self, repository: RepositorySetting, context: RunContext) -> Owner | None:
        location = location_of(repository)
        return ownership.take_over(location, self._rclone(context, location), context.owner)

    def discard(self, repository: RepositorySetting, run_ids: Sequence[str], context: RunContext) -> list[str]:
        location = location_of(repository)
        return ownership.discard(location, self._rclone(context, location), run_ids)

    def is_committed(self, repository: RepositorySetting, run_id: str) -> bool:
        try:
            with self._opened(repository) as opened:
                opened.head(run_id)
        except UnknownSnapshot:
            return False
        except EngineError as error:
            if error.failure.error_type == "repository_missing":
                return False
            raise
        return True

    def _rclone(self, context: RunContext, location: Location | None = None) -> Rclone:
        return Rclone(find_binary(self.binary_path), context, location)

    @contextlib.contextmanager
    def _opened(self, repository: RepositorySetting) -> Iterator[Repository]:
        location = location_of(repository)
        with self._reading(location) as rclone:
            yield Repository.open(location, rclone)

    @contextlib.contextmanager
    def _reading(self, location: Location | None = None) -> Iterator[Rclone]:
        with tempfile.TemporaryDirectory(prefix="backup-ops-") as scratch:
            yield self._rclone(RunContext(run_id="reading", scratch=Path(scratch)), location)


def _snapshot(head: dict[str, object]) -> Snapshot:
    created_at = parse_at(str(head["created_at"]))
    assert created_at is not None
    return Snapshot(
        snapshot_id=str(head["snapshot_id"]),
        job=str(head["job"]),
        created_at=created_at,
        files=int(str(head["files"])),
        bytes=int(str(head["bytes"])),
        bytes_added=int(str(head["bytes_added"])),
        is_complete=bool(head["is_complete"]),
        job_uid=str(head["job_uid"]),
    )


def _entry(node: Node) -> Entry:
    return Entry(
        path=os.fsdecode(node.path),
        kind=node.kind,
        bytes=node.size_bytes,
        modified_at=datetime.fromtimestamp(node.mtime_ns / 1e9, UTC),
        mode=node.mode,
        link_target=None if node.link_target is None else os.fsdecode(node.link_target),
        sha256=node.sha256,
    )
