"""The queue: one file per submitted run, there from before `submit` returns until the run has its outcome.

queue/RUN.json     the request: the run and the configuration it was submitted with; made whole and exclusively
queue/RUN.claim    a starter has started a runner for it (its age and number of starts count)
queue/RUN.cancel   somebody wants it to stop
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backup_ops import sharing
from backup_ops.errors import JournalFull
from backup_ops.event import format_at, parse_at
from backup_ops.home import Home

REQUEST_VERSION = 1
CLAIM_EXPIRES_AFTER_S = 10.0
MAX_STARTS = 5
_WRITING_TAKES_AT_MOST_S = 3600.0


class AlreadySubmitted(Exception):
    """A request with this run id is there: for a scheduled run, somebody else has claimed the slot."""


def new_run_id(at: datetime) -> str:
    """`20261124T095501-3f9a2c`: the UTC second, its 4096ths, and chance. It is also the snapshot's id.

    Ids sort by time within a second too: the newest snapshot is what the next run compares with.
    """
    return f"{at:%Y%m%dT%H%M%S}-{at.microsecond * 4096 // 1_000_000:03x}{secrets.randbits(12):03x}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a runner needs to know. `config` is the plain data of `job_as_data`, as it was at submit.

    `repository_key` names the repository's lock; it is found once, at submit, because looking at a path can hang.
    """

    run_id: str
    job_name: str
    job_uid: str
    engine: str
    repository_name: str | None
    repository_url: str | None
    priority: int
    trigger: str
    by: str | None
    queued_at: datetime
    config_version: str
    max_running: int
    engine_path: str | None
    force: bool
    config: dict[str, Any]
    repository_key: str | None = None
    scheduled_at: datetime | None = None
    slot_id: str | None = None

    def as_data(self) -> dict[str, Any]:
        data = dict(vars(self), version=REQUEST_VERSION)
        data["queued_at"] = format_at(self.queued_at)
        data["scheduled_at"] = format_at(self.scheduled_at) if self.scheduled_at else None
        return data

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Request:
        """Raises TypeError, KeyError or ValueError when it is not a request of this version."""
        fields = dict(data)
        if fields.pop("version") != REQUEST_VERSION:
            raise ValueError("another version's request")
        fields["queued_at"] = parse_at(fields["queued_at"])
        fields["scheduled_at"] = parse_at(fields["scheduled_at"])
        return cls(**fields)


@dataclass(frozen=True)
class Claim:
    age_s: float
    starts: int


