"""What can be typed: commands, arguments and options. Everything here is argparse, so that `--help` costs little."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from backup_ops import __version__
from backup_ops.cli import keeping
from backup_ops.cli.keeping import plain
from backup_ops.errors import did_you_mean
from backup_ops.failure import COMPONENTS, SEVERITIES
from backup_ops.quantity import parse_duration_s
from backup_ops.run import OUTCOMES

AddArguments = Callable[[argparse.ArgumentParser], None]
Settle = Callable[[argparse.ArgumentParser, argparse.Namespace], None]


@dataclass(frozen=True)
class Command:
    """`room` is the module of backup_ops.cli whose function of the command's name does it; loaded when it is called.

    `settle` checks what argparse cannot, and puts words where they belong.
    """

    name: str
    room: str
    summary: str
    add_arguments: AddArguments
    settle: Settle | None = None


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace | None:
    """The arguments with all defaults set, or None when no command was given. Ends with SystemExit as argparse does."""
    parser = build_parser()
    given = parser.parse_args(argv)
    for name, default in (("home", None), ("json", False), ("quiet", False), ("verbose", False)):
        if not hasattr(given, name):
            setattr(given, name, default)
    if given.command is None:
        parser.print_help(sys.stderr)
        return None
    return given


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="backup-ops",
        description="Run, watch, prove and question backups.",
        epilog="`backup-ops COMMAND --help` says more. Exit codes: 0 succeeded, 1 failed or interrupted, 2 usage or "
        "configuration, 3 finished with warnings, 75 skipped (try later), 130 cancelled.",
        parents=[_global_options()],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_CommandParser)
    for command in COMMANDS:
        child = commands.add_parser(
            command.name,
            help=command.summary,
            description=_sentence(command.summary),
            parents=[_global_options()],
            allow_abbrev=False,
        )
        child.set_defaults(room=command.room)
        command.add_arguments(child)
        child.settle = command.settle
    return parser


def _global_options() -> Any:
    """Without defaults: what was given before the command must not be overwritten by what was not given after it."""
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = options.add_argument_group("global options, before or after the command")
    group.add_argument(
        "--home", metavar="DIR", type=_home, help="the home; else $BACKUP_OPS_HOME, else the user data folder"
    )
    group.add_argument("--json", action="store_true", help="JSON on stdout, for programs")
    group.add_argument("-q", "--quiet", action="store_true", help="no notices and no progress; only what went wrong")
    group.add_argument("-v", "--verbose", action="store_true", help="the stack trace of a defect of backup-ops")
    group.add_argument("--version", action="version", version=f"backup-ops {__version__}", help="the version")
    return options


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the way of all other errors, then how it is used."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument COMMAND: invalid choice: '(.*)' \(choose from", message, re.DOTALL)
        if unknown is not None:
            hint = did_you_mean(unknown[1], [command.name for command in COMMANDS])
            message = f"there is no command '{unknown[1]}'. {hint or '`backup-ops --help` lists them.'}"
            self.exit(2, f"backup-ops: {message}\n")
        self.exit(2, f"{self.prog}: {message}\n{self.format_usage()}")


class _CommandParser(_Parser):
    """Options may stand between positionals (`restore photos --target x a.txt`), which argparse gives up on.

    What comes after `--` is marked with a NUL, which no argument can hold, so that no pass takes it for an option.
    """

    _is_parsing = False
    settle: Settle | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        if self._is_parsing:
            return super().parse_known_args(args, namespace)
        given = list(args)
        if "--" in given:
            end = given.index("--")
            given = given[:end] + ["\0" + text for text in given[end + 1 :]]
        self._is_parsing = True
        try:
            found, extras = self.parse_known_intermixed_args(given, namespace)
        finally:
            self._is_parsing = False
        if extras:
            given_text = plain(extras[0])
            hint = did_you_mean(given_text, self._option_string_actions) if given_text.startswith("-") else ""
            self.error(f"there is no argument '{given_text}' here. {hint}".rstrip())
        if self.settle is not None:
            self.settle(self, found)
        return found, []


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _home(text: str) -> str:
    if not text:  # an unset variable in a script; it would mean the folder one happens to stand in
        raise argparse.ArgumentTypeError("the name of the home is empty")
    return text


def since(text: str) -> datetime:
    """A moment from `7d`, `24h` (before now), `2026-11-24` or `2026-11-24T10:00`, local where no zone is given."""
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration_s(text))
    except ValueError:
        pass
    except OverflowError:
        raise argparse.ArgumentTypeError(f"'{text}' is longer ago than there are dates") from None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a duration like 7d or 24h nor a date like 2026-11-24"
        ) from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; ports are 0 to 65535, and 0 takes a free one")
    return int(text)


def _add_since(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="WHEN", type=since, help="from then on: 7d, 24h, or a date like 2026-11-24")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", metavar="N", type=_count, help="the newest N; a terminal shows 50 unless given")


def _add_run_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", metavar="JOB", help="of this job only")
    _add_since(parser)
    states = ("queued", "running", *OUTCOMES)
    parser.add_argument("--outcome", choices=states, metavar="OUTCOME", help=f"one of {', '.join(states)}")


def _add_error_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--severity", type=str.upper, choices=SEVERITIES, metavar="SEVERITY", help=f"one of {', '.join(SEVERITIES)}"
    )
    parser.add_argument("--component", choices=COMPONENTS, metavar="COMPONENT", help=f"one of {', '.join(COMPONENTS)}")
    parser.add_argument("--unresolved", action="store_true", help="only those nobody has resolved")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-serve", action="store_true", help="do not open the dashboard afterwards")
    _add_address(parser)


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="DIR", help="folder the first job backs up")
    parser.add_argument("--repository", metavar="DIR", help="folder its snapshots go to; on another disk, if possible")


def _nothing(_: argparse.ArgumentParser) -> None:
    pass


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", metavar="JOB", nargs="+", type=plain, help="names of jobs in jobs.yaml")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--dry-run", action="store_true", help="say what a run would do; writes nothing")
    ways.add_argument("--detach", action="store_true", help="print the ids of the runs and return at once")
    parser.add_argument("--no-wait", action="store_true", help="skip (75) instead of queueing behind other runs")
    parser.add_argument("--force", action="store_true", help="run although more files vanished than the guard allows")
    parser.add_argument(
        "--take-over", action="store_true", help="make the repository this home's, when its owner writes no more"
    )


def _settle_run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if given.take_over and given.dry_run:
        parser.error("argument --take-over: not allowed with argument --dry-run")


def _cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "job_or_run", metavar="JOB|RUN", type=plain, help="a job that is queued or running, or a run's id"
    )


def _runs(parser: argparse.ArgumentParser) -> None:
    _add_run_filters(parser)
    _add_limit(parser)


def _errors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", metavar="JOB", help="of this job only")
    _add_since(parser)
    _add_error_filters(parser)
    _add_limit(parser)


def _resolve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("errors", metavar="ID", nargs="+", type=plain, help="error ids; a unique beginning will do")
    parser.add_argument("--note", default="", metavar="TEXT", help="what was done about it")


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=plain, help="a run's id; a unique beginning will do")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", type=plain, choices=EXPORTED, help=f"one of {', '.join(EXPORTED)}")
    parser.add_argument("file", metavar="FILE", type=plain, help="ends in .csv, .json or .parquet; it is replaced")
    _add_run_filters(parser)
    _add_error_filters(parser)
    parser.add_argument("--limit", metavar="N", type=_count, help="the newest N")
    parser.add_argument(
        "--raw", action="store_true", help="leave text that a spreadsheet would run as a formula as it is (CSV)"
    )


def _sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("select", metavar="SELECT", type=plain, help="one SELECT over the tables of docs/tables.md")


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="ADDRESS", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", metavar="PORT", type=_port, default=None, help="port to listen on; 0: a free one")


def _doctor(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--share",
        metavar="GROUP",
        type=plain,
        help="let the members of a Unix group look at the home, and write nothing",
    )
    ways.add_argument("--unshare", action="store_true", help="take that back: the home is its owner's alone")


EXPORTED = ("errors", "runs", "snapshots")
COMMANDS: tuple[Command, ...] = (
    Command("demo", "serve", "make a home with real sample data, run its jobs, and open the dashboard on it", _demo),
    Command("init", "configure", "make the home and a first jobs.yaml", _init),
    Command("validate", "configure", "check jobs.yaml and name every problem with its line", _nothing),
    Command("jobs", "configure", "list the jobs of jobs.yaml", _nothing),
    Command("run", "run", "run jobs and wait for them; Ctrl-C cancels", _run, _settle_run),
    Command("cancel", "run", "ask a run, or the runs of a job, to stop", _cancel),
    Command("status", "status", "say what goes on now, and how every job's last run ended", _nothing),
    Command("runs", "history", "list runs, newest first", _runs),
    Command("errors", "history", "list errors, newest first", _errors),
    Command("resolve", "history", "mark errors as resolved", _resolve),
    Command("logs", "history", "print the full log of a run", _logs),
    Command(
        "snapshots", "snapshots", "list what can be restored, newest first", keeping.snapshots, keeping.settle_snapshots
    ),
    Command("ls", "snapshots", "list what is in a snapshot", keeping.ls, keeping.settle_ls),
    Command("diff", "proof", "list what changed from one snapshot to another", keeping.diff, keeping.settle_diff),
    Command("restore", "snapshots", "restore a snapshot, or some paths of it", keeping.restore, keeping.settle_restore),
    Command("verify", "proof", "prove that what is stored is what was stored", keeping.verify, keeping.settle_verify),
    Command("export", "history", "write errors, runs or snapshots to a CSV, JSON or Parquet file", _export),
    Command("sql", "history", "answer one SELECT over the history; it can neither write nor reach files", _sql),
    Command("serve", "serve", "serve the dashboard", _add_address),
    Command(
        "doctor", "doctor", "look at everything the home stands on and say what is wrong; repairs nothing", _doctor
    ),
    Command("rebuild", "doctor", "make history.duckdb anew from segments and journals", _nothing),
)
