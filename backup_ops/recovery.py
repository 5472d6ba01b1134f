"""What a repository proves of a run whose runner died between the commit and its last word."""

from __future__ import annotations

import logging
import threading
from typing import Any

from backup_ops.engines import engine_for
from backup_ops.errors import BackupError
from backup_ops.job import job_from_data
from backup_ops.queue import Request

ANSWER_WITHIN_S = 10.0
_LOGGER = logging.getLogger("backup_ops")


def committed(request: Request) -> dict[str, Any] | None:
    """Facts of the committed snapshot as columns of Run, or None when there is none, or the repository is not there.

    Raises TimeoutError when the repository does not answer in time: a hung mount must not hold up every command.
    """
    answer: list[dict[str, Any] | None] = []
    thread = threading.Thread(target=lambda: answer.append(_ask(request)), name=f"ask-{request.run_id}", daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN_S)
    if not answer:
        raise TimeoutError(f"repository {request.repository_name} does not say whether {request.run_id} was committed")
    return answer[0]


def _ask(request: Request) -> dict[str, Any] | None:
    try:
        job, repository = job_from_data(request.config)
        engine = engine_for(request.engine, request.engine_path)
        if repository is None or not engine.is_committed(repository, request.run_id):
            return None
        found = [snapshot for snapshot in engine.snapshots(repository, job) if snapshot.snapshot_id == request.run_id]
    except BackupError as error:
        _LOGGER.warning("whether run %s was committed cannot be asked: %s", request.run_id, error)
        return None
    except Exception:  # one odd repository must not keep the other runs from being settled
        _LOGGER.exception("whether run %s was committed cannot be asked", request.run_id)
        return None
    if not found:
        return None
    snapshot = found[0]
    return {
        "snapshot_id": request.run_id,
        "files_total": snapshot.files,
        "bytes_total": snapshot.bytes,
        "bytes_added": snapshot.bytes_added,
    } | ({} if snapshot.is_complete else {"outcome": "warning", "reason": "recovered; some files were left out of it"})
