"""A backup: scan, compare, send, write the manifest, commit."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops.engines.base import BackupResult, ItemFailure, Preview, RunContext
from backup_ops.engines.rclone.binary import Rclone
from backup_ops.engines.rclone.comparison import Comparison, compare, moved
from backup_ops.engines.rclone.file_systems import FRESH_NS, UNSYNCED_FRESH_NS
from backup_ops.engines.rclone.location import Location
from backup_ops.engines.rclone.manifest import read_manifest, write_manifest
from backup_ops.engines.rclone.marker import check_writable, create_marker
from backup_ops.engines.rclone.names import display
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.repository import SNAPSHOT_ID, Repository
from backup_ops.engines.rclone.source import Scan, Source
from backup_ops.engines.rclone.transfer import Transfer, send
from backup_ops.errors import EngineError
from backup_ops.event import format_at
from backup_ops.failure import Failure, failure_of
from backup_ops.job import Job
from backup_ops.progress import Progress
from backup_ops.quantity import format_count

_LISTED_IN_SEAL = 100
_SAMPLE = 50
_MAX_ITEM_FAILURES = 1000


@dataclass
class _Before:
    """The job's newest snapshot that can be trusted, and what could not be."""

    nodes: dict[bytes, Node]
    snapshot_id: str | None
    damaged: list[ItemFailure]
    notes: list[str] = field(default_factory=list)


def back_up(job: Job, location: Location, rclone: Rclone) -> BackupResult:
    """Makes the snapshot of this run. Everything that can be refused is, before anything is written."""
    context = rclone.context
    if not SNAPSHOT_ID.fullmatch(context.run_id):
        raise ValueError(f"'{context.run_id}' is no id of a run")
    source = _source_of(job, location)
    marker = check_writable(location, rclone, context.owner, known_before=context.known_before)
    repository = Repository(location, rclone, marker) if marker else None
    snapshot_ids: list[str] = []
    if repository is not None:
        snapshot_ids = repository.snapshot_ids()
        if context.run_id in snapshot_ids:
            return _result_of(repository.head(context.run_id))
        # An earlier attempt of this very run may have died here.
        if repository.has_run_folder(context.run_id):
            repository.discard(context.run_id)
    scan = source.scan(context, location.folder)
    before = _before(repository, job, snapshot_ids)
    context.on_progress(Progress(phase="comparing", files_total=scan.files))
    comparison = compare(scan, before.nodes, source, context)
    _guard(job, source, scan, before, comparison, context)
    if repository is None:
        repository = Repository(location, rclone, create_marker(location, rclone, context.owner))
    try:
        return _store(job, source, scan, before, comparison, repository)
    except BaseException:
        repository.discard(context.run_id)
        raise


def preview(job: Job, location: Location, rclone: Rclone) -> Preview:
    """What `back_up` would do now."""
    context = rclone.context
    source = _source_of(job, location)
    marker = check_writable(location, rclone, context.owner, known_before=context.known_before)
    scan = source.scan(context, location.folder, is_synced=False)
    before = _before(Repository(location, rclone, marker) if marker else None, job)
    comparison = compare(scan, before.nodes, source, context)
    _guard(job, source, scan, before, comparison, context)
    marks = [("+", comparison.new), ("~", comparison.changed), ("-", comparison.deleted)]
    sample = [f"{mark} {display(node.path)}" for mark, nodes in marks for node in nodes[:_SAMPLE]][:_SAMPLE]
    notes = scan.notes + before.notes
    if marker is None:
        notes.insert(0, f"Repository {location} does not exist yet; the first run creates it.")
    return Preview(
        files_total=scan.files,
        bytes_total=_bytes_of(scan.nodes.values()),
        files_new=len(comparison.new),
        files_changed=len(comparison.changed),
        files_deleted=len(comparison.deleted),
        bytes_added=comparison.bytes_to_store,
        sample=tuple(sample),
        item_failures=tuple(scan.failures + before.damaged),
        notes=tuple(notes),
    )


def _source_of(job: Job, location: Location) -> Source:
    source = Source(job.source, job.exclude)
    if location.folder is None:
        return source
    real = Path(os.path.realpath(location.folder))
    for root in source.roots.values():
        if Path(os.path.realpath(root)).is_relative_to(real):
            raise EngineError(
                failure_of(
                    "config_invalid",
                    f"source {root} lies inside repository {location}: a backup would back itself up.",
                    "Keep the repository outside of what it backs up.",
                )
            )
    return source


