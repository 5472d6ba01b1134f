"""Taking lines into tables: folded, freed of what is known already, written in one transaction."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import duckdb

from backup_ops.event import Undecodable
from backup_ops.history.fold import Fact, fold, shown
from backup_ops.history.journals import Line
from backup_ops.history.schema import TABLES, Table, listed, quoted

_LARGEST_ROW_BYTES = 8 << 20
"""DuckDB takes 16 MiB unless told; more is asked for only when a row is that large, for it costs buffers."""


@dataclass(frozen=True)
class Rejected:
    """A line that gives no row. `file` and `offset` say where its exact bytes are."""

    file: str
    offset: int
    line: str
    reason: str


@dataclass
class Sifted:
    """Lines, each of them a new fact, a known one (left out), or rejected."""

    facts: list[Fact] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, line: Line, reason: str) -> None:
        self.rejected.append(Rejected(line.file, line.offset, shown(line.data), reason))


_TWICE = "its id is that of another event"


def sift(cursor: duckdb.DuckDBPyConnection, lines: Iterable[Line], known_in: Sequence[str]) -> Sifted:
    """Folds the lines. An event that is in `known_in` (databases or schemas), or twice in the lines, is one fact."""
    sifted = Sifted()
    facts: dict[str, Fact] = {}
    for line in lines:
        try:
            fact = fold(line)
        except Undecodable as why:
            sifted.reject(line, str(why))
            continue
        except Exception as error:  # a line that nobody thought of must not stop all the others for ever
            sifted.reject(line, f"it cannot be folded: {type(error).__name__}: {error}")
            continue
        first = facts.setdefault(fact.event_id, fact)
        if first.crc != fact.crc:
            sifted.reject(line, _TWICE)
    known = _known(cursor, list(facts), known_in)
    for event_id, fact in facts.items():
        crc = known.get(event_id)
        if crc is None:
            sifted.facts.append(fact)
        elif crc != fact.crc:
            sifted.reject(fact.line, _TWICE)
    return sifted


def write(
    cursor: duckdb.DuckDBPyConnection,
    sifted: Sifted,
    *,
    into: str,
    known_in: Sequence[str],
    then: Callable[[], None] = lambda: None,
) -> set[str]:
    """Writes facts and rejected lines into the tables of `into`, and what `then` adds, in one transaction.

    Returns the names of the tables that have new rows.

    A fact that DuckDB cannot read, though we could, is moved to the rejected ones: it must not stop the rest for ever.
    """
    try:
        return _write(cursor, sifted, into, known_in, then)
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException):
        before = len(sifted.rejected)
        sifted.facts = list(_readable(cursor, sifted, sifted.facts))
        if len(sifted.rejected) == before:
            raise
        return _write(cursor, sifted, into, known_in, then)


def _write(
    cursor: duckdb.DuckDBPyConnection,
    sifted: Sifted,
    into: str,
    known_in: Sequence[str],
    then: Callable[[], None],
) -> set[str]:
    rows: dict[str, list[bytes]] = {}
    for fact in sifted.facts:
        for table, row in fact.rows:
            rows.setdefault(table, []).append(row)
    cursor.execute("BEGIN")
    try:
        for name, texts in rows.items():
            _insert(cursor, TABLES[name], texts, into, known_in)
        _insert_rejected(cursor, sifted.rejected, into, known_in)
        then()
        cursor.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        raise
    return set(rows) | ({"rejected"} if sifted.rejected else set())


def _insert(
    cursor: duckdb.DuckDBPyConnection, table: Table, texts: list[bytes], into: str, known_in: Sequence[str]
) -> None:
    with as_file(texts) as (path, options):
        staged = f"SELECT * FROM read_json('{path}', {options}, columns={table.sql_types})"
        if table.key is None:
            cursor.execute(f"INSERT INTO {into}.{table.name} {staged} ORDER BY occurred_at")
            return
        before = "".join(
            f" UNION ALL SELECT * FROM {place}.{table.name} WHERE {table.key} IN (SELECT {table.key} FROM staged)"
            for place in known_in
        )
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE merged AS WITH staged AS MATERIALIZED ({staged}),"
            f" rows AS (SELECT * FROM staged{before}) {_merged(table)}"
        )
    cursor.execute(f"DELETE FROM {into}.{table.name} WHERE {table.key} IN (SELECT {table.key} FROM merged)")
    cursor.execute(f"INSERT INTO {into}.{table.name} SELECT * FROM merged ORDER BY noted_at")


def _merged(table: Table) -> str:
    """One row for each key. `rank` goes before time: what is certain is not replaced by a later guess."""
    if table.merge == "latest":
        newest = "rank DESC, noted_at DESC, event_id DESC"
        return f"FROM rows QUALIFY row_number() OVER (PARTITION BY {table.key} ORDER BY {newest}) = 1"
    columns = ", ".join(
        quoted(name) if name == table.key else f"arg_max({quoted(name)}, (noted_at, event_id)) AS {quoted(name)}"
        for name in table.names
    )
    return f"SELECT {columns} FROM rows GROUP BY {table.key}"


def _insert_rejected(
    cursor: duckdb.DuckDBPyConnection, rejected: list[Rejected], into: str, known_in: Sequence[str]
) -> None:
    if not rejected:
        return
    columns = {name: [getattr(one, name) for one in rejected] for name in TABLES["rejected"].names}
    values = ", ".join(f"unnest(${name}) AS {quoted(name)}" for name in columns)
    unknown = "".join(f' ANTI JOIN {place}.rejected USING (file, "offset", line)' for place in known_in)
    cursor.execute(
        f"INSERT INTO {into}.rejected SELECT {listed(tuple(columns))} FROM (SELECT {values}) {unknown}", columns
    )


def _known(cursor: duckdb.DuckDBPyConnection, ids: list[str], known_in: Sequence[str]) -> dict[str, int]:
    """The crc of each event that the tables hold already. Ids sort by time, so DuckDB looks at recent rows only."""
    if not ids:
        return {}
    selects = (
        f"SELECT {key}, crc FROM {place}.{table} WHERE {key} IN (SELECT id FROM asked)"
        for place in known_in
        for table, key in (("events", "event_id"), ("errors", "error_id"))
    )
    query = f"WITH asked AS MATERIALIZED (SELECT unnest($ids::VARCHAR[]) AS id) {' UNION ALL '.join(selects)}"
    return dict(cursor.execute(query, {"ids": ids}).fetchall())


def _readable(cursor: duckdb.DuckDBPyConnection, sifted: Sifted, facts: Sequence[Fact]) -> Iterator[Fact]:
    """The facts that DuckDB can read; halves them until the others are found."""
    try:
        for name in dict.fromkeys(table for fact in facts for table, _ in fact.rows):
            texts = [row for fact in facts for table, row in fact.rows if table == name]
            with as_file(texts) as (path, options):
                rows = f"read_json('{path}', {options}, columns={TABLES[name].sql_types})"
                cursor.execute(f"SELECT max(hash(COLUMNS(*))) FROM {rows}").fetchall()
    except duckdb.Error as error:
        if len(facts) == 1:
            sifted.reject(facts[0].line, f"DuckDB cannot read it: {str(error).splitlines()[0]}")
            return
        yield from _readable(cursor, sifted, facts[: len(facts) // 2])
        yield from _readable(cursor, sifted, facts[len(facts) // 2 :])
    else:
        yield from facts


@contextlib.contextmanager
def as_file(texts: list[bytes]) -> Iterator[tuple[str, str]]:
    """The rows as a file that DuckDB can open, and how it is to read it. In memory where the system can."""
    largest = max(map(len, texts))
    options = "format='newline_delimited'"
    if largest > _LARGEST_ROW_BYTES:
        options += f", maximum_object_size={largest + 1024}"
    with contextlib.ExitStack() as stack:
        file: IO[bytes]
        if hasattr(os, "memfd_create"):
            file = stack.enter_context(os.fdopen(os.memfd_create("backup-ops-rows"), "wb"))
            path = f"/proc/self/fd/{file.fileno()}"
        else:
            file = stack.enter_context(tempfile.NamedTemporaryFile("wb"))
            path = file.name.replace("'", "''")
        file.writelines(text + b"\n" for text in texts)
        file.flush()
        yield path, options
