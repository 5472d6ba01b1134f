"""A restore: select, fetch beside, prove, put in place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from backup_ops.engines.rclone.binary import Rclone, failed
from backup_ops.engines.rclone.copying import Copying
from backup_ops.engines.rclone.manifest import read_manifest
from backup_ops.engines.rclone.names import display
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.repository import Repository
from backup_ops.engines.rclone.selection import Selection, group_of, select, stale_notes, stored_at
from backup_ops.engines.rclone.target import Target
from backup_ops.errors import EngineError, RestoreRefused
from backup_ops.failure import failure_of, failure_of_os_error
from backup_ops.progress import Progress
from backup_ops.quantity import format_bytes, format_count
from backup_ops.snapshot import Restored

# What a restore that was killed leaves in its target; the next one that may overwrite takes it away.
STAGING = ".backup-ops-restore-"
_LISTED_DAMAGED = 10
_CHUNK_BYTES = 1 << 20


def restore(
    repository: Repository,
    snapshot_id: str,
    target: Path,
    paths: Sequence[str],
    *,
    overwrite: bool,
    dry_run: bool,
    rclone: Rclone,
) -> Restored:
    """Puts what is selected under `target`, each file whole and proven or not at all."""
    started = time.monotonic()
    head = repository.head(snapshot_id)
    with repository.manifest(head) as file:
        nodes = read_manifest(file)
    selection = select(nodes, snapshot_id, paths)
    target = Path(os.path.abspath(target.expanduser()))
    _check_target(target, repository, selection, overwrite=overwrite)
    notes: tuple[str, ...] = ()
    if not dry_run:
        notes = _Restoring(repository, snapshot_id, target, selection, rclone).perform()
    return Restored(
        snapshot_id=snapshot_id,
        target=str(target),
        files=len(selection.files),
        folders=sum(node.path != b"" for node in selection.folders),
        links=len(selection.symlinks),
        bytes=selection.bytes,
        duration_s=time.monotonic() - started,
        dry_run=dry_run,
        notes=stale_notes(selection) + notes,
    )


def _check_target(target: Path, repository: Repository, selection: Selection, *, overwrite: bool) -> None:
    real = Path(os.path.realpath(target))
    location = Path(os.path.realpath(repository.location))
    if real.is_relative_to(location):
        raise RestoreRefused(
            f"target {target} lies inside repository {repository.location}.", hint="Name another folder."
        )
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise RestoreRefused(f"target {target} is not a folder.", hint="Name a folder, or one that does not exist yet.")
    try:
        is_empty = not os.listdir(target)
    except OSError as error:
        raise RestoreRefused(
            f"target {target} cannot be read: {error.strerror}.", hint="Name another folder."
        ) from None
    if is_empty:
        return
    if not overwrite:
        raise RestoreRefused(
            f"target {target} is not empty.",
            hint="Name an empty folder, or add --overwrite to replace what the snapshot holds and leave the rest.",
        )
    looking = Target(os.fsencode(target))
    with contextlib.closing(looking):
        for node in (*selection.symlinks, *selection.files):
            if looking.is_occupied(node.path):
                name = display(node.path)
                raise RestoreRefused(
                    f"{name} is a {node.kind} in the snapshot, and a folder with files in target {target}.",
                    hint="Move that folder away, or restore into an empty folder.",
                )


class _Restoring:
    def __init__(
        self, repository: Repository, snapshot_id: str, target: Path, selection: Selection, rclone: Rclone
    ) -> None:
        self._repository = repository
        self._snapshot_id = snapshot_id
        self._path = target
        self._selection = selection
        self._rclone = rclone
        self._context = rclone.context
        self._damaged: list[tuple[bytes, str]] = []

    def perform(self) -> tuple[str, ...]:
        is_made = not self._path.exists()
        try:
            staging = self._prepare()
            try:
                notes = self._fill(os.fsencode(staging), is_made=is_made)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            where = (
                display(os.fsencode(error.filename)) if isinstance(error.filename, (str, bytes)) else str(self._path)
            )
            message = f"the restore into {self._path} stopped at {where}: {error.strerror}."
            remedy = "Make room or rights there and restore again with --overwrite; each file that is there is whole."
            raise EngineError(failure_of_os_error(error, message, remedy)) from error
        finally:
            if is_made:
                with contextlib.suppress(OSError):
                    self._path.rmdir()  # goes only when nothing came of it
        if self._damaged:
            raise self._damage()
        return notes

    def _prepare(self) -> Path:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._check_space()
            for leftover in self._path.glob(f"{STAGING}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            staging = self._path / f"{STAGING}{secrets.token_hex(4)}"
            staging.mkdir(mode=0o700)
        except OSError as error:
            message = f"target {self._path} cannot be written: {error.strerror}."
            raise EngineError(failure_of_os_error(error, message, "Name another folder.")) from error
        return staging

    def _check_space(self) -> None:
        needed, free = self._selection.bytes, shutil.disk_usage(self._path).free
        if needed > free:
            raise EngineError(
                failure_of(
                    "disk_full",
                    f"the restore needs {format_bytes(needed)}, and target {self._path} has {format_bytes(free)} free.",
                    "Name a folder on a larger disk, or restore fewer paths.",
                )
            )

    def _fill(self, staging: bytes, *, is_made: bool) -> tuple[str, ...]:
        self._fetch(staging)
        target = Target(os.fsencode(self._path))
        with contextlib.closing(target):
            self._place_files(staging, target)
            for number, node in enumerate(self._selection.symlinks):
                link = staging + b"/link-%d" % number
                os.symlink(node.link_target or b"", link)
                target.finish(link, node)
                target.put(link, node.path)
            for node in self._selection.folders:
                target.make_folder(node.path)
            shutil.rmtree(staging, ignore_errors=True)  # before the time of the folder it lies in is set
            # Deepest first: what is put into a folder changes its time, and its mode may shut it.
            for node in reversed(self._selection.folders):
                if node.path or is_made:
                    target.finish_folder(node)
            return target.notes

    def _fetch(self, staging: bytes) -> None:
        """Content into the staging folder, under the names it is stored by."""
        stored = {f"{node.stored_run}/{node.stored_path}": node.size_bytes for node in self._selection.files}
        if not stored:
            return
        copying = Copying(self._rclone, "restoring", len(stored), sum(stored.values()))
        source = str(self._repository.location / "runs")
        ended = copying.run(source, os.fsdecode(staging) + "/content", sorted(stored))
        if ended.exit_code in (0, 3):
            return  # what is not there is found below, file by file
        error = failed(ended)
        if (
            error.failure.error_type in ("disk_full", "read_only", "permission_denied", "out_of_memory")
            or not copying.messages
        ):
            raise error

    def _place_files(self, staging: bytes, target: Target) -> None:
        groups: dict[object, list[Node]] = {}
        for node in self._selection.files:
            groups.setdefault(group_of(node), []).append(node)
        users = Counter(stored_at(names[0]) for names in groups.values())
        proven: dict[str, str | None] = {}
        for number, names in enumerate(groups.values()):
            self._context.check()
            node, stored = names[0], stored_at(names[0])
            staged = staging + b"/content/" + os.fsencode(stored)
            if stored not in proven:
                proven[stored] = self._what_is_wrong(staged, node)
            wrong = proven[stored]
            if wrong is not None:
                self._damaged.extend((name.path, wrong) for name in names)
                continue
            users[stored] -= 1
            if users[stored]:  # another file, no link of this one, has the same content
                staged = _copied(staged, staging)
            target.finish(staged, node)
            for other in names[1:]:
                target.put(self._linked(staged, staging, other, target), other.path)
            target.put(staged, node.path)
            if number % 200 == 0:
                self._context.on_progress(Progress(phase="placing", files_done=number, files_total=len(groups)))

    def _linked(self, staged: bytes, staging: bytes, node: Node, target: Target) -> bytes:
        link = staging + b"/" + secrets.token_hex(8).encode()
        try:
            os.link(staged, link)
        except OSError:
            target.miss("Hard link", node.path)
            link = _copied(staged, staging)
            target.finish(link, node)
        return link

    def _what_is_wrong(self, staged: bytes, node: Node) -> str | None:
        digest = hashlib.sha256()
        try:
            with open(staged, "rb", buffering=0) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    self._context.check()
        except FileNotFoundError:
            return f"runs/{stored_at(node)} is not there or cannot be read"
        return (
            None
            if digest.hexdigest() == node.sha256
            else f"runs/{stored_at(node)} is not what was stored (sha256 differs)"
        )

    def _damage(self) -> EngineError:
        shown = [f"{display(path)} ({wrong})" for path, wrong in self._damaged[:_LISTED_DAMAGED]]
        more = len(self._damaged) - len(shown)
        return EngineError(
            failure_of(
                "repository_corrupt",
                f"{format_count(len(self._damaged))} of {format_count(len(self._selection.files))} files of snapshot"
                f" {self._snapshot_id} are damaged and were not restored: {'; '.join(shown)}"
                f"{f'; and {more:,} more' if more else ''}. All others are in {self._path}.",
                "Restore these files from another snapshot.",
            )
        )


def _copied(staged: bytes, staging: bytes) -> bytes:
    copy = staging + b"/" + secrets.token_hex(8).encode()
    shutil.copyfile(staged, copy)
    return copy
