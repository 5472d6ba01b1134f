"""The manifest: every path of a snapshot as a Parquet table, and where its content is stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb

from backup_ops.engines.rclone.names import display
from backup_ops.engines.rclone.node import Node

# The order is the order of the table. docs/format.md tells what each column means.
_COLUMNS: tuple[tuple[str, str], ...] = (
    ("path", "coalesce(unhex(path), ''::BLOB)"),
    ("path_text", "coalesce(decode(unhex(path_text)), '')"),
    ("kind", "kind"),
    ("bytes", "bytes::BIGINT"),
    ("mtime_ns", "mtime_ns::BIGINT"),
    ("mode", "mode::INTEGER"),
    ("uid", "uid::BIGINT"),
    ("gid", "gid::BIGINT"),
    ("xattrs", "decode(unhex(xattrs))"),
    ("sha256", "sha256"),
    ("stored_run", "stored_run"),
    ("stored_path", "decode(unhex(stored_path))"),
    ("link_target", "unhex(link_target)"),
    ("inode", "inode::UBIGINT"),
    ("ctime_ns", "ctime_ns::BIGINT"),
    ("stale", "decode(unhex(stale))"),
)
_READ = (
    "SELECT path, kind, bytes, mtime_ns, mode, uid, gid, inode, ctime_ns, link_target, xattrs, sha256, stored_run,"
    " stored_path, stale FROM read_parquet($file)"
)
_BATCH = 10_000
_LONG_LINE = 1_000_000


def write_manifest(nodes: Iterable[Node], file: Path) -> None:
    """Writes the table, in the order of the paths."""
    # DuckDB takes rows from Python one by one at some 10,000 a second; a CSV file it reads at a million. Everything
    # that is text or bytes goes as hex digits, so there is nothing in it to quote.
    beside = file.with_suffix(".csv")
    try:
        with beside.open("w", encoding="ascii", newline="") as stream:
            longest = max((stream.write(_line(node)) for node in nodes), default=0)
        columns = ", ".join(f"'{name}': 'VARCHAR'" for name, _ in _COLUMNS)
        values = ", ".join(f"{expression} AS {name}" for name, expression in _COLUMNS)
        # Extended attributes can make a line longer than DuckDB takes by itself; it wants a buffer of several lines.
        line = f", max_line_size = {longest + 1}, buffer_size = {4 * longest}" if longest > _LONG_LINE else ""
        with in_memory() as connection:
            connection.execute(
                f"COPY (SELECT {values} FROM read_csv({_quoted(beside)}, header = false, auto_detect = false,"
                f" delim = ',', nullstr = '', columns = {{{columns}}}{line}) ORDER BY path)"
                f" TO {_quoted(file)} (FORMAT parquet, COMPRESSION zstd)"
            )
    finally:
        beside.unlink(missing_ok=True)


def read_manifest(file: Path) -> dict[bytes, Node]:
    """The nodes by path. Check the file against its seal first: Parquet does not notice a flipped bit."""
    return {node.path: node for node in iterate_manifest(file)}


def iterate_manifest(file: Path, below: bytes = b"") -> Iterator[Node]:
    """The nodes in the order of their paths; with `below` that path and what is under it."""
    condition = ""
    parameters = {"file": str(file)}
    if below:
        condition = (
            " WHERE path = unhex($below) OR path[1:octet_length(unhex($below)) + 1] = unhex($below) || '/'::BLOB"
        )
        parameters["below"] = below.hex()  # for bytes DuckDB asks pandas, which another thread may be loading
    with in_memory() as connection:
        result = connection.execute(f"{_READ}{condition} ORDER BY path", parameters)
        while rows := result.fetchmany(_BATCH):
            for path, kind, size, mtime, mode, uid, gid, inode, ctime, target, xattrs, sha, run, stored, stale in rows:
                yield Node(
                    path,
                    kind,
                    size,
                    mtime,
                    mode,
                    uid,
                    gid,
                    inode,
                    ctime,
                    target,
                    _xattrs(xattrs),
                    sha,
                    run,
                    stored,
                    stale,
                )


def in_memory() -> duckdb.DuckDBPyConnection:
    """A database of its own to put questions to manifests with."""
    # Nothing here may reach for the network, and two threads leave the machine to whoever uses it.
    return duckdb.connect(
        ":memory:",
        config={"threads": 2, "autoinstall_known_extensions": False, "autoload_known_extensions": False},
    )


def _line(node: Node) -> str:
    """The columns in their order. Written out, because csv.writer takes as long as all the rest."""
    target = "" if node.link_target is None else node.link_target.hex()
    stored = "" if node.stored_path is None else node.stored_path.encode().hex()
    stale = "" if node.stale is None else node.stale.encode("utf-8", "backslashreplace").hex()
    ctime = "" if node.ctime_ns is None else node.ctime_ns
    return (
        f"{node.path.hex()},{display(node.path).encode().hex()},{node.kind},{node.size_bytes},{node.mtime_ns},{node.mode},"
        f"{node.uid},{node.gid},{_encoded(node.xattrs)},{node.sha256 or ''},{node.stored_run or ''},{stored},{target},"
        f"{node.inode},{ctime},{stale}\n"
    )


def _encoded(xattrs: dict[str, bytes] | None) -> str:
    if not xattrs:
        return ""
    encoded = {name: base64.b64encode(value).decode("ascii") for name, value in sorted(xattrs.items())}
    return json.dumps(encoded).encode("ascii").hex()


def _xattrs(text: str | None) -> dict[str, bytes] | None:
    return None if text is None else {name: base64.b64decode(value) for name, value in json.loads(text).items()}


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