def _before(repository: Repository | None, job: Job, snapshot_ids: Sequence[str] | None = None) -> _Before:
    before = _Before({}, None, [])
    if repository is None:
        return before

    def on_damage(name: str, failure: Failure) -> None:
        before.damaged.append(ItemFailure(f"snapshots/{name}.json", failure, is_left_out=False))

    for head in repository.heads(on_damage, snapshot_ids):
        if head["job_uid"] != job.job_uid:
            continue
        try:
            with repository.manifest(head) as file:
                before.nodes, before.snapshot_id = read_manifest(file), head["snapshot_id"]
        except EngineError as error:
            if error.failure.error_type != "repository_corrupt":
                raise
            name = f"snapshots/{head['snapshot_id']}.parquet"
            before.damaged.append(ItemFailure(name, error.failure, is_left_out=False))
            continue
        trusted, lost = list[Node](), list[Node]()
        for node in before.nodes.values():
            is_bad = f"runs/{node.stored_run}/{node.stored_path}" in repository.rclone.context.distrusted
            (lost if is_bad else trusted).append(node)
        lost += repository.without_content(trusted)
        for node in lost:
            node.sha256 = node.stored_run = node.stored_path = None
        if lost:
            before.notes.append(
                f"The stored content of {format_count(len(lost))} files of snapshot {before.snapshot_id} is missing,"
                " has another size or was found damaged, in the repository's folder runs: what the source still holds"
                " of it is stored again. Older snapshots stay without it."
            )
        break
    return before


def _guard(job: Job, source: Source, scan: Scan, before: _Before, comparison: Comparison, context: RunContext) -> None:
    files = scan.files
    if scan.failures and not files:
        raise EngineError(scan.failures[0].failure)
    if files < job.guard.min_files:
        what = "is empty" if not files else f"holds {format_count(files)} files"
        raise EngineError(
            failure_of(
                "source_missing",
                f"source {source} {what}, and guard.min_files is {format_count(job.guard.min_files)}."
                " Nothing was written.",
                "Mount the source, correct 'source' or 'exclude', or lower guard.min_files in jobs.yaml.",
            )
        )
    if job.guard.min_files and len(source.roots) > 1:
        filled = {node.path.partition(b"/")[0] for node in scan.nodes.values() if node.is_content}
        for name, root in source.roots.items():
            if name not in filled:
                raise EngineError(
                    failure_of(
                        "source_missing",
                        f"source {root} is empty, and guard.min_files is {format_count(job.guard.min_files)}."
                        " Nothing was written, of the other sources neither.",
                        "Mount the source, correct 'source' or 'exclude', or set guard.min_files to 0 in jobs.yaml.",
                    )
                )
    limit = job.guard.max_delete_percent
    if limit is not None and before.snapshot_id is None and context.promised and not context.force:
        raise EngineError(
            failure_of(
                "repository_corrupt",
                f"the repository has no sound snapshot of job '{job.name}', and {format_count(len(context.promised))}"
                " were made there: whether too many files are gone (guard.max_delete_percent) cannot be known."
                " Nothing was written.",
                f"Look: backup-ops verify {job.name}. Put snapshots/*.json back from another copy of the repository; if"
                " they are gone for good, run once with --force.",
            )
        )
    files_before = sum(node.is_content for node in before.nodes.values())
    if limit is None or not files_before or context.force:
        return
    gone = len(comparison.deleted) - moved(comparison)
    if gone * 100 > limit * files_before:
        raise EngineError(
            failure_of(
                "too_many_deletes",
                f"{format_count(gone)} of {format_count(files_before)} files are gone from source {source}"
                f" ({gone * 100 / files_before:.0f} %), and guard.max_delete_percent is {limit:g}."
                " Nothing was written.",
            )
        )


