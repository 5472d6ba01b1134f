"""Sending files into a run folder, and finding out which of them really arrived, as they are."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backup_ops.engines.process import ToolExit
from backup_ops.engines.rclone import encryption
from backup_ops.engines.rclone.binary import as_list
from backup_ops.engines.rclone.comparison import hash_stable, refreshed
from backup_ops.engines.rclone.copying import OF_THE_WAY, Copying
from backup_ops.engines.rclone.names import HASHED, MAX_NAME_BYTES, display, hashed_path, stored_paths
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.repository import Repository
from backup_ops.engines.rclone.source import Source
from backup_ops.errors import EngineError
from backup_ops.failure import Failure, classify, failure_of, failure_of_os_error
from backup_ops.progress import Progress

# What rclone says of a file whose name the storage does not take; all else it says of the storage itself.
_OF_THE_NAME = frozenset({"name_invalid", "unknown"})
# What is said of a remote that breaks off in the middle of a file, and does not say that it is full.
_MAY_BE_FULL = frozenset({"unknown", "network_error", "server_error"})
_SHA256 = re.compile(rb"[0-9a-f]{64}")


@dataclass
class Transfer:
    """What became of the files sent. The nodes stored know where their content is."""

    exit_code: int | None = None
    bytes_stored: int = 0
    failures: dict[bytes, Failure] = field(default_factory=dict)


def send(
    nodes: Sequence[Node],
    source: Source,
    repository: Repository,
    is_fresh: Callable[[Node], bool],
    unsynced: Container[bytes] = frozenset(),
) -> Transfer:
    """Copies the content of the nodes into the folder of this run, and makes sure of each.

    On this machine all that was stored is read back. On a remote it is listed by name and size, rclone compares a hash
    where the remote has one, and what is read back is only what may have changed unseen: `is_fresh`. A file in
    `unsynced`, where a change can show late, is read before the copy and after it, and back if it was not the same.

    Raises EngineError when the repository, and not a file, is at fault.
    """
    return _Sending(nodes, source, repository, is_fresh, unsynced).perform()


class _Sending:
    def __init__(
        self,
        nodes: Sequence[Node],
        source: Source,
        repository: Repository,
        is_fresh: Callable[[Node], bool],
        unsynced: Container[bytes],
    ) -> None:
        self._nodes = nodes
        self._source = source
        self._repository = repository
        self._is_fresh = is_fresh
        self._unsynced = unsynced
        self._rclone = repository.rclone
        self._run_id = self._rclone.context.run_id
        self._run_folder = repository.run_folder(self._run_id)
        self._copying = Copying(self._rclone, "copying", len(nodes), sum(node.size_bytes for node in nodes))
        self._ended: list[ToolExit] = []
        self._arrived: dict[str, tuple[int, str | None]] = {}
        self._kept: set[str] = set()
        self._transfer = Transfer()

    def perform(self) -> Transfer:
        if not self._nodes:
            return self._transfer
        longest = encryption.MAX_NAME_BYTES if self._repository.is_encrypted else MAX_NAME_BYTES
        names = stored_paths((node.path for node in self._nodes), longest)
        refused = self._try(self._nodes, names)
        if refused:
            # A disk may take neither 'a:b' nor 300 letters; the hash of the path it takes.
            refused = self._try(refused, {node.path: hashed_path(node.path) for node in refused}, below=f"{HASHED}/")
        for node in refused:
            self._transfer.failures[node.path] = self._blame_repository(node)
        self._transfer.exit_code = self._ended[-1].exit_code if self._ended else None
        self._remove_torn()
        return self._transfer

    def _try(self, nodes: Sequence[Node], names: Mapping[bytes, str], *, below: str = "") -> list[Node]:
        """Sends the nodes under these names. Returns those that did not arrive although the source is all right."""
        before = self._read_before(nodes)
        self._copy(nodes, names)
        lost = [node for node in nodes if self._is_lost(names[node.path])]
        if lost:  # the way was interrupted and is there again, or the copy would have been ended: once more
            for node in lost:
                del self._copying.messages[names[node.path]]
            self._copy(lost, names)
        self._list_arrived(below, len(nodes))
        self._read_back(nodes, names, before)
        refused = []
        for node in nodes:
            self._rclone.context.check()
            name = names[node.path]
            digest = self._proven(node, name)
            if digest is not None:
                node.sha256, node.stored_run, node.stored_path = digest, self._run_id, name
                self._transfer.bytes_stored += node.size_bytes
                self._kept.add(name)
            elif (failure := self._blame_source(node)) is not None:
                self._transfer.failures[node.path] = failure
            else:
                self._check_refusal(node, name)
                refused.append(node)
        return refused

    def _is_lost(self, name: str) -> bool:
        message = self._copying.messages.get(name)
        if message is None or self._repository.location.folder is not None:
            return False
        return classify(engine="rclone", exit_code=1, output=message).error_type in OF_THE_WAY

    def _copy(self, nodes: Sequence[Node], names: Mapping[bytes, str]) -> None:
        with self._rclone.scratch_folder() as stage:
            # rclone is shown the source through symlinks: whatever the source itself is called, and several at once.
            plain: list[Node] = []
            odd: list[Node] = []
            for node in nodes:
                if self._is_still_a_file(node):
                    (plain if names[node.path].encode() == node.path else odd).append(node)
            if plain:
                folder = _stage_of_sources(stage, self._source)
                paths = [names[node.path] for node in plain]
                self._ended.append(self._copying.run(folder, self._run_folder, paths))
            if odd:
                for node in odd:
                    link = stage / "odd" / names[node.path]
                    link.parent.mkdir(parents=True, exist_ok=True)
                    os.symlink(self._source.full_path(node.path), link)
                paths = [names[node.path] for node in odd]
                self._ended.append(self._copying.run(str(stage / "odd"), self._run_folder, paths))

    def _is_still_a_file(self, node: Node) -> bool:
        """rclone follows links, also one that took the place of a folder; what is behind it is not asked for."""
        try:
            return stat.S_ISREG(self._source.lstat(node.path).st_mode)
        except OSError:
            return False

    def _list_arrived(self, below: str, files_total: int) -> None:
        """What is in the run folder now: the size of each file, and where the storage is asked for it, the sha256."""
        with_digest = self._repository.location.folder is not None and not self._repository.is_encrypted

        def take(line: bytes) -> None:
            digest, size, name = line.split(b"\t", 2) if with_digest else (b"", *line.split(b"\t", 1))
            path = below + name.decode("utf-8", "surrogateescape")
            self._arrived[path] = int(size), self._readable(digest, path) if with_digest else None
            self._tell_checked(len(self._arrived), files_total)

        # Not even the folder is there when nothing arrived; then the list stays empty.
        self._rclone.quietly(
            "lsf", "-R", "--files-only", "--format", "hsp" if with_digest else "sp", "--hash", "SHA256",
            "--separator", "\t", f"{self._run_folder}/{below}", on_stdout=take,
        )  # fmt: skip

    def _read_before(self, nodes: Sequence[Node]) -> dict[bytes, str | None]:
        """The sha256 of what goes to a remote, and can change while it does without a time that moves at once."""
        if self._repository.location.folder is not None:
            return {}
        return {
            node.path: hash_stable(self._source, node, self._rclone.context)
            for node in nodes
            if node.path in self._unsynced and not self._is_fresh(node)
        }

    def _read_back(self, nodes: Sequence[Node], names: Mapping[bytes, str], before: Mapping[bytes, str | None]) -> None:
        """The sha256 of what must be looked into, of all that rclone did not give one for."""
        is_here = self._repository.location.folder is not None
        doubted = [
            names[node.path]
            for node in nodes
            if self._arrived.get(names[node.path], (0, ""))[1] is None
            and (
                is_here
                or self._is_fresh(node)
                or not self._looks_as_scanned(node)
                or (node.path in before and not self._is_as_before(node, names[node.path], before[node.path]))
            )
        ]

        def take(line: bytes) -> None:
            digest, name = line.split(b"  ", 1)
            path = name.decode("utf-8", "surrogateescape")
            self._arrived[path] = self._arrived[path][0], self._readable(digest, path)
            self._tell_checked(0, len(doubted))

        if doubted:
            self._rclone.quietly(
                "hashsum", "SHA256", "--download", self._run_folder, "--files-from-raw", "-", "--no-traverse",
                stdin=as_list(doubted), on_stdout=take,
            )  # fmt: skip

    def _readable(self, digest: bytes, path: str) -> str:
        if not _SHA256.fullmatch(digest):
            # rclone prints no hash, or a word, when it cannot read what it should hash, and exits with 0.
            raise EngineError(
                failure_of(
                    "io_error",
                    f"{display(os.fsencode(path))} was stored in {self._run_folder} and cannot be read back: rclone"
                    f" gives its sha256 as '{display(digest)}'.",
                )
            )
        return digest.decode("ascii")

    def _tell_checked(self, done: int, files_total: int) -> None:
        if done % 500 == 0:
            self._rclone.context.on_progress(Progress(phase="checking", files_done=done, files_total=files_total))

    def _is_as_before(self, node: Node, name: str, before: str | None) -> bool:
        now = hash_stable(self._source, node, self._rclone.context)
        if now is None or now != before:
            return False
        self._arrived[name] = self._arrived[name][0], now
        return True

    def _looks_as_scanned(self, node: Node) -> bool:
        try:
            return node.looks_like(self._source.lstat(node.path))
        except OSError:
            return False

    def _proven(self, node: Node, name: str) -> str | None:
        """The sha256 of what is stored, if that is the file as `node` describes it.

        Unchanged from before to after the copy, the file is what was read. If it did change, it may still be the same
        content (only rights, times or links), or have changed before the copy began: then it is read once more.
        """
        if name not in self._arrived:
            return None
        size, digest = self._arrived[name]
        try:
            status = self._source.lstat(node.path)
        except OSError:
            return None
        if node.looks_like(status):
            if size != node.size_bytes:
                return None
            return digest or hash_stable(self._source, node, self._rclone.context)
        now = refreshed(node, status)
        if now is None or digest is None or size != now.size_bytes:
            return None
        if hash_stable(self._source, now, self._rclone.context) != digest:
            return None
        for changed in ("size_bytes", "mtime_ns", "mode", "uid", "gid", "inode", "ctime_ns"):
            setattr(node, changed, getattr(now, changed))
        return digest

    def _blame_source(self, node: Node) -> Failure | None:
        """What about the file explains that it did not get there."""
        name = display(node.path)
        try:
            status = self._source.lstat(node.path)
        except FileNotFoundError:
            return failure_of(
                "source_missing", f"{name} vanished before it was copied.", "Nothing, if it was meant to.",
                severity="LOW", transient=True,
            )  # fmt: skip
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return failure_of("source_changed", f"{name}: a folder above it became a link or a file.")
            return failure_of_os_error(error, f"{name} cannot be read: {error.strerror}.")
        if not node.looks_like(status):
            return failure_of("source_changed", f"{name} changed while it was copied.")
        try:
            with open(self._source.open_file(node.path), "rb", buffering=0) as stream:
                stream.read(1)
        except OSError as error:
            return failure_of_os_error(error, f"{name} cannot be read: {error.strerror}.")
        said = " ".join(self._copying.messages.values())
        if "input/output error" in said and hash_stable(self._source, node, self._rclone.context) is None:
            return failure_of("io_error", f"{name} cannot be read: input/output error.")
        return None

    def _check_refusal(self, node: Node, name: str) -> None:
        """Raises EngineError when it is not the name that the repository did not take."""
        message = self._copying.messages.get(name)
        if message is not None:
            said = classify(engine="rclone", exit_code=1, output=message)
            if said.error_type not in _OF_THE_NAME:
                # The type's own remedy speaks of the source; here it is the repository that refuses.
                remedy = "Grant this user write access to it." if said.error_type == "permission_denied" else None
                failure = failure_of(said.error_type, f"{display(node.path)} could not be stored: {message}", remedy)
                raise EngineError(self._rclone.of_repository(self._full_if_it_is(failure)))

    def _blame_repository(self, node: Node) -> Failure:
        message = self._copying.messages.get(hashed_path(node.path), "")
        if classify(engine="rclone", exit_code=1, output=message).error_type == "name_invalid":
            return failure_of("name_invalid", f"{display(node.path)} could not be stored: {message}")
        bad = next((ended for ended in self._ended if ended.exit_code != 0), None)
        if bad is not None:
            failure = self._rclone.error(bad).failure
            if message and self._repository.location.folder is None:
                failure = self._said_by_server(failure, f"{display(node.path)}: {message}")
            raise EngineError(failure)
        raise EngineError(
            failure_of(
                "unknown", f"{display(node.path)} was not stored, and rclone reports no error. Look into the log."
            )
        )

    def _said_by_server(self, failure: Failure, what: str) -> Failure:
        """Not every server says why it does not take a file; two names for each were tried by now."""
        full = self._full_if_it_is(failure)
        if full is not failure:
            return self._rclone.of_repository(replace(full, message=what))
        if failure.error_type != "unknown":
            return failure
        return failure_of(
            "server_error",
            f"repository {self._repository.location} did not take {what}",
            "Is it full, or may this user not write there? The server's own log tells.",
        )

    def _full_if_it_is(self, failure: Failure) -> Failure:
        """A server that is full may just hang up: whether it has room for the rest is asked, where rclone can."""
        if self._repository.location.folder is not None or failure.error_type not in _MAY_BE_FULL:
            return failure
        free = self._rclone.free_bytes()
        wanted = sum(node.size_bytes for node in self._nodes if node.stored_run != self._run_id)
        return failure if free is None or free >= wanted else failure_of("disk_full", failure.message)

    def _remove_torn(self) -> None:
        """What arrived and is not what it should be: no manifest will name it, and nobody should find it by hand."""
        torn = sorted(self._arrived.keys() - self._kept)
        if torn:
            self._rclone.quietly(
                "delete", self._run_folder, "--files-from-raw", "-", "--no-traverse", stdin=as_list(torn)
            )


def _stage_of_sources(stage: Path, source: Source) -> str:
    folder = stage / "plain"
    if b"" in source.roots:
        folder.symlink_to(source.roots[b""])
    else:
        folder.mkdir()
        for name, root in source.roots.items():
            os.symlink(root, os.path.join(os.fsencode(folder), name))
    return str(folder)
