"""The progress bars of runs, and of other work, in a terminal. They are on stderr and leave no trace afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from backup_ops.handle import RunHandle
from backup_ops.progress import Progress as RunProgress
from backup_ops.quantity import format_bytes, format_count, format_duration
from backup_ops.run import Run


def watch_with_bar(handle: RunHandle) -> Run:
    """Waits for the run and shows how far it is, on stderr."""
    with Bars([handle]) as bars:
        return handle.wait(on_look=bars.look)


class Bars:
    """One bar for each run: `look` brings its bar up to date, `remove` takes it away when the run is over."""

    def __init__(self, handles: list[RunHandle]) -> None:
        self._progress = _drawn()
        self._tasks: dict[str, TaskID] = {}
        for handle in handles:
            self._tasks[handle.run_id] = self._progress.add_task(escape(handle.job), total=None, said="starting")

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._progress.stop()

    def look(self, handle: RunHandle) -> None:
        task = self._tasks.get(handle.run_id)
        if task is None:
            return
        now = handle.progress
        if now is None:
            self._progress.update(task, said=escape(handle.waits_for or "starting"))
            return
        _show(self._progress, task, now)

    def remove(self, handle: RunHandle) -> None:
        task = self._tasks.pop(handle.run_id, None)
        if task is not None:
            self._progress.remove_task(task)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """For a line of other text: the bars are taken away and drawn again below it."""
        self._progress.stop()
        try:
            yield
        finally:
            if self._tasks:
                self._progress.start()


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[RunProgress], None]]:
    """One bar, for work in this process; what it yields brings it up to date, from any thread."""
    progress = _drawn()
    task = progress.add_task(escape(what), total=None, said="starting")
    progress.start()
    try:
        yield lambda now: _show(progress, task, now)
    finally:
        with contextlib.suppress(OSError):  # the terminal may be gone
            progress.stop()


def _drawn() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[said]}"),
        console=Console(stderr=True, highlight=False),
        transient=True,
        refresh_per_second=5,
        redirect_stdout=False,  # stdout is the result's: it may go to another place than the bars
    )


def _show(progress: Progress, task: TaskID, now: RunProgress) -> None:
    fraction = now.fraction
    progress.update(
        task,
        total=None if fraction is None else 1.0,
        completed=fraction or 0.0,
        said=escape(words_of_progress(now)),
    )


def words_of_progress(now: RunProgress) -> str:
    """`copying 1.2 GiB of 2.2 GiB, 12 MiB/s, 1 min 20 s left`."""
    said = now.phase
    if now.bytes_done is not None and now.bytes_total:
        said += f" {format_bytes(now.bytes_done)} of {format_bytes(now.bytes_total)}"
    elif now.files_done is not None:
        said += f" {format_count(now.files_done)}"
        said += f" of {format_count(now.files_total)} files" if now.files_total else " files"
    if now.speed_bytes_s:
        said += f", {format_bytes(now.speed_bytes_s)}/s"
    if now.eta_s is not None and now.eta_s >= 1:
        said += f", {format_duration(now.eta_s)} left"
    return said
