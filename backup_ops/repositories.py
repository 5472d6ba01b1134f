"""What a home keeps about each repository it writes to: the lock of its one writer, and that a run committed there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from backup_ops import sharing
from backup_ops.home import Home
from backup_ops.job import local_folder


def repository_key(url: str) -> str:
    """A name for files about the repository: one for `/mnt/a`, `/mnt/a/`, `local:/mnt/a` and a link to it."""
    folder = local_folder(url)
    place = url.rstrip("/") if folder is None else os.path.realpath(folder)
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


def repository_lock(home: Home, key: str) -> Path:
    """The lock that a run holds while it writes to the repository of that key."""
    return home.locks / f"repository-{key}.lock"


def is_known(home: Home, url: str) -> bool:
    """Whether a run of this home has committed there: if it is gone now, it is missing, and not to be made anew."""
    return _memory(home, url).exists()


def remember(home: Home, url: str, run_id: str) -> None:
    """Says that a run has committed there. Failing to is no failure of the run: only a precaution is lost."""
    if not is_known(home, url):
        with contextlib.suppress(OSError):
            path = _memory(home, url)
            path.write_text(json.dumps({"url": url, "first_run": run_id}) + "\n", encoding="utf-8")
            sharing.let_in(path)


def _memory(home: Home, url: str) -> Path:
    return home.repositories / f"{repository_key(url)}.json"
