"""The full log of a run: every line its tools said, compressed, never cut. It can be read while it is being written."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from backup_ops import sharing

SUFFIX = ".log.zst"
_FLUSH_AFTER_S = 1.0


class RunLog:
    """Writes lines with the time they came. Bytes stay bytes. A disk that is full ends the log, never the run."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._zstandard = zstandard
        self._mutex = threading.Lock()
        self._flushed_at = 0.0
        self.lost_lines = 0
        self.lost_because: OSError | None = None
        self._file: BinaryIO | None = None
        try:
            self._file = os.fdopen(sharing.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
        except OSError as error:
            self.lost_because = error
        else:
            self._writer = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)

    def write(self, line: bytes) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode("ascii")
        with self._mutex:
            if self._file is None:
                self.lost_lines += 1
                return
            try:
                self._writer.write(stamp + b"Z " + line.rstrip(b"\n") + b"\n")
                now = time.monotonic()
                if now - self._flushed_at >= _FLUSH_AFTER_S:
                    self._flushed_at = now
                    self._writer.flush(self._zstandard.FLUSH_BLOCK)
                    self._file.flush()
            except OSError as error:
                self.lost_lines += 1
                self.lost_because = error

    def close(self) -> None:
        with self._mutex:
            if self._file is None:
                return
            try:
                self._writer.close()  # type: ignore[no-untyped-call]
                self._file.close()
            except OSError as error:
                self.lost_lines += 1
                self.lost_because = error

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines so far, without newline. A frame that a killed writer left open gives what was flushed."""
    import zstandard

    rest = b""
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        while True:
            try:
                chunk = reader.read(1 << 16)
            except zstandard.ZstdError:
                break
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    if rest:
        yield rest
