"""Rows and DataFrames keep whole numbers whole, times in UTC and what is missing missing."""

import decimal
from datetime import UTC, datetime

import pandas


def test_frame_has_a_fitting_type_for_each_column(told):
    told.run(run_id="a", outcome="succeeded", bytes_total=9007199254740993, started_at=datetime(2026, 1, 1, tzinfo=UTC))
    told.run(run_id="b", outcome="failed", reason="why")
    told.error(transient=True)
    runs = told.history.frame("runs").set_index("run_id")
    assert str(runs["bytes_total"].dtype) == "Int64"
    assert runs["bytes_total"]["a"] == 9007199254740993 and runs["bytes_total"]["b"] is pandas.NA
    assert str(runs["started_at"].dtype) == "datetime64[us, UTC]"
    assert runs["started_at"]["a"] == pandas.Timestamp("2026-01-01", tz="UTC") and runs["started_at"].isna()["b"]
    assert str(runs["reason"].dtype) == "str" and runs["reason"].isna()["a"]
    assert str(runs["duration_s"].dtype) == "float64"
    errors = told.history.frame("errors")
    assert str(errors["resolved"].dtype) == "bool" and errors["resolved"].tolist() == [False]
    told.error(transient=None)
    assert str(told.history.frame("errors")["transient"].dtype) == "boolean"


def test_empty_frame_has_the_same_types(told):
    empty = told.history.frame("runs")
    told.seed()
    full = told.history.frame("runs")
    assert len(empty) == 0 and list(empty.columns) == list(full.columns)
    assert {name: str(dtype) for name, dtype in empty.dtypes.items()} == {
        name: str(dtype) for name, dtype in full.dtypes.items()
    }


def test_any_type_of_duckdb_comes_through(told):
    select = """SELECT 1::UTINYINT AS a, 18446744073709551615::UBIGINT AS b, 1.5::DECIMAL(5, 2) AS c, [1, 2] AS d,
        {'x': 1} AS e, DATE '2026-01-01' AS f, INTERVAL 1 DAY AS g, 'x'::BLOB AS h, 'a'::ENUM ('a') AS i, NULL AS j,
        TIME '10:00' AS k, 1::HUGEINT AS l, uuid() AS m, MAP {'k': 1} AS n, true AS o"""
    frame = told.history.sql(f"{select} UNION ALL SELECT {', '.join(['NULL'] * 15)}")
    assert len(frame) == 2 and frame["b"][0] == 18446744073709551615
    assert list(frame["d"][0]) == [1, 2] and frame["e"][0] == {"x": 1}
    assert frame["f"][0] == pandas.Timestamp("2026-01-01") and frame["g"][0] == pandas.Timedelta(days=1)
    assert frame["o"].tolist() == [True, pandas.NA]
    (row,) = told.history.sql_rows(select)[1]
    assert row[2] == decimal.Decimal("1.5") and row[3] == [1, 2]


def test_columns_of_one_name_are_kept_apart(told):
    assert list(told.history.sql("SELECT 1 AS a, 2 AS a").columns) == ["a", "a_1"]
    assert told.history.sql_rows("SELECT 1 AS a, 2 AS a") == (["a", "a"], [(1, 2)])
