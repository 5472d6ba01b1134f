"""One backup in a process of its own: `one_backup.py SOURCE REPOSITORY RUN_ID SCRATCH [BYTES_PER_SECOND [VARIABLE]]`.

VARIABLE holds the password.

Prints the pid of each tool it starts, then what came of it as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from backup_ops.engines import engine_for
from backup_ops.engines.base import RunContext
from backup_ops.errors import EngineError
from backup_ops.job import Job, Limits, Repository, SecretReference


def main(source: str, url: str, run_id: str, scratch: str, bandwidth: str = "", variable: str = "") -> None:
    limits = Limits(bandwidth_bytes_s=int(bandwidth)) if bandwidth else Limits()
    context = RunContext(
        run_id=run_id,
        scratch=Path(scratch),
        limits=limits,
        on_tool=lambda pid: print(f"tool {pid}", flush=True),
    )
    job = Job(name="photos", job_uid="uid-photos", source=[source], repository="mirror", limits=limits)
    password = SecretReference("env", variable) if variable else None
    repository = Repository(name="mirror", engine="rclone", url=url, password=password)
    try:
        result = engine_for("rclone").backup(job, repository, context)
    except EngineError as error:
        said = {"error_type": error.failure.error_type, "message": str(error)}
    else:
        said = {
            "snapshot_id": result.snapshot_id,
            "files_total": result.files_total,
            "files_deleted": result.files_deleted,
            "items": [[item.path, item.failure.error_type, item.failure.message] for item in result.item_failures],
        }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
