"""The repository: run folders, and per snapshot a manifest and the seal that commits it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from backup_ops.engines.base import Stopped
from backup_ops.engines.rclone.binary import Rclone, as_list
from backup_ops.engines.rclone.bounds import outside
from backup_ops.engines.rclone.encryption import unlocked
from backup_ops.engines.rclone.fetching import Fetched, fetched
from backup_ops.engines.rclone.location import Location
from backup_ops.engines.rclone.marker import check_format, check_owner, missing, read_marker, why_missing
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.seal import Damaged, seal, sha256_of, unseal
from backup_ops.errors import BackupError, EngineError, UnknownSnapshot, did_you_mean
from backup_ops.failure import Failure, failure_of

SNAPSHOT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")
"""Only such an id ever becomes part of a path."""

_FIRST_BATCH = 8


class Repository:
    """An opened repository. Everything in it but the marker is written by rclone.

    `rclone` is how to call it for what `path` names: encrypted or not, here or on a remote.
    """

    def __init__(self, location: Location, rclone: Rclone, marker: dict[str, Any]) -> None:
        """Raises EngineError when the password is wrong or missing, or there should be none."""
        self.location = location
        self.repository_id: str = marker["repository_id"]
        self.is_encrypted = "encryption" in marker
        self.rclone, self._start = unlocked(location, marker, rclone)
        self._format: int = marker["format"]

    @classmethod
    def open(cls, location: Location, rclone: Rclone) -> Repository:
        """For reading. Raises EngineError: repository_missing, repository_corrupt, config_invalid, wrong_password."""
        marker = read_marker(location, rclone)
        if marker is None:
            raise missing(f"there is no repository at {location}: {why_missing(location, rclone)}.")
        return cls(location, rclone, marker)

    def check_same(self, *, to_write: bool = False) -> None:
        """Raises EngineError when another repository, or none, is at this place by now: a disk that was unmounted.

        `to_write`: also when it was taken over meanwhile.
        """
        marker = read_marker(self.location, self.rclone)
        if marker is None:
            why = why_missing(self.location, self.rclone)
            raise missing(
                f"repository {self.location} was there when the run began, and now {why}. Nothing was committed.",
                "Mount or connect it again, and run again.",
            )
        if marker["repository_id"] != self.repository_id:
            raise missing(
                f"repository {self.location} is another one now ({marker['repository_id']}) than when the run began"
                f" ({self.repository_id}). Nothing was committed.",
                "Mount the right disk, and run again.",
            )
        if to_write:
            check_owner(self.location, marker, self.rclone.context.owner)

    def without_content(self, nodes: Iterable[Node]) -> list[Node]:
        """Those of the nodes whose stored file is not there, or has another size. The content is not read."""
        expected: dict[str, list[Node]] = {}
        runs: set[str] = set()
        for node in nodes:
            if node.stored_run is not None and node.stored_path is not None:
                expected.setdefault(f"{node.stored_run}/{node.stored_path}", []).append(node)
                runs.add(node.stored_run)

        def take(line: bytes) -> None:
            size, name = line.split(b"\t", 1)
            path = name.decode("utf-8", "surrogateescape")
            if all(node.size_bytes == int(size) for node in expected.get(path, ())):
                expected.pop(path, None)

        if runs:
            # Patterns, so that one call lists these run folders and enters no other.
            patterns = as_list([f"/{run}/**" for run in sorted(runs) if SNAPSHOT_ID.fullmatch(run)])
            self.rclone.quietly(
                "lsf", "-R", "--files-only", "--format", "sp", "--separator", "\t", "--include-from", "-",
                self.runs, stdin=patterns, on_stdout=take,
            )  # fmt: skip
        return [node for names in expected.values() for node in names]

    def snapshot_ids(self) -> list[str]:
        """Ids of what looks like a committed snapshot, newest first."""
        return self.described()[".json"]

    def described(self) -> dict[str, list[str]]:
        """Ids that have a seal (`.json`), and those that have a manifest (`.parquet`), newest first."""
        found: dict[str, list[str]] = {".json": [], ".parquet": []}
        for line in self._snapshot_files():
            name = Path(line.decode("utf-8", "replace"))
            if name.suffix in found and SNAPSHOT_ID.fullmatch(name.stem):
                found[name.suffix].append(name.stem)
        return {suffix: sorted(ids, reverse=True) for suffix, ids in found.items()}

    def unsealed(self) -> set[str]:
        """Ids that a manifest, or a part of one, is named after, and no seal: of runs that were ended before it."""
        names = [Path(line.decode("utf-8", "replace")).name for line in self._snapshot_files()]
        ids = {name.partition(".")[0] for name in names} - {Path(name).stem for name in names if name.endswith(".json")}
        return {name for name in ids if SNAPSHOT_ID.fullmatch(name)}

    def run_folders(self) -> set[str]:
        """Ids of the runs that have a folder."""
        found = self.rclone.lines("lsf", "--dirs-only", self.runs) or ()
        return {line.decode("utf-8", "replace").strip("/") for line in found}

    def heads(
        self, on_damage: Callable[[str, Failure], None], ids: Sequence[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """What the seals say, newest first; a damaged one goes to `on_damage`. Stop when you have what you need."""
        waiting = list(self.snapshot_ids() if ids is None else ids)
        size = _FIRST_BATCH
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            size *= 8  # most callers need one of the newest; those who need all should not pay per file
            with self._fetched([f"snapshots/{name}.json" for name in batch]) as files:
                for name in batch:
                    try:
                        head = self._unsealed(name, files)
                    except EngineError as error:
                        on_damage(name, error.failure)
                        continue
                    if head is not None:  # it may have been removed since the listing
                        yield head

    def head(self, snapshot_id: str) -> dict[str, Any]:
        """What the seal of one snapshot says. Raises UnknownSnapshot, or EngineError when it is damaged."""
        if SNAPSHOT_ID.fullmatch(snapshot_id):
            with self._fetched([f"snapshots/{snapshot_id}.json"]) as files:
                head = self._unsealed(snapshot_id, files)
                if head is not None:
                    return head
        known = self.snapshot_ids()
        hint = did_you_mean(snapshot_id, known) or (f"The newest is {known[0]}." if known else "It holds none yet.")
        raise UnknownSnapshot(f"repository {self.location} holds no snapshot '{snapshot_id}'.", hint=hint)

    @contextlib.contextmanager
    def manifest(self, head: dict[str, Any]) -> Iterator[Path]:
        """The manifest of a snapshot as a local file, proven to be the sealed one and to stay in its bounds.

        Raises EngineError.
        """
        snapshot_id, name = head["snapshot_id"], f"snapshots/{head['snapshot_id']}.parquet"
        with self._fetched([name]) as files:
            try:
                file = files.path(name)
            except Damaged as error:
                raise _corrupt(snapshot_id, f"its manifest {name} is damaged: {error}") from None
            if file is None:
                raise _corrupt(snapshot_id, f"its manifest {name} is not there")
            if file.stat().st_size != head["manifest"]["bytes"] or sha256_of(file) != head["manifest"]["sha256"]:
                raise _corrupt(snapshot_id, f"its manifest {name} does not match the sha256 in its seal")
            strange = outside(file, SNAPSHOT_ID.pattern)
            if strange is not None:
                raise _corrupt(snapshot_id, f"its manifest {name} {strange}")
            yield file

    def commit(self, snapshot_id: str, head: dict[str, Any], manifest: Path) -> int:
        """Puts the manifest and then, as the last thing, the seal there. Returns the bytes they take."""
        content = head | {
            "format": self._format,
            "repository_id": self.repository_id,
            "snapshot_id": snapshot_id,
            "manifest": {"bytes": manifest.stat().st_size, "sha256": sha256_of(manifest)},
        }
        self.check_same(to_write=True)
        # copyto writes beside (.partial), checks the copy against the original, and renames.
        self.rclone.must("copyto", str(manifest), self._path(f"snapshots/{snapshot_id}.parquet"), "--no-check-dest")
        _flush(self.location.folder)
        sealed = manifest.with_suffix(".json")
        sealed.write_bytes(seal(content))
        self.rclone.context.check()
        self.check_same(to_write=True)
        try:
            # From here on it cannot be stopped: a cancelled run must not turn out to be committed.
            self.rclone.must(
                "copyto",
                str(sealed),
                self._path(f"snapshots/{snapshot_id}.json"),
                "--no-check-dest",
                is_stoppable=False,
            )
        except EngineError:
            if not self._is_sealed(snapshot_id, sealed.read_bytes()):
                self.discard(snapshot_id)
                raise
        _flush(self.location.folder)
        return manifest.stat().st_size + sealed.stat().st_size

    def _is_sealed(self, snapshot_id: str, content: bytes) -> bool:
        """Whether the seal arrived although rclone says that it did not: the answer may be what got lost."""
        name = f"snapshots/{snapshot_id}.json"
        with contextlib.suppress(BackupError, Damaged, Stopped), self._fetched([name]) as files:
            file = files.path(name)
            return file is not None and file.read_bytes() == content
        return False

    def discard(self, snapshot_id: str) -> None:
        """Removes what a run that will not be committed has left. Seal first, so that it is never half there."""
        with contextlib.suppress(BackupError, Stopped):  # what stays is garbage that no manifest names
            self.rclone.quietly("deletefile", self._path(f"snapshots/{snapshot_id}.json"), is_stoppable=False)
            # The manifest, and what of it was sent under a name of its own until it would have been whole.
            named = ("--include", f"/{snapshot_id}.*")
            self.rclone.quietly("delete", self._path("snapshots"), *named, is_stoppable=False)
            if self.has_run_folder(snapshot_id):
                self.rclone.quietly("purge", self.run_folder(snapshot_id), is_stoppable=False)

    def has_run_folder(self, run_id: str) -> bool:
        found: list[bytes] = []
        ended = self.rclone.quietly(
            "lsf", "--max-depth", "1", self.run_folder(run_id), on_stdout=found.append, is_stoppable=False
        )
        # Object storage knows no folders: each name is one to it, and lists as empty.
        return ended.exit_code == 0 and (bool(found) or self.location.folder is not None)

    def run_folder(self, run_id: str) -> str:
        """Where the content of a run lies, as rclone is told it."""
        return self._path(f"runs/{run_id}")

    @property
    def runs(self) -> str:
        """The folder of all runs, as rclone is told it."""
        return self._path("runs")

    def _snapshot_files(self) -> list[bytes]:
        return self.rclone.lines("lsf", "--files-only", self._path("snapshots")) or []

    def _path(self, name: str) -> str:
        if not SNAPSHOT_ID.fullmatch(Path(name).name.partition(".")[0]):
            raise ValueError(f"'{name}' is no path in a repository")
        return f"{self._start}{'' if self._start.endswith((':', '/')) else '/'}{name}"

    def _fetched(self, names: list[str]) -> contextlib.AbstractContextManager[Fetched]:
        return fetched(self.rclone, self._start, names)

    def _unsealed(self, snapshot_id: str, files: Fetched) -> dict[str, Any] | None:
        name = f"snapshots/{snapshot_id}.json"
        try:
            file = files.path(name)
            if file is None:
                return None
            head = unseal(file.read_bytes())
        except Damaged as error:
            raise _corrupt(snapshot_id, f"its seal {name} is damaged: {error}") from None
        check_format(f"snapshot {snapshot_id}", head)
        if head["snapshot_id"] != snapshot_id and head["repository_id"] == self.repository_id:
            raise _corrupt(snapshot_id, f"its seal is that of snapshot {head['snapshot_id']}")
        if head["repository_id"] != self.repository_id:
            raise _corrupt(
                snapshot_id,
                f"its seal is that of snapshot {head['snapshot_id']} of repository {head['repository_id']},"
                f" and this is repository {self.repository_id}",
            )
        return head


def _flush(folder: Path | None) -> None:
    """Waits until what was written to the file system of the repository survives a power cut; Linux only.

    Of a remote nobody can ask that.
    """
    if folder is None:
        return
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            ctypes.CDLL(None).syncfs(descriptor)
        finally:
            os.close(descriptor)


def _corrupt(snapshot_id: str, what: str) -> EngineError:
    return EngineError(
        failure_of(
            "repository_corrupt",
            f"snapshot {snapshot_id} is damaged: {what}.",
            "Use another snapshot, and put this file back from another copy of the repository.",
        )
    )
