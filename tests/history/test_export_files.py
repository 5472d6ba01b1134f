"""One export: the same rows in CSV, JSON and Parquet, the target replaced in one step or not at all."""

import csv
import json
import os
from datetime import timedelta

import duckdb
import pytest
from told import NOON

from backup_ops.errors import BackupError, UsageError
from backup_ops.history import export
from backup_ops.history.schema import VIEWS

WHAT = export.EXPORTS


def read(path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        cursor = connection.execute("SELECT COLUMNS(*)::VARCHAR FROM read_parquet($path)", {"path": str(path)})
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize("extension", export.FORMATS)
@pytest.mark.parametrize("what", WHAT)
def test_file_has_the_rows_and_columns_of_the_question(told, tmp_path, what, extension):
    told.seed()
    target = tmp_path / f"x.{extension}"
    count = told.history.export(target, what)
    rows, expected = read(target), told.history.rows(what)
    assert count == len(rows) == len(expected) > 0
    assert list(rows[0]) == list(VIEWS[what])
    key = VIEWS[what][0]
    assert [row[key] for row in rows] == [row[key] for row in expected]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("extension", export.FORMATS)
def test_empty_history_exports_an_empty_table(told, tmp_path, extension):
    target = tmp_path / f"x.{extension}"
    assert told.history.export(target, "errors") == 0
    assert read(target) == []


@pytest.mark.parametrize("extension", export.FORMATS)
def test_same_question_gives_the_same_bytes(told, tmp_path, extension):
    told.seed()
    files = [tmp_path / f"{name}.{extension}" for name in "abc"]
    told.history.export(files[0], "runs", since=NOON - timedelta(days=20))
    told.history.ingest(force=True)
    told.history.export(files[1], "runs", since=NOON - timedelta(days=20))
    told.another().export(str(files[2]), "runs", since=NOON - timedelta(days=20))
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


def test_filters_are_those_of_the_question(told, tmp_path):
    told.seed()
    target = tmp_path / "x.json"
    assert told.history.export(target, "errors", unresolved=True, job="mail", limit=3) == 3
    with pytest.raises(UsageError, match="'errors' cannot be filtered by 'colour'"):
        told.history.export(target, "errors", colour="red")


def test_csv_and_json_give_times_in_rfc_3339_with_microseconds(told, tmp_path):
    told.error(at=NOON + timedelta(microseconds=123))
    for name in ("x.csv", "x.json"):
        told.history.export(tmp_path / name, "errors")
        assert read(tmp_path / name)[0]["occurred_at"] == "2026-01-24T12:00:00.000123Z"
    told.history.export(tmp_path / "x.parquet", "errors")
    assert str(read(tmp_path / "x.parquet")[0]["occurred_at"]) == "2026-01-24 12:00:00.000123+00"


def test_json_is_one_array_with_null_true_and_numbers(told, tmp_path):
    told.run(run_id="r", outcome="succeeded", bytes_total=1 << 60, duration_s=1.5)
    told.error('two\nlines "quoted" é', transient=True)
    told.history.export(tmp_path / "x.json", "runs")
    (row,) = read(tmp_path / "x.json")
    assert (row["bytes_total"], row["duration_s"], row["error_id"]) == (1 << 60, 1.5, None)
    told.history.export(tmp_path / "e.json", "errors")
    (row,) = read(tmp_path / "e.json")
    assert (row["message"], row["transient"], row["resolved"]) == ('two\nlines "quoted" é', True, False)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(told, tmp_path, start):
    message = f"{start}cmd|' /C calc'!A0\nmore"
    told.error(message, details="plain -1")
    told.history.export(tmp_path / "x.csv", "errors")
    (row,) = read(tmp_path / "x.csv")
    assert row["message"] == f"'{message}" and row["details"] == "plain -1"
    told.history.export(tmp_path / "raw.csv", "errors", raw=True)
    assert read(tmp_path / "raw.csv")[0]["message"] == message
    told.history.export(tmp_path / "x.json", "errors")
    assert read(tmp_path / "x.json")[0]["message"] == message


def test_numbers_below_zero_are_no_formulas(told, tmp_path):
    told.run(run_id="r", outcome="failed", exit_code=-9)
    told.history.export(tmp_path / "x.csv", "runs")
    assert read(tmp_path / "x.csv")[0]["exit_code"] == "-9"


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [
        ("x.xls", "errors", "'xls' is no format to export to. End the name in .csv, .json, .parquet."),
        ("x", "errors", "'x' does not say in which format"),
        ("x.csv", "error", "cannot export 'error'. Did you mean 'errors'?"),
        ("x.csv", "job_cards", "cannot export 'job_cards'"),
        ("none/x.csv", "errors", "cannot write .*none/x.csv: No such file or directory"),
        ("folder.csv", "errors", "cannot write .*folder.csv: it is a folder"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(told, tmp_path, name, what, says):
    (tmp_path / "folder.csv").mkdir()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UsageError, match=says):
        told.history.export(tmp_path / name, what)
    assert sorted(os.listdir(tmp_path)) == before


def test_format_may_be_given_beside_any_name(told, tmp_path):
    told.error()
    assert told.history.export(tmp_path / "x.dat", "errors", file_format="CSV") == 1
    assert (tmp_path / "x.dat").read_text(encoding="utf-8").startswith("error_id,occurred_at,")


@pytest.mark.parametrize("name", ["it's.csv", "a b.csv", "ü$x;.csv", "-x.csv", "%d.csv"])
def test_any_file_name_will_do(told, tmp_path, name):
    told.error()
    assert told.history.export(tmp_path / name, "errors") == 1
    assert len(read(tmp_path / name)) == 1


def test_full_disk_keeps_the_old_file(told, small_disk):
    target = small_disk / "x.csv"
    target.write_text("before", encoding="utf-8")
    for _ in range(50):
        told.error("x" * 60_000)
    with pytest.raises(BackupError, match=r"cannot write .*x\.csv"):
        told.history.export(target, "errors")
    assert target.read_text(encoding="utf-8") == "before" and os.listdir(small_disk) == ["x.csv"]


def test_frame_and_file_agree(told, tmp_path):
    told.seed()
    told.history.export(tmp_path / "x.csv", "errors")
    assert [row["error_id"] for row in read(tmp_path / "x.csv")] == told.history.frame("errors")["error_id"].tolist()
