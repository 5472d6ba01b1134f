"""A source, a repository and the engine between them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backup_ops.engines.base import BackupResult, Engine, RunContext
from backup_ops.job import Guard, Job, Limits, Repository
from backup_ops.progress import Progress
from backup_ops.snapshot import Restored

ROOT = Path(__file__).parents[2]
# For Python processes the tests start: where backup_ops is, installed or not.
CHILD_ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
}
SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))


@dataclass
class Bench:
    """A source, a repository that does not exist yet, and the engine between them."""

    folder: Path
    engine: Engine
    source: Path
    exclude: list[str] = field(default_factory=list)
    guard: Guard = field(default_factory=Guard)
    limits: Limits = field(default_factory=Limits)
    runs: int = 0
    log: list[bytes] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    tools: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repository = Repository(name="mirror", engine="rclone", url=str(self.folder / "repository"))
        self.location = self.folder / "repository"

    def job(self, name: str = "photos", source: list[Path] | None = None) -> Job:
        return Job(
            name=name,
            job_uid=f"uid-{name}",
            source=[str(path) for path in source or [self.source]],
            repository="mirror",
            exclude=self.exclude,
            guard=self.guard,
            limits=self.limits,
        )

    def context(self, **overrides: Any) -> RunContext:
        self.runs += 1
        scratch = self.folder / f"scratch-{self.runs}"
        scratch.mkdir()
        values: dict[str, Any] = {
            "run_id": f"20261124T0955{self.runs:02d}-3f9a2c",
            "scratch": scratch,
            "limits": self.limits,
            "on_log": self.log.append,
            "on_progress": self.progress.append,
            "on_tool": self.tools.append,
        }
        return RunContext(**(values | overrides))

    def backup(self, job: Job | None = None, **overrides: Any) -> BackupResult:
        context = self.context(**overrides)
        result = self.engine.backup(job or self.job(), self.repository, context)
        assert list(context.scratch.iterdir()) == [], "the engine left something in its scratch folder"
        return result

    def restore(
        self, snapshot_id: str | None, name: str = "restored", paths: tuple[str, ...] = (), **options: Any
    ) -> Restored:
        assert snapshot_id is not None
        return self.engine.restore(
            self.repository, snapshot_id, self.folder / name, paths, context=self.context(), **options
        )
