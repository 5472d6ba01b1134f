"""Makes the demo: sample files that change over five days, and real runs of real jobs on each of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import platformdirs

from backup_ops import lock
from backup_ops.demo import hardship
from backup_ops.demo.jobs import JOBS, jobs_yaml
from backup_ops.demo.samples import DAYS, DayStory, SampleFiles, counted
from backup_ops.errors import UsageError
from backup_ops.home import Home
from backup_ops.ops import Ops
from backup_ops.run import GOOD_OUTCOMES, Run

SEED = 20261124
MARKER = "demo.json"
LOCK = "demo.lock"
STICK_SIZE = "8m"
PHOTO = "2025-08 Coast/IMG_1205.png"
"""A picture that is in every snapshot of the job `photos`; the README breaks and restores it."""
_OWN = ("demo", "jobs.yaml", "queue", "journal", "segments", "logs", "runs", "locks", "restores", "repositories")
_RUN_ENDS_WITHIN_S = 120.0


@dataclass(frozen=True)
class Demo:
    """What there is to see. `runs` in the order they ended, empty when the demo was there already.

    `left_out` holds sentences: what could not be made to fail on this machine, and why.
    """

    home: Path
    files: int
    bytes: int
    days: tuple[DayStory, ...]
    runs: tuple[Run, ...]
    left_out: tuple[str, ...]

    @property
    def photos(self) -> Path:
        """The folder that the job `photos` backs up; PHOTO is in it."""
        return self.home / "demo" / "files" / "photos"


def default_home() -> Path:
    return platformdirs.user_data_path("backup-ops-demo")


def build(home_path: str | os.PathLike[str] | None = None, report: Callable[[str], None] = print) -> Demo:
    """Makes a demo home, or finds the one that is there whole; `report` gets a line for each thing that happens.

    Call it from the main thread of a process made for it (`backup-ops demo`): as root it gives up rights and mounts a
    disk for this process and its children (see `hardship`). One that was begun and not finished is made anew. Raises
    UsageError for a folder with anything else in it, and touches nothing there.
    """
    home = Home(home_path or default_home())
    state = _state_of(home)
    if state == "complete":
        report(f"The demo in {home.path} was made before. To have a new one, delete that folder.")
        return _facts(home, (), (), ())
    home.make()
    try:
        with lock.hold(home.path / LOCK):
            if state is not None:
                _clear(home)
                home.make()
            _mark(home, "building")
            with Ops(home) as ops:
                demo = _Builder(ops, report).build()
            _mark(home, "complete")
    except lock.Held:
        raise UsageError(
            f"a demo is being made in {home.path} right now.", hint="Wait for it, or name another with --home."
        ) from None
    return demo


class _Builder:
    def __init__(self, ops: Ops, report: Callable[[str], None]) -> None:
        self._ops = ops
        self._report = report
        self._files = ops.home.path / "demo" / "files"
        self._disks = ops.home.path / "demo" / "disks"
        self._runs: list[Run] = []
        self._left_out: list[str] = []
        self._stick: Literal["small", "read-only", "ordinary"] = "small"

    def build(self) -> Demo:
        self._prepare()
        samples = SampleFiles(self._files, seed=SEED, today=datetime.now(UTC))
        days = [samples.begin()]
        self._day(days[0])
        for _ in range(2, DAYS + 1):
            days.append(samples.advance())
            self._day(days[-1])
        self._sum_up()
        return _facts(self._ops.home, tuple(days), tuple(self._runs), tuple(self._left_out))

    def _prepare(self) -> None:
        for folder in (self._files, self._disks / "stick"):
            folder.mkdir(parents=True)
        self._ops.home.jobs_yaml.write_text(jobs_yaml(self._files, self._disks), encoding="utf-8")
        obeys_modes = True
        try:
            hardship.forgo_reading_everything(self._ops.home.path)
        except hardship.NotPossible as reason:
            obeys_modes = False
            self._leave_out(f"{reason}; nothing is unreadable")
        try:
            hardship.mount_small_disk(self._disks / "stick", STICK_SIZE)
        except hardship.NotPossible as reason:
            self._stick = "read-only" if obeys_modes else "ordinary"
            self._leave_out(f"{reason}; the stick never gets full" + (", but read-only" if obeys_modes else ""))

    def _day(self, story: DayStory) -> None:
        self._report(f"{story}")
        for note in story.notes:
            self._report(f"  {note}")
        if story.number == 4:
            shutil.rmtree(self._disks / "old-nas")
            self._report("  the old NAS was cleared away")
            if self._stick == "read-only":
                stick = self._disks / "stick" / "backup"
                for folder in [stick, *stick.rglob("*/")]:
                    folder.chmod(0o555)
                self._report("  the stick was write-protected")
        began = time.monotonic()
        runs = list(self._runs_of(story.number))
        self._runs += runs
        outcomes = Counter(run.outcome for run in runs)
        told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        self._report(f"  {len(runs)} runs in {time.monotonic() - began:.0f} s: {told}")
        for run in runs:
            if run.outcome != "succeeded":
                self._report(f"    {run.outcome:<11} {run.job}: {self._short(run.reason, 110)}")

    def _runs_of(self, day: int) -> Iterator[Run]:
        """Every job once, and what people and machines do to runs."""
        with contextlib.ExitStack() as busy:
            if day > 1:
                busy.enter_context(hardship.somebody_writes_to(self._files / "web-logs" / "access.log"))
            handles = [self._ops.submit(job) for job in JOBS if job not in ("photos", "website")]
            if day == 1:
                photos = self._ops.submit("photos")
                self._wait_until_running(photos.run_id)
                photos.cancel()  # "not now, I am in a video call"
                yield photos.wait(_RUN_ENDS_WITHIN_S)
            if day == 2:
                handles.append(self._ops.submit("documents"))  # pressed twice
                website = self._ops.submit("website")
                self._wait_until_running(website.run_id)
                hardship.kill_runner(website.run_id)
                yield website.wait(_RUN_ENDS_WITHIN_S)
            handles += [self._ops.submit(job) for job in ("photos", "website")]
            for handle in handles:
                yield handle.wait(_RUN_ENDS_WITHIN_S)

    def _wait_until_running(self, run_id: str) -> None:
        """Until its tool moves bytes, or it is over."""
        end = time.monotonic() + _RUN_ENDS_WITHIN_S
        while not self._ops.manager.is_over(run_id) and time.monotonic() < end:
            if self._ops.manager.progress_of(run_id) is not None:
                return
            time.sleep(0.02)

    def _sum_up(self) -> None:
        self._report(f"\n{'job':<12} {'runs':>4} {'good':>4}  {'last':<10} what went wrong")
        for job in JOBS:
            runs = [run for run in self._runs if run.job == job]
            good = sum(run.outcome in GOOD_OUTCOMES for run in runs)
            wrong = [run for run in runs if run.outcome not in ("succeeded", "skipped")]
            reason = self._short(wrong[-1].reason, 60) if wrong else ""
            self._report(f"{job:<12} {len(runs):>4} {good:>4}  {runs[-1].outcome:<10} {reason}".rstrip())

    def _short(self, reason: str | None, width: int) -> str:
        """The reason in one line, with paths below the demo's folder as a person would say them."""
        text = (reason or "").replace(f"{self._ops.home.path / 'demo'}{os.sep}", "")
        return text if len(text) <= width else f"{text[: width - 1]}…"

    def _leave_out(self, sentence: str) -> None:
        self._left_out.append(sentence)
        self._report(f"left out: {sentence}")


