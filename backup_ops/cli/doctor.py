"""`doctor` and `rebuild`: what is wrong with a home, who may look at it, and its index made anew."""

from __future__ import annotations

import grp
from argparse import Namespace
from dataclasses import asdict

from rich.text import Text

from backup_ops.cli.cells import counted, printable
from backup_ops.cli.shell import Shell
from backup_ops.doctor import examine
from backup_ops.errors import HomeBusy, UsageError, did_you_mean
from backup_ops.finding import Finding
from backup_ops.quantity import format_duration

_SIGNS = {"ok": ("ok", "green"), "warning": ("! ", "yellow"), "problem": ("x ", "bold red")}


def doctor(shell: Shell, arguments: Namespace) -> int:
    if arguments.share is not None:
        return _share(shell, arguments.share)
    if arguments.unshare:
        return _unshare(shell)
    found: list[Finding] = []
    for finding in examine(shell.home):
        found.append(finding)
        if not shell.as_json:
            _say(shell, finding)
            shell.flush()  # some of it takes seconds: whoever watches sees each line as it comes
    if shell.as_json:
        shell.say_rows(asdict(finding) for finding in found)
    problems, warnings = (sum(finding.state == state for finding in found) for state in ("problem", "warning"))
    if not shell.as_json and (problems or warnings):
        shell.say(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}.")
    return 1 if problems else 3 if warnings else 0


def _say(shell: Shell, finding: Finding) -> None:
    sign, style = _SIGNS[finding.state]
    line = Text(sign, style=style)
    line.append(f" {finding.subject}: ", style="bold").append(printable(finding.sentence))
    with shell.console.capture() as drawn:
        shell.console.print(line, soft_wrap=True)
        if finding.hint:
            shell.console.print(Text(f"   {printable(finding.hint)}", style="dim"), soft_wrap=True)
    shell.write(drawn.get())


def _share(shell: Shell, name: str) -> int:
    gid = _group(name)
    shell.open_home()
    closed_before = shell.home.shared_with()
    notices = shell.home.share(gid)
    group = grp.getgrgid(gid).gr_name
    if shell.as_json:
        shell.say_object({"home": str(shell.home.path), "shared_with": group})
    else:
        shell.say(f"home {shell.home.path} is shared with group {group}: its members may look and write nothing.")
    if closed_before not in (None, gid):
        shell.notice("The group it was shared with before may not look any more.")
    for notice in notices:
        shell.notice(notice)
    return 0


def _group(name: str) -> int:
    try:
        return (grp.getgrgid(int(name)) if name.isascii() and name.isdigit() else grp.getgrnam(name)).gr_gid
    except (KeyError, OverflowError):
        hint = did_you_mean(name, [group.gr_name for group in grp.getgrall()])
        raise UsageError(f"there is no group '{name}'.", hint=hint or "`getent group` lists them.") from None


def _unshare(shell: Shell) -> int:
    shell.open_home()
    shell.home.unshare()
    if shell.as_json:
        shell.say_object({"home": str(shell.home.path), "shared_with": None})
    else:
        shell.say(f"home {shell.home.path} is its owner's alone.")
    return 0


def rebuild(shell: Shell, _: Namespace) -> int:
    shell.open_home()
    shell.home.check_writable()
    made = shell.ops.manager.history.rebuild()
    if made is None:
        raise HomeBusy(
            "another process has made history.duckdb anew just now.", hint="There is no need to do it again."
        )
    if shell.as_json:
        told = ("events", "journals", "segments", "damaged_segments", "missing_segments", "duration_s")
        shell.say_object({name: getattr(made, name) for name in told})
    else:
        sources = f"{counted(made.journals, 'journal')} and {counted(made.segments, 'segment')}"
        shell.say(f"made anew: {counted(made.events, 'event')} of {sources} in {format_duration(made.duration_s)}")
    for names, what in ((made.damaged_segments, "is damaged"), (made.missing_segments, "is missing")):
        for name in names:
            shell.complain(
                f"segment {name} {what}: its events are not in the index.",
                f"Put a good copy of it back into {shell.home.segments}: the next question takes it in.",
            )
    return 1 if made.damaged_segments or made.missing_segments else 0
