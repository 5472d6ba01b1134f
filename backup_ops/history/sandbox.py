"""A sandbox for SQL that somebody typed: one SELECT over the tables, in a DuckDB that can reach nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import duckdb

from backup_ops.errors import QueryRefused, did_you_mean
from backup_ops.history.schema import VIEWS

Answer = TypeVar("Answer")

MEMORY_LIMIT = "2GB"
_LOCKS = (
    f"SET memory_limit = '{MEMORY_LIMIT}'",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)

_TABLE_FUNCTIONS = frozenset(
    "range generate_series unnest json_each json_tree repeat summary duckdb_columns duckdb_tables duckdb_views".split()
)
"""DuckDB leaves a locked instance one way to files: those that are attached. So functions are let in by name."""

_SCHEMAS = ("", "main", "information_schema")


def check(select: str) -> None:
    """Raises QueryRefused unless the text is exactly one SELECT, naming what it is instead."""
    try:
        statements = duckdb.extract_statements(select)
    except duckdb.Error as error:
        raise QueryRefused(str(error)) from None
    if not statements:
        raise QueryRefused(
            "the query is empty.", hint="Write one SELECT, as: SELECT job, count(*) FROM runs GROUP BY job"
        )
    if len(statements) > 1:
        raise QueryRefused(f"these are {len(statements)} statements.", hint="Give one SELECT at a time.")
    kind = statements[0].type.name
    if kind != "SELECT":
        word = select.split(maxsplit=1)[0].upper()
        hint = "Only one SELECT is run here: it can neither write, nor change settings, nor reach files or network."
        if word == "PIVOT":
            hint = "Name the columns of the PIVOT: PIVOT … ON severity IN ('HIGH', 'LOW') USING count(*)."
        raise QueryRefused(f"this is {_article(word)} {word} statement, not a SELECT.", hint=hint)


def run(
    cursor: duckdb.DuckDBPyConnection,
    select: str,
    fetch: Callable[[duckdb.DuckDBPyConnection], Answer],
    *,
    timeout_s: float | None = None,
) -> Answer:
    """Locks the cursor's DuckDB for good and runs the SELECT there. Raises QueryRefused, with DuckDB's own words.

    An interrupt (Ctrl-C) ends it at once; after `timeout_s` it is ended and refused.
    """
    for statement in _LOCKS:
        cursor.execute(statement)
    _check_reach(cursor, select)
    return _interruptible(cursor, lambda: fetch(cursor.execute(select)), timeout_s)


def _check_reach(cursor: duckdb.DuckDBPyConnection, select: str) -> None:
    found = cursor.execute("SELECT json_serialize_sql($select::VARCHAR)", {"select": select}).fetchone()
    tree = json.loads(found[0]) if found else {"error": True}
    if tree.get("error"):
        raise QueryRefused(f"the query is not understood: {tree.get('error_message', 'no reason given')}.")
    for node in _nodes(tree):
        if node.get("type") == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in _TABLE_FUNCTIONS:
                raise QueryRefused(
                    f"{name}() is refused: the query may read the tables and nothing else.",
                    hint=f"Tables: {', '.join(VIEWS)}. Functions: {', '.join(sorted(_TABLE_FUNCTIONS))}.",
                )
        elif node.get("type") == "BASE_TABLE":
            _check_table(node)


def _check_table(node: dict[str, Any]) -> None:
    name = str(node.get("table_name", ""))
    if "/" in name or "." in name or "\\" in name:
        raise QueryRefused(f"'{name}' is refused: it is a file, not a table.", hint=f"Tables: {', '.join(VIEWS)}.")
    if node.get("schema_name", "") not in _SCHEMAS or node.get("catalog_name", "") not in ("", "memory"):
        raise QueryRefused(
            f"'{node.get('schema_name')}.{name}' is refused: it is not one of the documented tables.",
            hint=did_you_mean(name, VIEWS) or f"Tables: {', '.join(VIEWS)}.",
        )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _interruptible(cursor: duckdb.DuckDBPyConnection, work: Callable[[], Answer], timeout_s: float | None) -> Answer:
    """On a thread of its own: in a long query DuckDB looks for Ctrl-C only when it is over."""
    done = threading.Event()
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def answer() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # handed to the caller below, whatever it is
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=answer, name="backup-ops-sql", daemon=True)
    thread.start()
    try:
        is_in_time = done.wait(timeout_s)
    except BaseException:
        cursor.interrupt()
        thread.join()
        raise
    if not is_in_time:
        cursor.interrupt()
    thread.join()
    if not errors:
        return answers[0]
    if isinstance(errors[0], duckdb.InterruptException):
        raise QueryRefused(f"the query took longer than {timeout_s:g} s and was ended.", hint="Ask for less.") from None
    raise errors[0]


def _article(word: str) -> str:
    return "an" if word[:1] in "AEIOU" else "a"
