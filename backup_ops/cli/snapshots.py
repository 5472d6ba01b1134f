"""`snapshots`, `ls`, `restore`: what is kept, what is in it, and having it back."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from backup_ops.cli import sentences
from backup_ops.cli.cells import mode, printable, when
from backup_ops.cli.shell import Shell
from backup_ops.cli.tables import Column, Row, print_table
from backup_ops.failure import Failure
from backup_ops.job import SecretReference
from backup_ops.quantity import format_bytes
from backup_ops.snapshot import Entry
from backup_ops.snapshots import OnProgress, Snapshots


def asked(shell: Shell, arguments: Namespace) -> Snapshots:
    """What the arguments are about: a job of the home, or a repository, for which no home is looked for."""
    if arguments.repository is None:
        return shell.ops.kept(arguments.job)
    password = None
    if arguments.password_env is not None:
        password = SecretReference("env", arguments.password_env)
    elif arguments.password_file is not None:
        password = SecretReference("file", os.path.abspath(os.path.expanduser(arguments.password_file)))
    found = Snapshots.at(_url(arguments.repository), arguments.engine or "rclone", password)
    return found if arguments.only_job is None else found.of_job(arguments.only_job)


def _url(given: str) -> str:
    """A folder may be typed as in any other command; what has a colon and is no folder here is a remote's address."""
    if given.startswith(("/", ".", "~")) or ":" not in given or os.path.isdir(given):
        return os.path.abspath(os.path.expanduser(given))
    return given


@contextlib.contextmanager
def progress(shell: Shell, what: str) -> Iterator[OnProgress | None]:
    """A bar on a terminal, nothing elsewhere."""
    if shell.is_quiet or not shell.stderr_is_terminal:
        yield None
        return
    from backup_ops.bar import bar

    with bar(what) as look:
        yield look


def snapshots(shell: Shell, arguments: Namespace) -> int:
    kept = asked(shell, arguments)
    damaged: list[Failure] = []
    found = kept.all(on_damage=damaged.append)
    for failure in damaged:
        shell.complain(failure.message, failure.remedy)
    code = 1 if damaged else 0
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
        return code
    if not found:
        if not damaged:
            shell.notice(f"{kept.nothing_yet} {kept.what_to_do_for_one}".strip())
        return code
    columns = [
        Column("SNAPSHOT"),
        Column("JOB", is_optional=True, is_flexible=True),
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
                snapshot.job if kept.job is None else "",
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
    return code


def ls(shell: Shell, arguments: Namespace) -> int:
    entries = asked(shell, arguments).ls(arguments.snapshot, arguments.path)
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
    kept = asked(shell, arguments)
    whose = arguments.job or arguments.only_job or arguments.repository
    with progress(shell, whose) as look:
        restored = kept.restore(
            Path(arguments.target),
            arguments.snapshot,
            arguments.paths,
            overwrite=arguments.overwrite,
            dry_run=arguments.dry_run,
            on_progress=look,
        )
    if shell.as_json:
        shell.say_object(asdict(restored))
    elif not shell.is_quiet or arguments.dry_run:
        shell.say(printable(sentences.of_restore(whose, restored)))
    for note in restored.notes:
        shell.notice(note)
    return 0
