"""backup-ops: backup operations you can question. Start with `backup_ops.open()`; see docs/index.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from backup_ops.failure import Failure, classify
    from backup_ops.job import Job, Repository
    from backup_ops.manager import JobManager
    from backup_ops.ops import Ops, open
    from backup_ops.run import Run

# Loaded on first use: `import backup_ops` costs a few milliseconds, not a DuckDB and a pandas.
_ROOMS = {
    "Failure": "failure",
    "Job": "job",
    "JobManager": "manager",
    "Ops": "ops",
    "Repository": "job",
    "Run": "run",
    "classify": "failure",
    "open": "ops",
}

__all__ = ["Failure", "Job", "JobManager", "Ops", "Repository", "Run", "__version__", "classify", "open"]


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'backup_ops' has no attribute '{name}'")
    value = getattr(import_module(f"backup_ops.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