def _state_of(home: Home) -> str | None:
    """`building` or `complete` for a demo, None for a folder that is empty or not there; else raises UsageError."""
    if not home.path.is_dir() or _is_unused(home.path):
        return None
    try:
        state = str(json.loads((home.path / MARKER).read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{home.path} holds other things than a demo (there is no {MARKER}), so none is made there.",
            hint="Name an empty folder with --home.",
        ) from None
    return state


def _is_unused(folder: Path) -> bool:
    """Nothing in it but, at most, empty folders and the lock: a demo that was killed before it was marked."""
    return all(
        entry.name == LOCK or (entry.is_dir() and not entry.is_symlink() and not any(entry.iterdir()))
        for entry in folder.iterdir()
    )


def _mark(home: Home, state: str) -> None:
    facts = {"state": state, "seed": SEED, "made_at": datetime.now(UTC).isoformat()}
    beside = home.path / f".{MARKER}.new"
    beside.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    os.replace(beside, home.path / MARKER)


def _clear(home: Home) -> None:
    """Removes what an unfinished demo left; runs of it that still go on are waited for."""
    with Ops(home) as ops:
        end = time.monotonic() + _RUN_ENDS_WITHIN_S
        while any(home.queue.glob("*.json")):
            if time.monotonic() > end:
                raise UsageError(
                    f"runs of an unfinished demo in {home.path} still go on.", hint="Cancel them, then try again."
                )
            ops.manager.settle()
            time.sleep(0.1)
    for path in [*(home.path / name for name in _OWN), *home.path.glob("history.duckdb*")]:
        if path.is_dir() and not path.is_symlink():
            for folder in path.rglob("*/"):
                if not folder.is_symlink():
                    folder.chmod(0o700)  # a write-protected stick
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _facts(home: Home, days: tuple[DayStory, ...], runs: tuple[Run, ...], left_out: tuple[str, ...]) -> Demo:
    files = home.path / "demo" / "files"
    return Demo(
        home=home.path,
        files=counted(files),
        bytes=counted(files, lambda path: path.stat().st_size),
        days=days,
        runs=runs,
        left_out=left_out,
    )
