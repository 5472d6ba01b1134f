"""`status`, `runs`, `errors`, `resolve`, `logs`, `export`, `sql`."""

import csv
import io
import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from backup_ops.run import RUN_COLUMNS
from tests.cli.conftest import Shell

ERROR_COLUMNS = (
    "error_id", "occurred_at", "severity", "component", "error_type", "message", "details", "job", "job_uid", "run_id",
    "engine", "host", "stack_trace", "fingerprint", "rules_version", "transient", "remedy", "resolved", "resolved_at",
    "resolved_by", "resolution_note",
)  # fmt: skip
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def past(past_home):
    """The home that all tests of this module read; those that change it take `own_past`."""
    return past_home


@pytest.fixture
def shell(past_home):
    return Shell(past_home.home)


@pytest.fixture
def own_past(past_home, tmp_path):
    """A copy of the home, to be changed."""
    shutil.copytree(past_home.home, tmp_path / "copy")
    return Shell(tmp_path / "copy")


def test_runs_are_rows_of_the_table_newest_first(shell, past):
    rows = shell.data("runs")
    assert [tuple(row) for row in rows] == [RUN_COLUMNS] * 4
    assert [row["job"] for row in rows] == ["gone", "gone", "photos", "photos"]
    assert [row["started_at"] for row in rows] == sorted((row["started_at"] for row in rows), reverse=True)
    assert all(RFC_3339.fullmatch(row["finished_at"]) for row in rows)


def test_runs_are_filtered(shell, past):
    assert len(shell.data("runs", "--job", "photos")) == 2
    assert {row["outcome"] for row in shell.data("runs", "--outcome", "failed")} == {"failed"}
    assert len(shell.data("runs", "--limit", "3")) == 3
    assert len(shell.data("runs", "--since", "1h")) == 4
    assert shell.data("runs", "--since", (datetime.now(UTC) + timedelta(days=2)).date()) == []
    none = shell("runs", "--job", "photos", "--outcome", "missed")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no run matches.\n")


def test_job_that_nobody_knows_is_a_slip_and_not_an_empty_answer(shell, past):
    slip = shell("errors", "--job", "photo")
    assert (slip.returncode, slip.stdout) == (2, "")
    assert "no job is named 'photo'. Did you mean 'photos'?" in slip.stderr


def test_errors_are_rows_of_the_table_newest_first(shell, past):
    rows = shell.data("errors")
    assert [tuple(row) for row in rows] == [ERROR_COLUMNS] * 2
    assert rows[0]["occurred_at"] > rows[1]["occurred_at"]
    assert {row["error_type"] for row in rows} == {"source_missing"}
    assert len(shell.data("errors", "--severity", "high")) == 2
    assert shell.data("errors", "--severity", "LOW") == []
    assert shell.data("errors", "--job", "photos") == []
    assert len(shell.data("errors", "--component", "engine")) == 2


def test_error_table_says_what_to_do(shell, past):
    lines = shell("errors").stdout.splitlines()
    assert lines[0].split() == ["WHEN", "SEVERITY", "JOB", "TYPE", "ID", "COMPONENT"]
    assert lines[2].startswith(f"    source {past.folder}/gone does not exist. What to do: ")


def test_resolved_errors_carry_the_note_and_are_left_out_of_the_unresolved(own_past):
    first, second = (row["error_id"] for row in own_past.data("errors"))
    short = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]*", own_past("errors").stdout)[0]
    assert first.startswith(short)
    done = own_past("resolve", short, "--note", "disk mounted")
    assert (done.returncode, done.stdout) == (0, "1 error resolved.\n")
    rows = {row["error_id"]: row for row in own_past.data("errors")}
    assert (rows[first]["resolved"], rows[first]["resolution_note"]) == (True, "disk mounted")
    assert [row["error_id"] for row in own_past.data("errors", "--unresolved")] == [second]
    assert "Resolved: disk mounted." in own_past("errors").stdout


