"""Engines: the adapters that drive the tools which move the bytes."""

from __future__ import annotations

from backup_ops.engines.base import Engine
from backup_ops.errors import EngineMissing, did_you_mean

_LATER = {
    "restic": "Use a repository with engine: rclone, or run restic by hand until then.",
    "command": "Let the command write its file into a folder and back up that folder with rclone until then.",
    "heartbeat": "Such a job runs elsewhere: there is nothing to start here.",
}


def engine_for(name: str, engine_path: str | None = None) -> Engine:
    """The engine of that name; `engine_path` is the tool from `settings.engines`. Raises EngineMissing."""
    if name == "rclone":
        from backup_ops.engines.rclone.engine import RcloneEngine  # loads duckdb, which most commands never need

        return RcloneEngine(binary_path=engine_path)
    if name in _LATER:
        raise EngineMissing(f"this version of backup-ops cannot run engine '{name}' yet.", hint=_LATER[name])
    raise EngineMissing(
        f"there is no engine '{name}'.", hint=did_you_mean(name, ["rclone", *_LATER]) or "Engines: rclone."
    )
