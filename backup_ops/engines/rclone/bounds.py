"""Bounds: a manifest names nothing that lies outside of the snapshot, nor content outside of the runs' folders.

A seal proves that a manifest is what was sealed, and not who sealed it: whoever may write to a repository can make one
whose paths lead out of the folder that it is restored into.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from backup_ops.engines.rclone.manifest import in_memory
from backup_ops.engines.rclone.names import display

# As text a BLOB keeps `/` and `.`, and spells a NUL `\x00`, and a backslash `\x5C`.
_OUTSIDE = r"""
    WITH named AS (SELECT *, '/' || path::VARCHAR || '/' AS names, '/' || stored_path || '/' AS stored
        FROM read_parquet($file))
    SELECT path, kind, stored_run, stored_path,
        CASE WHEN path IS NULL OR kind IS NULL OR kind NOT IN ('file', 'folder', 'symlink', 'hardlink') THEN true
            WHEN path = ''::BLOB THEN kind <> 'folder' ELSE contains(names, '//') OR contains(names, '/./')
            OR contains(names, '/../') OR contains(names, '\x00') END AS is_path
    FROM named
    WHERE is_path OR NOT regexp_full_match(stored_run, $run_id) OR contains(stored, '//') OR contains(stored, '/./')
        OR contains(stored, '/../') OR contains(stored, chr(0)) OR contains(stored, chr(10))
    ORDER BY path LIMIT 1
"""


def outside(manifest: Path, run_id: str) -> str | None:
    """The first row that names what no snapshot can hold, as the end of a sentence; None when there is none.

    `run_id` is the pattern of what may be a folder of runs.
    """
    with in_memory() as database:
        try:
            found = database.execute(_OUTSIDE, {"file": str(manifest), "run_id": run_id}).fetchone()
        except duckdb.Error as error:
            return f"is not the table that a manifest is ({str(error).splitlines()[0]})"
    if found is None:
        return None
    path, kind, stored_run, stored_path, is_path = found
    if is_path:
        return f"names a {kind or 'thing'} '{display(path or b'')}', which can be in no snapshot"
    stored = display(f"runs/{stored_run}/{stored_path}".encode())
    return f"says that the content of '{display(path)}' is '{stored}', which is no path inside a repository"
