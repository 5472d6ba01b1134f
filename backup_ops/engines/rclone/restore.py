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

from backup_ops.engines.process import ToolExit
from backup_ops.engines.rclone.copying import OF_THE_WAY, Copying
from backup_ops.engines.rclone.manifest import read_manifest
from backup_ops.engines.rclone.marker import missing, read_marker, why_missing
from backup_ops.engines.rclone.names import display
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.repository import Repository
from backup_ops.engines.rclone.selection import Selection, group_of, select, stale_notes, stored_at
from backup_ops.engines.rclone.target import STAGING, Staging, Target
from backup_ops.errors import EngineError, RestoreRefused
from backup_ops.failure import failure_of, failure_of_os_error
from backup_ops.progress import Progress
from backup_ops.quantity import format_bytes, format_count
from backup_ops.snapshot import Restored

_LISTED_DAMAGED = 10
_CHUNK_BYTES = 1 << 20
# The longest path the system takes, less what rclone appends to a name while it writes.
_MAX_PATH_BYTES = 4095 - len(".01234567.partial")


def restore(
    repository: Repository,
    snapshot_id: str,
    target: Path,
    paths: Sequence[str],
    *,
    overwrite: bool,
    dry_run: bool,
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
        notes = _Restoring(repository, snapshot_id, target, selection).perform()
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
    folder = repository.location.folder
    if folder is not None and real.is_relative_to(os.path.realpath(folder)):
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
    _check_spared(real, repository, selection)
    if not overwrite:
        raise RestoreRefused(
            f"target {target} is not empty.",
            hint="Name an empty folder, or add --overwrite to replace what the snapshot holds and leave the rest.",
        )
    looking = Target(os.fsencode(target))
    with contextlib.closing(looking):
        for node in (*selection.symlinks, *selection.files):
            try:
                is_occupied = looking.is_occupied(node.path)
            except OSError as error:
                raise RestoreRefused(
                    f"what is at {display(node.path)} in target {target} cannot be seen: {error.strerror}.",
                    hint="Give this user rights there, or restore into an empty folder.",
                ) from error
            if is_occupied:
                raise RestoreRefused(
                    f"{display(node.path)} is a {node.kind} in the snapshot,"
                    f" and a folder with files in target {target}.",
                    hint="Move that folder away, or restore into an empty folder.",
                )


def _check_spared(target: Path, repository: Repository, selection: Selection) -> None:
    """That nothing is written over the repository, or over a symlink that leads to it."""
    if repository.location.folder is None:
        return
    location = Path(os.path.abspath(repository.location.folder))
    links = (folder for folder in (location, *location.parents) if folder.is_symlink())
    on_the_way = [Path(os.path.realpath(link.parent)) / link.name for link in links]
    for place in (Path(os.path.realpath(location)), *on_the_way):
        if not place.is_relative_to(target):
            continue
        spared = os.fsencode(place.relative_to(target))
        for node in selection.written:
            is_above = node.kind != "folder" and spared.startswith(node.path + b"/")
            if is_above or node.path == spared or node.path.startswith(spared + b"/"):
                raise RestoreRefused(
                    f"{display(node.path)} of the snapshot would be written over repository {repository.location},"
                    f" which lies below target {target}.",
                    hint="Name another folder, or the paths to restore without this one.",
                )


class _Restoring:
    def __init__(self, repository: Repository, snapshot_id: str, target: Path, selection: Selection) -> None:
        self._repository = repository
        self._snapshot_id = snapshot_id
        self._path = target
        self._selection = selection
        self._rclone = repository.rclone
        self._context = repository.rclone.context
        self._damaged: list[tuple[bytes, str]] = []
        self._staged: dict[str, bytes] = {}
        """Where content is that could not be staged under the name it is stored by."""

    def perform(self) -> tuple[str, ...]:
        is_made = not self._path.exists()
        try:
            staging = self._prepare()
            try:
                notes = self._fill(staging, is_made=is_made)
            finally:
                staging.remove()
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
            self._check_repository()
            raise self._damage()
        return notes

    def _prepare(self) -> Staging:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._check_space()
            return Staging(self._path)
        except OSError as error:
            message = f"target {self._path} cannot be written: {error.strerror}."
            raise EngineError(failure_of_os_error(error, message, "Name another folder.")) from error

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

    def _fill(self, folder: Staging, *, is_made: bool) -> tuple[str, ...]:
        staging = folder.path
        self._fetch(staging)
        target = Target(os.fsencode(self._path))
        with contextlib.closing(target):
            self._place_files(staging, target)
            for number, node in enumerate(self._selection.symlinks):
                link = staging + b"/link-%d" % number
                os.symlink(node.link_target or b"", link)
                target.finish(link, node)
                target.put(link, node)
            for node in self._selection.folders:
                target.make_folder(node.path)
            folder.remove()  # before the time of the folder it lies in is set
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
        runs, content = self._repository.runs, os.fsdecode(staging) + "/content"
        near: list[str] = []
        far: dict[str, list[str]] = {}
        for path in sorted(stored):
            if len(staging) + len("/content/") + len(path.encode()) <= _MAX_PATH_BYTES:
                near.append(path)
            else:
                far.setdefault(path.rpartition("/")[0], []).append(path)
        if near:
            self._check_fetched(copying.run(runs, content, near), copying)
        for number, (folder, paths) in enumerate(far.items()):
            # Here the path would be longer than the system takes, and in the repository it is not.
            short = f"{os.fsdecode(staging)}/far-{number}"
            names = {path: path.rpartition("/")[2] for path in paths}
            self._staged |= {path: os.fsencode(f"{short}/{name}") for path, name in names.items()}
            self._check_fetched(copying.run(f"{runs}/{folder}", short, list(names.values())), copying)

    def _check_fetched(self, ended: ToolExit, copying: Copying) -> None:
        if ended.exit_code in (0, 3):
            return  # what is not there is found below, file by file
        failure = self._rclone.error(ended).failure
        kind = failure.error_type
        if kind in ("disk_full", "read_only") or STAGING in failure.message:  # what is only read is never full
            remedy = f"Free space at target {self._path}, or name a folder on a larger disk."
            if kind != "disk_full":
                remedy = f"Make target {self._path} writable for this user, or name another folder."
            message = f"the restore into {self._path} stopped: {failure.message}"
            raise EngineError(failure_of(kind, message, remedy))
        if kind == "permission_denied":
            remedy = f"Grant this user read access to repository {self._repository.location}."
            raise EngineError(failure_of(kind, failure.message, remedy))
        if kind in OF_THE_WAY:
            # Some files did not come because of it, and none of them is damaged.
            message = f"the restore into {self._path} stopped: {failure.message} What was put there before is whole."
            raise EngineError(failure_of(kind, message, "Restore again with --overwrite when it can be reached."))
        if kind == "out_of_memory" or not copying.messages:
            self._check_repository()
            raise EngineError(failure)

    def _check_repository(self) -> None:
        """Before single files are blamed: a repository that went away has lost them all, and none is damaged."""
        location = self._repository.location
        marker = read_marker(location, self._rclone)
        if marker is None:
            why = why_missing(location, self._rclone)
        elif marker["repository_id"] != self._repository.repository_id:
            why = f"another repository, {marker['repository_id']}, is in its place"
        else:
            return
        raise missing(
            f"repository {location} went away during the restore: {why}. What was put into {self._path} is whole.",
            "Mount or connect the repository and restore again with --overwrite.",
        )

    def _place_files(self, staging: bytes, target: Target) -> None:
        groups: dict[object, list[Node]] = {}
        for node in self._selection.files:
            groups.setdefault(group_of(node), []).append(node)
        users = Counter(stored_at(names[0]) for names in groups.values())
        proven: dict[str, str | None] = {}
        for number, names in enumerate(groups.values()):
            self._context.check()
            node, stored = names[0], stored_at(names[0])
            staged = self._staged.get(stored) or staging + b"/content/" + os.fsencode(stored)
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
                target.put(self._linked(staged, staging, other, target), other)
            target.put(staged, node)
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