def _store(
    job: Job,
    source: Source,
    scan: Scan,
    before: _Before,
    comparison: Comparison,
    repository: Repository,
) -> BackupResult:
    context = repository.rclone.context
    repository.check_same()
    transfer = send(comparison.to_store, source, repository, lambda node: _is_fresh(node, scan), scan.unsynced)
    nodes = _final_nodes(scan, before, comparison, transfer)
    fresh = [node for node in nodes.values() if node.is_content and node.stale is None]
    failures = [*scan.failures, *_item_failures(transfer, before)]
    if scan.files and not fresh and failures:
        raise EngineError(failures[0].failure)
    stale = sum(node.stale is not None and node.is_content for node in nodes.values())
    deleted = sum(node.is_content and not _is_file(nodes, node.path) for node in before.nodes.values())
    head: dict[str, Any] = {
        "job": job.name,
        "job_uid": job.job_uid,
        "created_at": format_at(datetime.fromtimestamp(scan.started_ns / 1e9, UTC)),
        "host": socket.gethostname(),
        "source": [str(root) for root in source.roots.values()],
        "parent": before.snapshot_id,
        "files": sum(node.is_content for node in nodes.values()),
        "bytes": _bytes_of(nodes.values()),
        "entries": len(nodes),
        "files_new": sum(node.path not in transfer.failures for node in comparison.new),
        "files_changed": sum(node.path not in transfer.failures for node in comparison.changed),
        "files_deleted": deleted,
        "bytes_added": transfer.bytes_stored,
        "is_complete": not failures,
        "stale": stale,
        "left_out": len(failures),
        "left_out_list": [[item.path, item.failure.error_type] for item in failures[:_LISTED_IN_SEAL]],
        "exit_code": transfer.exit_code,
    }
    context.on_progress(Progress(phase="sealing", files_done=head["files"], files_total=head["files"]))
    # A folder for this user alone: who shares the home may not read the names in an encrypted repository.
    with repository.rclone.scratch_folder() as folder:
        manifest = folder / f"{context.run_id}.parquet"
        write_manifest(nodes.values(), manifest)
        described = repository.commit(context.run_id, head, manifest)
    items, notes = before.damaged + failures, scan.notes + before.notes
    if len(items) > _MAX_ITEM_FAILURES:
        notes.append(f"{format_count(len(items) - _MAX_ITEM_FAILURES)} more failures of single files are not listed.")
    return _result_of(head | {"snapshot_id": context.run_id}, described, items[:_MAX_ITEM_FAILURES], notes)


def _final_nodes(scan: Scan, before: _Before, comparison: Comparison, transfer: Transfer) -> dict[bytes, Node]:
    """What the manifest will hold: the scan, with the version before where a file did not get there."""
    nodes = dict(scan.nodes)
    for node in scan.nodes.values():
        if node.kind == "hardlink":
            first = scan.nodes[node.link_target or b""]
            node.take_content_of(first)
            if first.path in transfer.failures:
                transfer.failures[node.path] = transfer.failures[first.path]
    for path, failure in transfer.failures.items():
        older = before.nodes.get(path)
        if older is not None and older.is_content and older.sha256 is not None:
            nodes[path] = older.as_stale(failure.message)
        else:
            del nodes[path]
    for node in comparison.kept:
        nodes[node.path] = node if not node.is_content else node.as_stale("its folder could not be listed")
    for node in nodes.values():
        if node.is_content and node.stale is None and _is_fresh(node, scan):
            node.ctime_ns = None
    return nodes


def _is_fresh(node: Node, scan: Scan) -> bool:
    """Whether a change of the file after the scan need not show in its times."""
    if node.path in scan.timeless:
        return True
    # The sync came after the scan began: what was dirty then has an older time, and is clean since.
    fresh_ns = UNSYNCED_FRESH_NS if node.path in scan.unsynced else FRESH_NS
    return node.ctime_ns is not None and node.ctime_ns > scan.started_ns - fresh_ns


def _item_failures(transfer: Transfer, before: _Before) -> list[ItemFailure]:
    items = []
    for path, failure in transfer.failures.items():
        older = before.nodes.get(path)
        is_kept = older is not None and older.is_content and older.sha256 is not None
        what = "The version before is kept." if is_kept else "It is left out."
        told = replace(failure, message=f"{failure.message} {what}")
        items.append(ItemFailure(display(path), told, is_left_out=not is_kept))
    return items


def _is_file(nodes: dict[bytes, Node], path: bytes) -> bool:
    node = nodes.get(path)
    return node is not None and node.is_content


def _bytes_of(nodes: Any) -> int:
    return sum(node.size_bytes for node in nodes if node.kind == "file")


def _result_of(
    head: dict[str, Any], described: int = 0, items: Sequence[ItemFailure] = (), notes: Sequence[str] = ()
) -> BackupResult:
    return BackupResult(
        snapshot_id=head["snapshot_id"],
        files_total=head["files"],
        bytes_total=head["bytes"],
        files_new=head["files_new"],
        files_changed=head["files_changed"],
        files_deleted=head["files_deleted"],
        bytes_added=head["bytes_added"],
        bytes_stored=head["bytes_added"] + described,
        item_failures=tuple(items),
        exit_code=head["exit_code"],
        notes=tuple(notes),
    )
