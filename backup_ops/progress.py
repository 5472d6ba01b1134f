"""How far a run is: a small file beside the run, replaced twice a second, never journalled."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from backup_ops import sharing


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`phase` is a verb for people (`reading`, `copying`, `checking`). None means not known."""

    phase: str
    bytes_done: int | None = None
    bytes_total: int | None = None
    files_done: int | None = None
    files_total: int | None = None
    speed_bytes_s: float | None = None
    eta_s: float | None = None
    item: str | None = None

    @property
    def fraction(self) -> float | None:
        """0 to 1, by bytes where known, else by files."""
        for done, total in ((self.bytes_done, self.bytes_total), (self.files_done, self.files_total)):
            if done is not None and total:
                return min(1.0, done / total)
        return None


_NAMES = frozenset(field.name for field in fields(Progress))


def write(path: Path, progress: Progress) -> None:
    """Replaces the file in one step. A full disk is no reason to fail a backup: then the old progress stays."""
    beside = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        beside.write_text(json.dumps(asdict(progress)), encoding="utf-8", errors="backslashreplace")
        sharing.let_in(beside)
        os.replace(beside, path)


def read(path: Path) -> Progress | None:
    """None when there is none, or when it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Progress(**{name: value for name, value in data.items() if name in _NAMES})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
