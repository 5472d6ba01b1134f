"""The history: everything that was ever told to the journals, as tables. Any number of processes read it at once."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from backup_ops.errors import HistoryDamaged, QueryRefused
from backup_ops.finding import Finding
from backup_ops.history import answer, export, question, sandbox
from backup_ops.history.holdings import Lost, OnLost
from backup_ops.history.ingest import OnRejected
from backup_ops.history.inspection import inspect
from backup_ops.history.instance import identity
from backup_ops.history.reading import Attachment
from backup_ops.history.rebuild import Rebuilt
from backup_ops.history.trouble import meaning
from backup_ops.history.upkeep import OnRebuilt, Upkeep
from backup_ops.home import Home

if TYPE_CHECKING:
    import pandas

Answer = TypeVar("Answer")

WAIT_S = 10.0

_LOGGER = logging.getLogger("backup_ops")

_left_behind: list[object] = []
"""DuckDB instances of a forked parent: ending one would wait for threads that the child does not have."""


def _finish_imports() -> None:
    """DuckDB looks for pandas and numpy among the loaded modules, and takes one that another thread is still loading.

    An import statement waits for that thread. Alone in the process nobody can be loading them: a shell command that
    needs no frame does not pay for pandas.
    """
    if threading.active_count() > 1 or "pandas" in sys.modules or "numpy" in sys.modules:
        import pandas  # noqa: F401


def _log_rejected(count: int, reason: str, journal: str) -> None:
    _LOGGER.warning("%d lines of journal %s could not be read (%s)", count, journal, reason)


def _log_rebuilt(reason: str, was_damaged: bool) -> None:
    _LOGGER.log(logging.ERROR if was_damaged else logging.INFO, "history.duckdb was made anew: %s", reason)


def _log_lost(lost: Lost) -> None:
    _LOGGER.error("%s", lost)


class History:
    """Usable from any thread, also after a fork. Holds nothing open between calls but memory.

    `on_rejected(count, first_reason, journal)` is called after an ingest met lines that give no row,
    `on_rebuilt(reason, was_damaged)` after a damaged or outdated index was made anew, `on_lost(lost)` for a segment
    whose events could not be taken in: on the thread that read or ingested, before the index notes it, so that a kill
    can have it told twice but not never. They may write to a journal, but not ask the history. Without them it is
    logged.
    """

    def __init__(
        self,
        home: Home,
        *,
        on_rejected: OnRejected = _log_rejected,
        on_rebuilt: OnRebuilt = _log_rebuilt,
        on_lost: OnLost = _log_lost,
    ) -> None:
        self.home = home
        self._on_rejected = on_rejected
        self._on_lost = on_lost
        self._on_rebuilt = on_rebuilt
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._upkeep = Upkeep(self.home, self._on_rejected, self._on_rebuilt, self._on_lost)
        self._attachment = self._new_attachment()

    def _new_attachment(self, *, may_spill: bool = True) -> Attachment:
        return Attachment(self.home, self._upkeep.heal, self._upkeep.catch_up, may_spill=may_spill)

    def _check_process(self) -> None:
        _finish_imports()
        if self._pid != os.getpid():
            _left_behind.extend((self._attachment, self._upkeep))
            self._start()

    @staticmethod
    def load() -> None:
        """Loads pandas here and now.

        Whoever starts threads that ask a history calls it first: param and DuckDB look for numpy among the loaded
        modules, and in every other thread they would take one that is still being loaded.
        """
        import pandas  # noqa: F401

    def close(self) -> None:
        """Gives back the memory; a later call takes it again. Reads under way on other threads go on."""
        self._check_process()
        self._attachment.close()
        self._upkeep.close()

    # --- reading

    @contextlib.contextmanager
    def reading(self, wait_s: float = WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB cursor with the tables of docs/tables.md, complete up to this moment; times are UTC.

        Fetch inside the block: nothing of it may be used after. While it is open nobody can fold journals in, which
        harms nobody for a while. Raises HistoryBusy, HistoryNewer, HomeError; HistoryDamaged when damage shows itself
        during a query: the index has been rebuilt by then, and the same block will work.
        """
        self._check_process()
        with self._mending(self._attachment, wait_s) as cursor:
            yield cursor
        self._upkeep.fold_if_due(*self._attachment.tail)

    @contextlib.contextmanager
    def _mending(self, attachment: Attachment, wait_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor; DuckDB's errors about the file leave as ours, and after HistoryDamaged the file is a new one."""
        damage: HistoryDamaged | None = None
        seen: tuple[int, int] | None = None
        try:
            with attachment.open(wait_s) as cursor:
                try:
                    yield cursor
                except duckdb.Error as error:
                    told = meaning(error, self.home.history)
                    if told is None:
                        raise
                    if isinstance(told, HistoryDamaged):
                        damage, seen = told, identity(self.home.history)
                    raise told from error
        except HistoryDamaged:
            if damage is not None:
                self._upkeep.heal(damage, seen, wait_s)
            raise

    def rows(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        """The answer to the question `name` (a file in sql/), a dict for each row; times are aware and UTC.

        A filter that is None or not given does not filter. Raises UsageError for one that the question does not know.
        """
        asked = question.find(name)
        bound = asked.bind(filters)

        def fetch(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
            cursor.execute(asked.sql, bound)
            names = answer.columns_of(cursor)
            return [dict(zip(names, row, strict=True)) for row in answer.rows_of(cursor)]

        return self._ask(fetch)

    def frame(self, name: str, **filters: Any) -> pandas.DataFrame:
        """Like `rows`, as a DataFrame: text str, counts Int64, times datetime64[us, UTC]."""
        asked = question.find(name)
        bound = asked.bind(filters)
        return self._ask(lambda cursor: answer.frame_of(cursor.execute(asked.sql, bound)))

    def export(
        self, target: Path | str, what: str, *, file_format: str | None = None, raw: bool = False, **filters: Any
    ) -> int:
        """Writes `what` (errors, runs, snapshots) to a file, newest first; returns the number of rows.

        The format is that of the extension unless given. See `export.write` for what cells look like.
        """
        target = Path(target)
        file_format = export.format_of(target, file_format)
        asked = export.find(what)
        return self._ask(lambda cursor: export.write(cursor, asked, filters, target, file_format=file_format, raw=raw))

    # --- SQL that somebody typed

    def sql(self, select: str, *, timeout_s: float | None = None) -> pandas.DataFrame:
        """The answer of one SELECT over the tables, as a DataFrame. It can reach nothing else. Raises QueryRefused."""
        return self._ask_sandbox(select, answer.frame_of, timeout_s)

    def sql_rows(
        self, select: str, *, timeout_s: float | None = None, max_rows: int | None = None
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Like `sql`: names of the columns, and the rows. More than `max_rows` rows are refused, not cut."""

        def fetch(cursor: duckdb.DuckDBPyConnection) -> tuple[list[str], list[tuple[Any, ...]]]:
            names = answer.columns_of(cursor)
            rows = answer.rows_of(cursor, None if max_rows is None else max_rows + 1)
            if max_rows is not None and len(rows) > max_rows:
                raise QueryRefused(f"the answer has more than {max_rows:,} rows.", hint="Add a LIMIT.")
            return names, rows

        return self._ask_sandbox(select, fetch, timeout_s)

    # --- upkeep

    def ingest(self, force: bool = False) -> bool:
        """Folds the journals into history.duckdb. True: all that was in them at the call is in there now.

        False is no failure: another process is at it or was within the last second, readers stay inside, or the home
        is read-only; readers see everything all the same. With `force` it waits for them up to 5 s. Raises HomeError
        (disk full, no rights) and HistoryNewer.
        """
        self._check_process()
        return self._upkeep.ingest(force=force)

    def rebuild(self) -> Rebuilt | None:
        """Makes history.duckdb anew from segments and journals and puts it in the place of the present one.

        What could not be taken in is named in the result; then the old file is kept as history.broken-TIME.duckdb.
        None: another process has just done it. Raises HomeError when the home is not writable, HistoryBusy when
        another process is at it.
        """
        self._check_process()
        return self._upkeep.rebuild()

    def compact(self, max_s: float | None = None, *, everything: bool = False) -> int:
        """Moves what ended journals hold into segments, and merges these; returns how many journals went.

        Little is left for a later time unless `everything`. After `max_s` it begins no further step. Whatever is in
        the way (another process, a read-only home, an index to be rebuilt) is a reason to do nothing now. Raises
        HomeError when the disk is full, HistoryNewer.
        """
        self._check_process()
        return self._upkeep.compact(max_s=max_s, everything=everything).journals

    def inspect(self) -> list[Finding]:
        """What is well and what is wrong with index, segments and journals. Reads all of it and changes nothing."""
        self._check_process()
        return list(inspect(self.home))

    # --- asking

    def _ask(self, fetch: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        try:
            with self.reading() as cursor:
                return fetch(cursor)
        except HistoryDamaged:  # rebuilt meanwhile
            with self.reading() as cursor:
                return fetch(cursor)

    def _ask_sandbox(
        self, select: str, fetch: Callable[[duckdb.DuckDBPyConnection], Answer], timeout_s: float | None
    ) -> Answer:
        self._check_process()
        sandbox.check(select)
        try:
            return self._try_sandbox(select, fetch, timeout_s)
        except HistoryDamaged:  # rebuilt meanwhile
            return self._try_sandbox(select, fetch, timeout_s)

    def _try_sandbox(
        self, select: str, fetch: Callable[[duckdb.DuckDBPyConnection], Answer], timeout_s: float | None
    ) -> Answer:
        attachment = self._new_attachment(may_spill=False)
        try:
            with self._mending(attachment, WAIT_S) as cursor:
                try:
                    found = sandbox.run(cursor, select, fetch, timeout_s=timeout_s)
                except duckdb.Error as error:
                    if meaning(error, self.home.history) is None:
                        raise QueryRefused(str(error)) from None
                    raise
            self._upkeep.fold_if_due(*attachment.tail)
            return found
        finally:
            attachment.close()
