"""The difference of two snapshots, as SQL over their two manifests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from backup_ops.engines.rclone.manifest import in_memory
from backup_ops.snapshot import Change

_BATCH = 10_000
# Everything that can differ; `ctime_ns` and the inode change with a restore, and say nothing to people.
_FACTS = "kind, bytes, mtime_ns, mode, uid, gid, xattrs, sha256, link_target"

# A row for each path that is not the same in both, with what it was (…_a) and what it is (…_b).
_DIFFERENT = f"""
    CREATE TEMP TABLE different AS
    WITH a AS (SELECT path, inode, {_FACTS} FROM read_parquet($before)),
         b AS (SELECT path, inode, {_FACTS} FROM read_parquet($after))
    SELECT coalesce(a.path, b.path) AS path, a.kind AS kind_a, b.kind AS kind_b, a.bytes AS bytes_a, b.bytes AS bytes_b,
        a.mtime_ns AS mtime_a, b.mtime_ns AS mtime_b, a.sha256 AS sha256_a, b.sha256 AS sha256_b,
        a.inode AS inode_a, b.inode AS inode_b,
        CASE WHEN a.path IS NULL THEN 'new' WHEN b.path IS NULL THEN 'deleted'
             WHEN a.sha256 IS DISTINCT FROM b.sha256 OR (a.sha256 IS NULL AND a.kind <> b.kind)
                 OR (a.kind = 'symlink' AND a.link_target <> b.link_target) THEN 'changed'
             ELSE 'metadata' END AS change
    FROM a FULL JOIN b ON a.path = b.path
    WHERE coalesce(a.path, b.path) <> ''::BLOB AND (a.path IS NULL OR b.path IS NULL
        OR a.mtime_ns <> b.mtime_ns AND (a.kind <> 'folder' OR b.kind <> 'folder')
        OR a.kind <> b.kind OR a.bytes <> b.bytes OR a.mode <> b.mode OR a.uid <> b.uid OR a.gid <> b.gid
        OR a.sha256 IS DISTINCT FROM b.sha256 OR a.xattrs IS DISTINCT FROM b.xattrs
        OR a.link_target IS DISTINCT FROM b.link_target)
"""
# A file that is gone and one that is new with its content are one that moved: first those that are the same file on
# disk, then by content alone, which of empty files says nothing. Where several could be meant, in the order of paths.
_MOVED = """
    CREATE TEMP TABLE moved (path BLOB, path_a BLOB);
    {by_inode};
    {by_content};
"""
_PAIR = """
    INSERT INTO moved
    WITH gone AS (
        SELECT path, {key_a} AS key, row_number() OVER (PARTITION BY {key_a} ORDER BY path) AS number
        FROM different WHERE change = 'deleted' AND kind_a IN ('file', 'hardlink') AND {which_a}
            AND path NOT IN (SELECT path_a FROM moved)),
    come AS (
        SELECT path, {key_b} AS key, row_number() OVER (PARTITION BY {key_b} ORDER BY path) AS number
        FROM different WHERE change = 'new' AND kind_b IN ('file', 'hardlink') AND {which_b}
            AND path NOT IN (SELECT path FROM moved))
    SELECT come.path, gone.path FROM gone JOIN come USING (key, number)
"""
_CHANGES = """
    SELECT CASE WHEN m.path IS NULL THEN d.change ELSE 'moved' END, d.path, coalesce(d.kind_b, d.kind_a), m.path_a,
        CASE WHEN coalesce(o.kind_a, d.kind_a) IN ('file', 'hardlink') THEN coalesce(o.bytes_a, d.bytes_a) END,
        CASE WHEN d.kind_b IN ('file', 'hardlink') THEN d.bytes_b END,
        coalesce(o.mtime_a, d.mtime_a), d.mtime_b
    FROM different d LEFT JOIN moved m ON d.path = m.path LEFT JOIN different o ON o.path = m.path_a
    WHERE d.path NOT IN (SELECT path_a FROM moved)
    ORDER BY d.path
"""


def differences(before: Path, after: Path) -> Iterator[Change]:
    """What changed from one manifest to the other, in the order of the paths. Check both against their seals first."""
    with in_memory() as database:
        database.execute(_DIFFERENT, {"before": str(before), "after": str(after)})
        by_inode = _PAIR.format(
            key_a="(sha256_a, inode_a)", key_b="(sha256_b, inode_b)", which_a="true", which_b="true"
        )
        by_content = _PAIR.format(key_a="sha256_a", key_b="sha256_b", which_a="bytes_a > 0", which_b="bytes_b > 0")
        database.execute(_MOVED.format(by_inode=by_inode, by_content=by_content))
        result = database.execute(_CHANGES)
        while rows := result.fetchmany(_BATCH):
            for change, path, kind, path_before, bytes_before, bytes_after, mtime_before, mtime_after in rows:
                yield Change(
                    change=change,
                    path=os.fsdecode(path),
                    kind=kind,
                    path_before=None if path_before is None else os.fsdecode(path_before),
                    bytes_before=bytes_before,
                    bytes_after=bytes_after,
                    mtime_ns_before=mtime_before,
                    mtime_ns_after=mtime_after,
                )
