"""Fetching the files that describe snapshots, and telling one that cannot be read from a repository that cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup_ops.engines.rclone.binary import ABSENT, Rclone, as_list
from backup_ops.engines.rclone.copying import error_of, parsed
from backup_ops.engines.rclone.seal import Damaged
from backup_ops.failure import classify

# What is said of a file whose bytes are not what was written: crypt notices that, and so does a disk.
_OF_THE_FILE = frozenset({"repository_corrupt", "io_error"})


@dataclass(frozen=True)
class Fetched:
    folder: Path
    unreadable: Mapping[str, str]

    def path(self, name: str) -> Path | None:
        """Where the file is now; None when the repository has none. Raises Damaged when it has, and cannot read it."""
        if name in self.unreadable:
            raise Damaged(f"it cannot be read ({self.unreadable[name]})")
        file = self.folder / name
        return file if file.exists() else None


@contextlib.contextmanager
def fetched(rclone: Rclone, start: str, names: Sequence[str]) -> Iterator[Fetched]:
    """The named files as they are in the repository, in a folder that is gone at the end. Raises EngineError."""
    said: dict[str, str] = {}
    wanted = frozenset(names)  # also of their folder there is something to say when none of them came

    def take(line: bytes) -> None:
        rclone.context.on_log(line)
        told = error_of(parsed(line))
        if told is not None and told[0] in wanted:
            said.setdefault(*told)

    with rclone.scratch_folder() as folder:
        # A folder of which nothing came is not made, and rclone would end with the words that its time cannot be set.
        ended = rclone.call(
            "copy", start, str(folder), "--files-from-raw", "-", "--no-traverse", "--no-check-dest",
            "--no-update-dir-modtime", stdin=as_list(names), on_stderr=take,
        )  # fmt: skip
        is_theirs = said and all(
            classify(engine="rclone", exit_code=1, output=message).error_type in _OF_THE_FILE
            for message in said.values()
        )
        if ended.exit_code not in (0, *ABSENT) and not is_theirs:
            raise rclone.error(ended)
        yield Fetched(folder, said)
