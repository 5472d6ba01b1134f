"""What a home keeps about each repository it writes to: the lock of its one writer, which runs committed there, which
began there and may have left something, and what a verification found damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from backup_ops import sharing
from backup_ops.home import Home
from backup_ops.job import local_folder

_BEGUN = ".begun"
_COMMITTED = ".committed"
_DAMAGED = ".damaged"


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


def remember(home: Home, url: str, run_id: str, job_uid: str) -> None:
    """Says that a run of the job has committed there. Failing to is no failure of it: only a precaution is lost."""
    path = _memory(home, url)
    with contextlib.suppress(OSError):
        is_first = not is_known(home, url)
        # Where nothing is known, an older list is that of a repository that somebody had the home forget.
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if is_first else os.O_APPEND)
        with os.fdopen(sharing.open_file(path.with_suffix(_COMMITTED), flags, is_private=True), "wb") as file:
            file.write(f"{run_id} {quote(job_uid)}\n".encode())
        if is_first:
            path.write_text(json.dumps({"url": url, "first_run": run_id}) + "\n", encoding="utf-8")
            sharing.let_in(path)


def committed(home: Home, url: str, job_uid: str) -> set[str]:
    """The runs of the job that have committed at this very place, as far as the home has noted it; nothing where it
    cannot be read. The history knows repositories by their names, and a name gets another url."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = _memory(home, url).with_suffix(_COMMITTED).read_text(encoding="ascii", errors="replace").splitlines()
    noted = (line.split(" ", 1) for line in lines if line)
    return {parts[0] for parts in noted if parts[1:] == [quote(job_uid)]}


def note_damaged(home: Home, url: str, job_uid: str, stored: Iterable[str], *, is_all: bool) -> None:
    """Says which stored files (`runs/RUN/PATH`) of the job do not hold what was stored. `is_all`: all others were read
    and do; else what was known before stays. Failing to is no failure: the verification has told it to people."""
    path = _memory(home, url).with_suffix(_DAMAGED)
    known = _damaged(path)
    found = sorted(set(stored) | (set() if is_all else set(known.get(job_uid, ()))))
    if found == known.get(job_uid, []):
        return
    known[job_uid] = found
    beside = path.with_suffix(f".{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        try:
            descriptor = sharing.open_file(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, is_private=True)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump({uid: places for uid, places in known.items() if places}, file)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def damaged(home: Home, url: str, job_uid: str) -> frozenset[str]:
    """The stored files (`runs/RUN/PATH`) of the job that a verification found damaged."""
    return frozenset(_damaged(_memory(home, url).with_suffix(_DAMAGED)).get(job_uid, ()))


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


def _damaged(path: Path) -> dict[str, list[str]]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return {uid: [str(name) for name in names] for uid, names in found.items() if isinstance(names, list)}
    return {}
