"""`snapshots`, `ls`, `restore`: what is kept, what is in it, and having it back."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from shlex import quote

from backup_ops.cli import sentences
from backup_ops.cli.cells import mode, printable, when
from backup_ops.cli.shell import Shell
from backup_ops.cli.tables import Column, Row, print_table
from backup_ops.quantity import format_bytes
from backup_ops.snapshot import Entry


def snapshots(shell: Shell, arguments: Namespace) -> int:
    found = shell.ops.snapshots(arguments.job)
    if shell.as_json:
        shell.say_rows(
            {
                "snapshot_id": snapshot.snapshot_id,
                "job": snapshot.job,
                "created_at": snapshot.created_at,
                "files": snapshot.files,
                "bytes": snapshot.bytes,
            }
            for snapshot in found
        )
        return 0
    if not found:
        shell.notice(f"job '{arguments.job}' has no snapshot yet. Run it: backup-ops run {quote(arguments.job)}")
        return 0
    columns = [
        Column("SNAPSHOT"),
        Column("CREATED"),
        Column("FILES", align="right"),
        Column("SIZE", align="right"),
        Column("NEW DATA", align="right", is_optional=True),
        Column("", is_optional=True),
    ]
    rows = [
        Row(
            [
                snapshot.snapshot_id,
                when(snapshot.created_at),
                f"{snapshot.files:,}",
                format_bytes(snapshot.bytes),
                format_bytes(snapshot.bytes_added),
                "" if snapshot.is_complete else "files left out",
            ]
        )
        for snapshot in found
    ]
    print_table(shell, columns, rows)
    return 0


def ls(shell: Shell, arguments: Namespace) -> int:
    entries = shell.ops.ls(arguments.job, arguments.snapshot, arguments.path)
    if shell.as_json:
        shell.say_rows(asdict(entry) for entry in entries)
        return 0
    for entry in entries:
        shell.say(_line(entry))
    return 0


def _line(entry: Entry) -> str:
    size = "" if entry.kind in ("folder", "symlink") else format_bytes(entry.bytes)
    arrow = f" -> {entry.link_target}" if entry.link_target is not None else ""
    return f"{mode(entry.mode, entry.kind)} {size:>9} {when(entry.modified_at)} {printable(entry.path + arrow)}"


def restore(shell: Shell, arguments: Namespace) -> int:
    restored = shell.ops.restore(
        arguments.job,
        target=arguments.target,
        snapshot=arguments.snapshot,
        paths=arguments.paths,
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
    )
    if shell.as_json:
        shell.say_object(asdict(restored))
    elif not shell.is_quiet or arguments.dry_run:
        shell.say(printable(sentences.of_restore(arguments.job, restored)))
    for note in restored.notes:
        shell.notice(note)
    return 0
