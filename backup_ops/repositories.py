"""What a home keeps about each repository it writes to: the lock of its one writer, that a run committed there, and
which runs began there and may have left something."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from backup_ops import sharing
from backup_ops.home import Home
from backup_ops.job import local_folder

_BEGUN = ".begun"


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


def note_begun(home: Home, key: str, run_id: str) -> None:
    """Says that the run may write there from now on. Should it be killed, this is how the next run knows of it."""
    with contextlib.suppress(OSError):  # a precaution: what it would leave is in nobody's way
        (home.repositories / f"{key}.{run_id}{_BEGUN}").touch(mode=0o600)


def note_clean(home: Home, key: str, run_id: str) -> None:
    """Says that nothing but its snapshot is left of the run."""
    with contextlib.suppress(OSError):
        (home.repositories / f"{key}.{run_id}{_BEGUN}").unlink(missing_ok=True)


def unfinished(home: Home, key: str) -> list[str]:
    """The runs that began there and have not said that they left nothing, oldest first. Some may go on."""
    found = home.repositories.glob(f"{key}.*{_BEGUN}")
    return sorted(path.name.removesuffix(_BEGUN).removeprefix(f"{key}.") for path in found)


def _memory(home: Home, url: str) -> Path:
    return home.repositories / f"{repository_key(url)}.json"
