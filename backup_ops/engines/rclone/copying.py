"""One rclone copy of listed files: its options, its progress, and what it said about each file."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Any

from backup_ops.engines.process import ToolExit
from backup_ops.engines.rclone.binary import Rclone, as_list
from backup_ops.errors import EngineError
from backup_ops.failure import classify, failure_of
from backup_ops.progress import Progress

_OPTIONS = (
    # Without --no-traverse rclone lists the folders of what it should copy, and leaves alone what is a pipe or a device
    # by then; with it, it would open a pipe and wait for ever, or read /dev/zero until the disk is full. rclone takes é
    # in its two spellings for one file and loses one without a word; names.py never lets both into one list.
    "--files-from-raw", "-", "--no-check-dest", "--copy-links",
    "--transfers", "4", "--checkers", "8", "--stats", "500ms", "--stats-log-level", "NOTICE",
)  # fmt: skip
# What is said of one file, and may be true of the whole remote. rclone would find that out for each file anew, with
# waits in between: for hours, where there are many.
OF_THE_WAY = frozenset({"network_error", "auth_failed", "tls_error", "rate_limited", "server_error", "timeout"})
_PROBE_AT_MOST_EVERY_S = 10.0
_PROBE_WHEN_STILL_FOR_S = 60.0
# A storage may be asked for the sum of a large file, and move nothing meanwhile; some of rclone's waits have no end.
_STILL_AT_MOST_S = 3600.0
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
        self._moved_at = self._probed_at = time.monotonic()
        self.messages: dict[str, str] = {}
        """The first error rclone reported, by the path it was told."""

    def run(self, source: str, destination: str, paths: Sequence[str]) -> ToolExit:
        options = list(_OPTIONS)
        limit = self._context.limits.bandwidth_bytes_s
        if limit is not None:
            options += ["--bwlimit", f"{limit}B"]
        self._before = (self._before[0] + self._now[0], self._before[1] + self._now[1])
        self._now = (0, 0)
        self._moved_at = self._probed_at = time.monotonic()
        return self._rclone.call("copy", source, destination, *options, stdin=as_list(paths), on_stderr=self._take)

    def _take(self, line: bytes) -> None:
        self._context.on_log(line)
        said = parsed(line)
        if isinstance(said.get("stats"), dict):
            self._tell(said["stats"])
        elif (told := error_of(said)) is not None:
            self.messages.setdefault(*told)
            if classify(engine="rclone", exit_code=1, output=told[1]).error_type in OF_THE_WAY:
                self._probe(_PROBE_AT_MOST_EVERY_S)

    def _probe(self, at_most_every_s: float) -> None:
        """Raises EngineError, which ends the copy, when a remote does not answer."""
        location, now = self._rclone.location, time.monotonic()
        if location is None or location.folder is not None or now - self._probed_at < at_most_every_s:
            return
        self._rclone.quietly("lsf", "--max-depth", "1", location.path())
        self._probed_at = time.monotonic()

    def _tell(self, stats: dict[str, object]) -> None:
        def number(name: str) -> int:
            value = stats.get(name)
            return int(value) if isinstance(value, (int, float)) else 0

        moved, self._now = self._now, (number("transfers"), number("bytes"))
        if moved != self._now:
            self._moved_at = time.monotonic()
        still_s = time.monotonic() - self._moved_at
        if still_s > _PROBE_WHEN_STILL_FOR_S:
            self._probe(_PROBE_WHEN_STILL_FOR_S)
        if still_s > _STILL_AT_MOST_S:
            what = f"rclone moved nothing for {_STILL_AT_MOST_S / 60:.0f} minutes, and was ended."
            raise EngineError(failure_of("timeout", what, "Check the storage, then run it again."))
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


def parsed(line: bytes) -> dict[str, Any]:
    """What a line of rclone's log says; nothing when it is none of its JSON."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def error_of(said: dict[str, Any]) -> tuple[str, str] | None:
    """The file that a line of the log reports an error of, and the error. While it is written it has another name."""
    if said.get("level") not in ("error", "critical") or not said.get("object"):
        return None
    return _PARTIAL.sub("", str(said["object"])), str(said.get("msg", ""))
