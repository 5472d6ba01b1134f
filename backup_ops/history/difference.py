"""The difference of two snapshots as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas

from backup_ops.snapshot import Change

_TEXTS = ("change", "path", "kind", "path_before")


def frame_of(changes: Iterable[Change]) -> pandas.DataFrame:
    """Columns: change, path, kind, path_before str; bytes_before, bytes_after Int64; mtime_before, mtime_after UTC."""
    rows = list(changes)
    columns: dict[str, Any] = {name: _text([getattr(row, name) for row in rows]) for name in _TEXTS}
    for side in ("before", "after"):
        columns[f"bytes_{side}"] = pandas.array([getattr(row, f"bytes_{side}") for row in rows], dtype="Int64")
    for side in ("before", "after"):
        times = pandas.array([getattr(row, f"mtime_ns_{side}") for row in rows], dtype="Int64")
        columns[f"mtime_{side}"] = pandas.to_datetime(times, unit="ns", utc=True)
    return pandas.DataFrame(columns)


def _text(values: list[str | None]) -> Any:
    try:
        return pandas.Series(values, dtype="str")
    except UnicodeEncodeError:  # a name that is not UTF-8, which Arrow cannot hold
        return pandas.Series(values, dtype="object")
