"""`run` and `cancel`: starting runs, waiting for them, stopping them."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from backup_ops.bar import Bars
from backup_ops.cli import sentences
from backup_ops.cli.cells import printable
from backup_ops.cli.configure import say_what_is_not_acted_on
from backup_ops.cli.shell import Shell, StdoutGone
from backup_ops.cli.signals import Signals
from backup_ops.errors import BackupError
from backup_ops.handle import RunHandle
from backup_ops.monitor import DRAIN_EVERY_S
from backup_ops.run import Run, worst_exit_code

_LOOK_EVERY_S = 0.1
_SAID_AFTER_S = 0.5
"""A reason to wait that is gone by then was none."""


def run(shell: Shell, arguments: Namespace) -> int:
    names = list(dict.fromkeys(arguments.jobs))
    for name in names:  # all of them before the first is queued: a wrong word on the line starts nothing
        shell.ops.manager.check(name)
    say_what_is_not_acted_on(shell)
    if arguments.dry_run:
        return _preview(shell, names)
    if arguments.take_over:
        _take_over(shell, names)
    with Signals() as signals:
        handles: list[RunHandle] = []
        try:
            for name in names:  # one by one: an error must find those that were queued before it
                handles.append(shell.ops.submit(name, force=arguments.force, wait=not arguments.no_wait))  # noqa: PERF401
        except BaseException:
            _say_left(shell, handles, "was queued before this went wrong; it goes on.")
            raise
        if arguments.detach:
            return _leave_at_once(shell, handles)
        waiting = Waiting(shell, handles, signals)
        try:
            runs = waiting.wait()
        except KeyboardInterrupt:
            shell.complain("left; what was cancelled ends by itself.", "`backup-ops status` shows it.")
            return 130
    if signals.leave_by is not None and len(runs) < len(handles):
        over = {ended.run_id for ended in runs}
        left = [handle for handle in handles if handle.run_id not in over]
        _say_left(shell, left, f"goes on without this command ({signals.leave_by.name}).")
        return 128 + signals.leave_by
    if shell.as_json:
        with contextlib.suppress(StdoutGone):
            shell.say_rows(ended.as_row() for ended in runs)
    return worst_exit_code(ended.shell_exit_code for ended in runs)


def _take_over(shell: Shell, names: Sequence[str]) -> None:
    for name in names:
        before = shell.ops.take_over(name)
        if before is not None:
            home = f"home {before.home_id} on " if before.home_id else ""
            shell.notice(f"{name}: its repository belonged to {home}host {before.host}; it is this home's now.")


def _say_left(shell: Shell, handles: Sequence[RunHandle], what: str) -> None:
    for handle in handles:
        shell.notice(f"{handle.job}: run {handle.run_id} {what} `backup-ops status` shows it.")


class Waiting:
    """Waits for runs, shows how far they are, and says one line for each that is over."""

    def __init__(self, shell: Shell, handles: Sequence[RunHandle], signals: Signals) -> None:
        self._shell = shell
        self._handles = list(handles)
        self._signals = signals
        self._bars: Bars | None = None
        self._waits: dict[str, tuple[str | None, float, bool]] = {}

    def wait(self) -> list[Run]:
        """The runs in the order they ended: all, or those that ended before a signal to leave."""
        with contextlib.ExitStack() as stack:
            if self._shell.stderr_is_terminal and not self._shell.is_quiet:
                shown = [handle for handle in self._handles if handle.state != "skipped"]
                if shown:
                    self._bars = stack.enter_context(Bars(shown))
            return self._wait()

    def _wait(self) -> list[Run]:
        manager = self._shell.ops.manager
        left = list(self._handles)
        over: list[Run] = []
        has_cancelled = False
        settled_at = time.monotonic()
        while True:
            for handle in list(left):
                if handle.state in ("queued", "running"):
                    self._look(handle)
                    continue
                left.remove(handle)
                ended = handle.result()
                over.append(ended)
                self._tell(handle, ended)
            if not left or self._signals.leave_by is not None:
                return over
            if self._signals.is_cancelled and not has_cancelled:
                has_cancelled = True
                names = ", ".join(handle.job for handle in left)
                self._notice(
                    f"cancelling {names}; Ctrl-C again leaves at once, and the cancelled runs end by themselves."
                )
                for handle in left:
                    with contextlib.suppress(BackupError):  # over since we looked
                        handle.cancel()
            if time.monotonic() - settled_at >= DRAIN_EVERY_S:
                settled_at = time.monotonic()
                manager.settle()
            time.sleep(_LOOK_EVERY_S)

    def _look(self, handle: RunHandle) -> None:
        if self._bars is not None:
            self._bars.look(handle)
            return
        if self._shell.is_quiet:
            return
        reason = handle.waits_for
        said, since, is_told = self._waits.get(handle.run_id, (None, 0.0, False))
        if reason != said:
            self._waits[handle.run_id] = (reason, time.monotonic(), False)
        elif reason is not None and not is_told and time.monotonic() - since >= _SAID_AFTER_S:
            self._waits[handle.run_id] = (reason, since, True)
            self._notice(f"{handle.job}: {reason}.")

    def _notice(self, text: str) -> None:
        with self._without_bars():
            self._shell.notice(text)

    def _tell(self, handle: RunHandle, ended: Run) -> None:
        """The line of the run: on stdout, or on stderr beside JSON. With -q only when something is wrong."""
        if self._bars is not None:
            self._bars.remove(handle)
        if self._shell.is_quiet and ended.outcome == "succeeded":
            return
        with self._without_bars():
            line = printable(sentences.of_run(ended))
            if self._shell.as_json:
                self._shell.notice(line)
                return
            with contextlib.suppress(StdoutGone):  # the exit code still says how it ended
                self._shell.say(line)
                self._shell.flush()

    def _without_bars(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._bars is None else self._bars.pause()


def _leave_at_once(shell: Shell, handles: Sequence[RunHandle]) -> int:
    skipped = [handle for handle in handles if handle.state == "skipped"]
    queued = [handle for handle in handles if handle not in skipped]
    for handle in skipped:
        shell.complain(sentences.of_run(handle.result()), is_prefixed=False)
    if shell.as_json:
        shell.say_rows({"run_id": handle.run_id, "job": handle.job, "state": handle.state} for handle in handles)
    else:
        for handle in queued:
            shell.say(handle.run_id)
    return 75 if skipped else 0


def _preview(shell: Shell, names: Sequence[str]) -> int:
    codes = [0]
    previews = []
    for name in names:
        try:
            preview = shell.ops.preview(name)
        except BackupError as error:
            shell.complain(f"{name}: {error.message}", error.hint)
            codes.append(error.exit_code)
            continue
        previews.append({"job": name, **asdict(preview)})
        if shell.as_json:
            continue
        shell.say(printable(sentences.of_preview(name, preview)))
        for line in preview.sample:
            shell.say(f"  {printable(line)}")
        not_shown = preview.files_new + preview.files_changed + preview.files_deleted - len(preview.sample)
        if not_shown > 0:
            shell.say(f"  … and {not_shown:,} more")
        for item in preview.item_failures:
            shell.complain(f"{name}: {item.path}: {item.failure.message}", item.failure.remedy, is_prefixed=False)
        for note in preview.notes:
            shell.notice(f"{name}: {note}")
    if shell.as_json:
        shell.say_rows(previews)
    return max(codes, key=lambda code: (code == 1, code))


def cancel(shell: Shell, arguments: Namespace) -> int:
    run_ids = shell.ops.cancel(arguments.job_or_run)
    if shell.as_json:
        shell.say_rows({"run_id": run_id} for run_id in run_ids)
        return 0
    for run_id in run_ids:
        shell.say(f"run {run_id} was asked to stop; it ends as cancelled by itself.")
    return 0
