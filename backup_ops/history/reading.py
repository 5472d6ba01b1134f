"""Reading from many threads of one process: they share one attachment of the index, and let go of it now and then."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import duckdb

from backup_ops.errors import BackupError, HistoryBusy, HistoryDamaged, HomeError
from backup_ops.history import holdings, journals, ledger, segments
from backup_ops.history.guard import Guard
from backup_ops.history.instance import Instance, Missing, Outdated, connect, identity
from backup_ops.history.trouble import meaning
from backup_ops.home import Home

LEASE_S = 0.1
"""Readers join an attachment that is younger; then they wait a moment for it to end, so that an ingester gets in."""

DRAIN_S = 0.25
BACKLOG_BYTES = 4 << 20
"""A longer tail is folded in before a read, if nobody else is at it: once, and not by every reader."""

STAND_IN_BYTES = 64 << 20
"""Journals and segments up to this size, some 200,000 events, are read whole (2-3 s, once) when the index cannot be
had."""

_UNPACKED_PER_PACKED = 10
"""About how much larger lines are than a segment of them."""

HELD_WAIT_S = 1.0
"""How long a read waits for a foreign process to let go of the file, the first time; after that it does not wait."""


Heal = Callable[[Exception, "tuple[int, int] | None", float], bool]
"""Gets what was wrong (Missing, Outdated, HistoryDamaged), which file it was, and how long to wait; says whether it is
worth to try again."""


class Attachment:
    """The index and the tails, for all threads of one process.

    `heal` makes an index where there is none to attach; `catch_up` folds a long tail in before it is read.
    """

    def __init__(self, home: Home, heal: Heal, catch_up: Callable[[], None], *, may_spill: bool = True) -> None:
        self._home = home
        self._heal = heal
        self._catch_up = catch_up
        self._may_spill = may_spill
        self._guard = Guard(home)
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._instance: Instance | None = None
        self._release = contextlib.ExitStack()
        self._readers = 0
        self._lease_ends = 0.0
        self._leases = 0
        self._is_held = False

    @contextlib.contextmanager
    def open(self, wait_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor that sees all there was when it was opened. Raises HistoryBusy, HistoryNewer, HomeError."""
        seen = identity(self._home.history)
        try:
            cursor = self._enter(wait_s)
        except duckdb.Error as error:  # while the tail was read: it is compared with what the index holds
            told = meaning(error, self._home.history)
            if told is None:
                raise
            if not isinstance(told, HistoryDamaged) or not self._heal(told, seen, wait_s):
                raise told from error
            cursor = self._enter(wait_s)
        try:
            yield cursor
        finally:
            if self._pid == os.getpid():
                with contextlib.suppress(duckdb.Error):
                    cursor.close()
                with self._changed:
                    self._leave()

    @property
    def tail(self) -> tuple[int, float]:
        """Bytes that are not folded in, as of the last read, and the age in seconds of the oldest."""
        instance = self._instance
        if instance is None or instance.tail_since is None:
            return 0, 0.0
        return instance.tail_bytes, time.monotonic() - instance.tail_since

    def close(self) -> None:
        """Reads under way go on."""
        with self._changed:
            if not self._readers and self._instance is not None:
                self._instance.close()
                self._instance = None

    def _enter(self, wait_s: float) -> duckdb.DuckDBPyConnection:
        with self._changed:
            if self._readers and time.monotonic() > self._lease_ends:
                lease = self._leases
                self._changed.wait_for(lambda: not self._readers or self._leases != lease, DRAIN_S)
            try:
                return self._join(wait_s)
            except duckdb.Error:
                if self._readers:
                    raise
                # Not the file's fault, or it would have a name: an instance may be unusable after a fatal error.
                self._instance = None
                return self._join(wait_s)

    def _join(self, wait_s: float) -> duckdb.DuckDBPyConnection:
        if not self._readers:
            self._attach(wait_s)
            self._lease_ends = time.monotonic() + LEASE_S
            self._leases += 1
        self._readers += 1
        try:
            assert self._instance is not None
            self._instance.refresh()
            return self._instance.cursor()
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._readers -= 1
        if not self._readers:
            try:
                self._release.close()
            except duckdb.Error:
                # A result that outlived its block keeps the file attached, or the instance failed: start anew.
                self._instance = None
            self._changed.notify_all()

    def _attach(self, wait_s: float) -> None:
        if self._instance is None:
            may_spill = self._may_spill and not self._home.is_to_look_at
            self._instance = Instance(self._home, connect(spill_to=self._home.path / "spill" if may_spill else None))
        try:
            self._attach_index(self._instance, wait_s)
            self._is_held = False
        except (HistoryBusy, HistoryDamaged, Missing, Outdated) as error:
            if not self._can_stand_in():
                if isinstance(error, BackupError):
                    raise
                if os.access(self._home.path, os.W_OK):
                    raise HistoryBusy(
                        f"other processes make {self._home.history} anew, over and over.",
                        hint="Look for what removes files of the home: backup-ops doctor",
                    ) from None
                raise HomeError(
                    f"{self._home.history} is to be made anew, and this user cannot write to the home.",
                    hint="Let its owner ask the history once, or mount its file system read-write.",
                ) from None
            self._is_held = True
            self._instance.stand_in()
            self._release.callback(self._instance.detach)

    def _attach_index(self, instance: Instance, wait_s: float) -> None:
        """Leaves the index attached and locked; after a heal, or a long tail folded in, it is attached once more."""
        may_heal, may_catch_up = 2, True
        while True:
            seen = identity(self._home.history)
            trouble: Exception | None = None
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._guard.reading(wait_s))
                try:
                    instance.attach(0.0 if self._is_held else min(wait_s, HELD_WAIT_S))
                except (Missing, Outdated, HistoryDamaged) as error:
                    trouble = error
                else:
                    stack.callback(instance.detach)
                    if not may_catch_up or instance.backlog_bytes() <= BACKLOG_BYTES:
                        self._release = stack.pop_all()
                        return
            if trouble is None:
                may_catch_up = False
                self._catch_up()
            else:
                may_heal -= 1
                if may_heal < 0 or not self._is_healed(trouble, seen, wait_s):
                    raise trouble

    def _is_healed(self, trouble: Exception, seen: tuple[int, int] | None, wait_s: float) -> bool:
        try:
            return self._heal(trouble, seen, wait_s)
        except HomeError:
            if not self._can_stand_in():
                raise
            return False

    def _can_stand_in(self) -> bool:
        """Whether journals and segments hold everything, and are small enough to be read whole."""
        present = segments.present(self._home.segments)
        raw_bytes = sum(journals.sizes(self._home.journal).values())
        packed_bytes = holdings.size_bytes(self._home, present)
        if raw_bytes + packed_bytes * _UNPACKED_PER_PACKED > STAND_IN_BYTES:
            return False
        if not ledger.expected(self._home).keys() <= {segment.name for segment in present}:
            return False  # only the index may know what was in it
        assert self._instance is not None
        with contextlib.closing(self._instance.cursor()) as cursor:
            return all(holdings.is_readable(cursor, self._home, segment) for segment in present)
