"""Whose a repository is: taking it over, and tidying up what one's own dead runs have left in it."""

from __future__ import annotations

from collections.abc import Sequence

from backup_ops.engines.base import Owner
from backup_ops.engines.rclone.binary import Rclone
from backup_ops.engines.rclone.location import Location
from backup_ops.engines.rclone.marker import check_writable, missing, read_marker, replace_marker, why_missing
from backup_ops.engines.rclone.repository import Repository


def take_over(location: Location, rclone: Rclone, owner: Owner) -> Owner | None:
    """Writes `owner` into the marker. Returns whose it was, None when it was theirs already. Raises EngineError."""
    marker = read_marker(location, rclone)
    if marker is None:
        raise missing(f"there is no repository at {location} to take over: {why_missing(location, rclone)}.")
    before = Owner(host=marker["owner"]["host"], home_id=marker["owner"]["home_id"])
    if before == owner:
        return None
    Repository(location, rclone, marker)  # whoever cannot open it has no business here
    replace_marker(location, rclone, marker | {"owner": {"host": owner.host, "home_id": owner.home_id}})
    return before


def discard(location: Location, rclone: Rclone, run_ids: Sequence[str]) -> list[str]:
    """Removes what dead runs of this owner have left. A snapshot, though its seal may be damaged, is left alone."""
    marker = check_writable(location, rclone, rclone.context.owner, known_before=True)
    assert marker is not None
    repository = Repository(location, rclone, marker)
    committed = set(repository.snapshot_ids())
    there = repository.unsealed() | repository.run_folders()
    removed = []
    for run_id in sorted(there.intersection(run_ids) - committed):
        repository.discard(run_id)
        if not repository.has_run_folder(run_id):
            removed.append(run_id)
    return removed