def test_one_wrong_id_resolves_nothing(own_past):
    first, second = (row["error_id"] for row in own_past.data("errors"))
    alike = next(place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
    of_both = first[:alike]  # short where a minute of the clock ended between them
    for wrong in ("nonsense", of_both, first[:13] + "-0000", ""):
        done = own_past("resolve", first, wrong)
        assert done.returncode == 2
        assert f"'{wrong}'; nothing was resolved." in done.stderr
    assert len(own_past.data("errors", "--unresolved")) == 2


def test_log_of_a_run_is_printed_by_a_beginning_of_its_id(shell, past):
    run_id = shell.data("runs")[0]["run_id"]
    whole = shell("logs", run_id)
    assert whole.returncode == 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z run ", whole.stdout)
    assert shell("logs", run_id[:-1]).stdout == whole.stdout
    rows = shell.data("logs", run_id)
    assert len(rows) == len(whole.stdout.splitlines())
    assert all(RFC_3339.fullmatch(row["at"]) for row in rows)


def test_log_of_an_unknown_run_is_a_usage_error(shell, past):
    done = shell("logs", "20200101T000000-abcdef")
    assert done.returncode == 2
    assert done.stderr == "backup-ops: no run is named '20200101T000000-abcdef'. `backup-ops runs` lists them.\n"


@pytest.mark.parametrize("what", ["runs", "errors", "snapshots"])
def test_export_gives_the_same_rows_in_every_format(shell, past, tmp_path, what):
    import duckdb

    counts = set()
    for extension in ("csv", "json", "parquet"):
        file = tmp_path / f"{what}.{extension}"
        done = shell("export", what, file)
        assert done.returncode == 0, done.stderr
        counts.add(re.fullmatch(rf"wrote (\d) {what} to {re.escape(str(file))}\n", done.stdout)[1])
    (count,) = counts
    assert len(list(csv.DictReader(io.StringIO((tmp_path / f"{what}.csv").read_text())))) == int(count) > 0
    assert len(json.loads((tmp_path / f"{what}.json").read_text())) == int(count)
    stored = duckdb.connect().execute(f"SELECT count(*) FROM '{tmp_path}/{what}.parquet'").fetchone()
    assert stored == (int(count),)


def test_export_is_filtered_like_the_list(shell, past, tmp_path):
    file = tmp_path / "runs.json"
    shell("export", "runs", file, "--job", "photos", "--limit", "1", "--since", "1h", "--outcome", "succeeded")
    assert [row["run_id"] for row in json.loads(file.read_text())] == [
        shell.data("runs", "--job", "photos")[0]["run_id"]
    ]
    shell("export", "errors", file, "--unresolved", "--severity", "HIGH", "--component", "engine")
    assert len(json.loads(file.read_text())) == 2


def test_export_names_a_filter_that_does_not_fit(shell, past, tmp_path):
    done = shell("export", "runs", tmp_path / "runs.csv", "--severity", "HIGH")
    assert done.returncode == 2
    assert done.stderr == "backup-ops: runs have no --severity. They take: --job, --since, --outcome, --limit.\n"
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize("file", ["runs.xlsx", "runs", "nowhere/runs.csv", "."])
def test_export_to_what_cannot_be_written_leaves_nothing(shell, past, tmp_path, file):
    (tmp_path / "empty").mkdir()
    done = shell("export", "runs", file, cwd=tmp_path / "empty")
    assert done.returncode == 2
    assert done.stderr.startswith("backup-ops: ")
    assert len(done.stderr.splitlines()) == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_sql_answers_as_table_and_as_json(shell, past):
    select = "SELECT job, count(*) AS n, max(finished_at) AS last FROM runs GROUP BY ALL ORDER BY job"
    done = shell("sql", select)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["job", "n"], ["gone", "2"], ["photos", "2"]]
    assert done.stderr == "2 rows.\n"
    rows = shell.data("sql", select)
    assert [(row["job"], row["n"]) for row in rows] == [("gone", 2), ("photos", 2)]
    assert RFC_3339.fullmatch(rows[0]["last"])


def test_sql_columns_of_one_name_stay_apart(shell, past):
    assert list(shell.data("sql", "SELECT 1 AS n, 2 AS n, 3 AS n_2")[0].values()) == [1, 2, 3]


def test_sql_values_that_json_has_no_word_for(shell, past):
    (row,) = shell.data(
        "sql", "SELECT 'nan'::DOUBLE AS a, 1.5::DECIMAL(9,2) AS b, DATE '2026-11-24' AS c, [1, NULL] AS d,"
        " {'x': 1} AS e, 170141183460469231731687303715884105727 AS f, INTERVAL 90 SECOND AS g, 'ab'::BLOB AS h"
    )  # fmt: skip
    assert row == {
        "a": None, "b": 1.5, "c": "2026-11-24", "d": [1, None], "e": {"x": 1},
        "f": 170141183460469231731687303715884105727, "g": 90.0, "h": "ab",
    }  # fmt: skip


def test_status_begins_with_the_verdict_and_names_what_needs_a_person(shell, past):
    done = shell("status")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "1 of 2 jobs is not protected."
    assert lines[1].startswith("gone is failing")
    assert any(line.startswith(f"    source {past.folder}/gone does not exist.") for line in lines)
    status = shell.data("status")
    assert (status["jobs_total"], status["jobs_protected"], status["running"], status["queued"]) == (2, 1, [], [])
    assert [(card["job"], card["state"]) for card in status["jobs"]] == [("photos", "succeeded"), ("gone", "failed")]


def test_status_with_a_broken_file_says_so_and_still_answers(own_past):
    (own_past.home / "jobs.yaml").write_text("version: 1\njobs: [\n")
    done = own_past("status")
    assert done.returncode == 2
    assert done.stdout.startswith("jobs.yaml cannot be used")
    assert done.stderr.startswith("jobs.yaml:")
    assert len(own_past.data("runs")) == 4


def test_empty_history_is_an_empty_answer(filled):
    shell = Shell(filled.home)
    for command in ("runs", "errors"):
        assert shell.data(command) == []
        assert shell(command).returncode == 0
    assert shell("status").stdout.startswith("photos is not protected yet.")


def test_readers_work_on_a_home_whose_jobs_are_gone(own_past):
    (own_past.home / "jobs.yaml").unlink()
    assert len(own_past.data("runs")) == 4
    assert len(own_past.data("errors")) == 2
    assert own_past.data("sql", "SELECT count(*) AS n FROM runs") == [{"n": 4}]
