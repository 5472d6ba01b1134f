"""docs/tables.md says what the views are; the views say what the design promised."""

import re
from pathlib import Path

import duckdb
import pytest

from backup_ops.history import question
from backup_ops.history.schema import VIEWS
from backup_ops.run import RUN_COLUMNS

DOCS = Path(__file__).parents[2] / "docs" / "tables.md"


def documented() -> dict[str, list[tuple[str, str]]]:
    tables: dict[str, list[tuple[str, str]]] = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            columns = tables[line[3:]] = []
        elif match := re.match(r"\| (\w+) \| ([A-Z]+) \| \S.* \|$", line):
            columns.append((match[1], match[2]))
    return tables


def test_documented_tables_are_the_views(told):
    with told.history.reading() as cursor:
        views = {name: cursor.execute(f"DESCRIBE {name}").fetchall() for name in VIEWS}
    assert documented() == {name: [(row[0], row[1]) for row in rows] for name, rows in views.items()}


@pytest.mark.parametrize("name", VIEWS)
def test_views_look_the_same_over_an_empty_tail_and_a_folded_index(told, name):
    told.seed()
    with told.history.reading() as cursor:
        before = cursor.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()
    assert told.history.ingest(force=True)
    with told.history.reading() as cursor:
        assert cursor.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() == before
    assert name in ("drills", "anomalies", "notifications", "rejected") or before


def test_runs_have_the_columns_of_a_run():
    assert VIEWS["runs"] == RUN_COLUMNS


def test_only_at_and_offset_need_quotes(told):
    needing = set()
    with told.history.reading() as cursor:
        for view, columns in VIEWS.items():
            for column in columns:
                try:
                    cursor.execute(f"SELECT {column} FROM {view}")
                except duckdb.ParserException:
                    needing.add(column)
    assert needing == {"at", "offset"}


def test_every_question_says_what_a_row_is():
    for name in question.names():
        first, second = question.find(name).sql.splitlines()[:2]
        assert re.fullmatch(r"-- (An?|All) .+\.", first), name
        assert not second.startswith("--"), name
