"""The shell face: `backup-ops COMMAND …`. docs/shell.md has every command and exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from backup_ops.cli.parser import parse

if TYPE_CHECKING:
    from argparse import Namespace

    from backup_ops.cli.shell import Shell

__all__ = ["main"]

_MAY_TAKE_LONGER = (0, 1, 3)
"""Exit codes after which nobody has told the command to end, and it was no slip of the typist."""


def main(argv: Sequence[str] | None = None) -> int:
    """Does one command and returns its exit code; never raises. Without `argv` it is the whole of this process."""
    try:
        arguments = parse(argv)
    except SystemExit as ended:  # argparse has said why
        return ended.code if isinstance(ended.code, int) else 2
    if arguments is None:
        return 2

    from backup_ops.cli.shell import Shell
    from backup_ops.errors import HomeError

    try:
        shell = Shell(arguments.home, as_json=arguments.json, is_quiet=arguments.quiet, is_verbose=arguments.verbose)
    except HomeError as error:
        print(f"backup-ops: {error}", file=sys.stderr)
        return error.exit_code
    code = 130
    try:
        code = _perform(shell, arguments)
        if code in _MAY_TAKE_LONGER:
            shell.look_after_home(arguments.command)
    except KeyboardInterrupt:
        shell.complain("interrupted.")
    if argv is None:
        # What is left takes milliseconds, and a Ctrl-C in them would end Python with a trace.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    shell.close()
    return code


def _perform(shell: Shell, arguments: Namespace) -> int:
    from backup_ops.cli.shell import StdoutGone

    try:
        # The one import by name: what a command needs (DuckDB, rich, Panel) is loaded for that command only.
        do: Callable[[Shell, Namespace], int] = getattr(
            import_module(f"backup_ops.cli.{arguments.room}"), arguments.command
        )
        code = do(shell, arguments)
        shell.flush()
        return code
    except StdoutGone as gone:
        return 1 if gone.is_fault else 0
    except Exception as error:
        return _explain(shell, error)


def _explain(shell: Shell, error: Exception) -> int:
    """Says what happened in a sentence; returns the exit code."""
    from backup_ops.engines.base import Stopped
    from backup_ops.errors import BackupError, ConfigInvalid

    if isinstance(error, ConfigInvalid):
        for problem in error.problems:
            shell.complain(str(problem), is_prefixed=False)
        return error.exit_code
    if isinstance(error, BackupError):
        shell.complain(error.message, error.hint)
        return error.exit_code
    if isinstance(error, Stopped):
        shell.complain(f"{error.reason}.")
        return 130 if error.reason == "cancelled" else 1
    if shell.is_verbose:
        import traceback

        traceback.print_exception(error)
    hint = "" if shell.is_verbose else "The same command with -v shows where."
    if isinstance(error, OSError) and error.strerror:
        thing = f"{error.filename!r}: " if error.filename else ""
        shell.complain(f"{thing}{error.strerror}.", hint)
    else:
        said = f"{type(error).__name__}: {error}".rstrip(". ")
        shell.complain(f"a defect of backup-ops stopped it ({said}).", hint or "Please report the trace above.")
    return 1