class Queue:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.queue

    def submit(self, request: Request) -> None:
        """Makes the request's file: whole, synced, and only if there is none. Raises AlreadySubmitted."""
        beside = self._folder / f".{request.run_id}.{os.getpid()}.new"
        try:
            with beside.open("x", encoding="utf-8") as file:
                json.dump(request.as_data(), file)
                file.flush()
                os.fsync(file.fileno())
            sharing.let_in(beside)
            os.link(beside, self._path(request.run_id))
        except FileExistsError:
            raise AlreadySubmitted(request.run_id) from None
        except OSError as error:
            raise JournalFull(
                f"a run of job '{request.job_name}' could not be queued in {self._folder}: {error.strerror}.",
                hint="Free space in the home's file system or make it writable; nothing was started.",
            ) from None
        finally:
            beside.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is queued; only a loss of power in the next seconds could undo it
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def requests(self) -> list[Request]:
        """Runs without an outcome, in the order in which they are to start: priority, then age."""
        found = [request for run_id in self.run_ids() if (request := self.read(run_id))]
        return sorted(found, key=lambda request: (-request.priority, request.queued_at, request.run_id))

    def run_ids(self) -> Iterator[str]:
        for entry in _scan(self._folder):
            if entry.name.endswith(".json"):
                yield entry.name.removesuffix(".json")

    def read(self, run_id: str) -> Request | None:
        """None when it is over (or was never there), cannot be read now, is damaged, or is another version's."""
        try:
            return Request.from_data(json.loads(self._path(run_id).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def damaged(self) -> list[str]:
        """Ids whose files can be read and are no requests.

        Another version's requests are none of our business, and a disk that does not answer proves nothing.
        """
        found = []
        for run_id in self.run_ids():
            try:
                data = json.loads(self._path(run_id).read_bytes())
            except OSError:
                continue
            except (ValueError, RecursionError):
                found.append(run_id)
                continue
            is_foreign = isinstance(data, dict) and data.get("version", REQUEST_VERSION) != REQUEST_VERSION
            if not is_foreign and self.read(run_id) is None and self._path(run_id).exists():
                found.append(run_id)
        return found

    def put_aside(self, run_id: str) -> Path:
        """Keeps a damaged file as `*.damaged` too; the request itself goes when its run has its outcome."""
        aside = self._path(run_id, ".damaged")
        with contextlib.suppress(FileExistsError):
            os.link(self._path(run_id), aside)
        return aside

    def clear_leftovers(self) -> None:
        """Removes claims and cancels without a request, and files that a killed process was writing an hour ago."""
        for entry in _scan(self._folder):
            name = entry.name
            with contextlib.suppress(FileNotFoundError):
                if name.startswith("."):
                    is_left_over = time.time() - entry.stat().st_mtime > _WRITING_TAKES_AT_MOST_S
                else:
                    run_id, _, kind = name.rpartition(".")
                    is_left_over = kind in ("claim", "cancel") and not self._path(run_id).exists()
                if is_left_over:
                    os.unlink(entry.path)

    def remove(self, run_id: str) -> None:
        for suffix in (".claim", ".cancel", ".json"):  # the request last: until then the run is not over
            self._path(run_id, suffix).unlink(missing_ok=True)

    def claim(self, run_id: str) -> Claim:
        """Says that a runner is being started; returns which start it is."""
        before = self.claim_of(run_id)
        starts = (before.starts if before else 0) + 1
        path = self._path(run_id, ".claim")
        path.write_text(str(starts), encoding="ascii")
        sharing.let_in(path)
        return Claim(0.0, starts)

    def claim_of(self, run_id: str) -> Claim | None:
        path = self._path(run_id, ".claim")
        try:
            age_s = time.time() - path.stat().st_mtime
            return Claim(abs(age_s), int(path.read_text(encoding="ascii") or 0))
        except FileNotFoundError:
            return None
        except ValueError:
            return Claim(abs(age_s), 0)

    def unclaim(self, run_id: str) -> None:
        """The runner found no free slot and has gone: the run waits again."""
        self._path(run_id, ".claim").unlink(missing_ok=True)

    def request_cancel(self, run_id: str, *, by: str | None, reason: str) -> bool:
        """False when the run is over already."""
        if not self._path(run_id).exists():
            return False
        beside = self._folder / f".{run_id}.{os.getpid()}.cancel"
        try:
            beside.write_text(json.dumps({"by": by, "reason": reason}), encoding="utf-8")
            sharing.let_in(beside)
            os.replace(beside, self._path(run_id, ".cancel"))
        except OSError:  # a full disk must not keep anybody from stopping a run: an empty file says enough
            beside.unlink(missing_ok=True)
            os.close(sharing.open_file(self._path(run_id, ".cancel"), os.O_WRONLY | os.O_CREAT))
        return True

    def cancel_of(self, run_id: str) -> str | None:
        """Why the run is to stop, or None."""
        try:
            said = self._path(run_id, ".cancel").read_bytes()
        except OSError:  # not there, or the disk does not answer: nobody is known to have cancelled it
            return None
        try:
            return str(json.loads(said)["reason"])
        except (ValueError, KeyError, TypeError):
            return "cancelled"

    def _path(self, run_id: str, suffix: str = ".json") -> Path:
        return self._folder / f"{run_id}{suffix}"


def slot_locks(home: Home, max_running: int) -> list[Path]:
    """The locks of which a run holds one while it runs."""
    return [home.locks / f"slot-{number}.lock" for number in range(max_running)]


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
