"""One rclone copy of listed files: its options, its progress, and what it said about each file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from backup_ops.engines.process import ToolExit
from backup_ops.engines.rclone.binary import Rclone, as_list
from backup_ops.progress import Progress

_OPTIONS = (
    # Without --no-traverse rclone lists the folders of what it should copy, and leaves alone what is a pipe or a device
    # by then; with it, it would open a pipe and wait for ever, or read /dev/zero until the disk is full. rclone takes é
    # in its two spellings for one file and loses one without a word; names.py never lets both into one list.
    "--files-from-raw", "-", "--no-check-dest", "--copy-links",
    "--transfers", "4", "--checkers", "8", "--stats", "500ms", "--stats-log-level", "NOTICE",
)  # fmt: skip
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial$")


class Copying:
    """Copies in one or more calls, which count as one to whoever watches.

    Exit code 0 does not mean that all is there: a listed name that does not exist is skipped without a word.
    """

    def __init__(self, rclone: Rclone, phase: str, files_total: int, bytes_total: int) -> None:
        self._context = rclone.context
        self._rclone = rclone
        self._phase = phase
        self._totals = (files_total, bytes_total)
        self._before = (0, 0)
        self._now = (0, 0)
        self.messages: dict[str, str] = {}
        """The first error rclone reported, by the path it was told."""

    def run(self, source: str, destination: str, paths: Sequence[str]) -> ToolExit:
        options = list(_OPTIONS)
        limit = self._context.limits.bandwidth_bytes_s
        if limit is not None:
            options += ["--bwlimit", f"{limit}B"]
        self._before = (self._before[0] + self._now[0], self._before[1] + self._now[1])
        self._now = (0, 0)
        return self._rclone.call("copy", source, destination, *options, stdin=as_list(paths), on_stderr=self._take)

    def _take(self, line: bytes) -> None:
        self._context.on_log(line)
        try:
            said = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if isinstance(said.get("stats"), dict):
            self._tell(said["stats"])
        elif said.get("level") in ("error", "critical") and said.get("object"):
            self.messages.setdefault(told_path(str(said["object"])), str(said.get("msg", "")))

    def _tell(self, stats: dict[str, object]) -> None:
        def number(name: str) -> int:
            value = stats.get(name)
            return int(value) if isinstance(value, (int, float)) else 0

        self._now = (number("transfers"), number("bytes"))
        speed = float(number("speed"))
        bytes_done = min(self._before[1] + self._now[1], self._totals[1])
        moving = stats.get("transferring")
        item = moving[0].get("name") if isinstance(moving, list) and moving and isinstance(moving[0], dict) else None
        self._context.on_progress(
            Progress(
                phase=self._phase,
                files_done=self._before[0] + self._now[0],
                files_total=self._totals[0],
                bytes_done=bytes_done,
                bytes_total=self._totals[1],
                speed_bytes_s=speed,
                eta_s=(self._totals[1] - bytes_done) / speed if speed else None,
                item=item,
            )
        )


def told_path(name: str) -> str:
    """The file that rclone speaks of, which has another name while it is written."""
    return _PARTIAL.sub("", name)
