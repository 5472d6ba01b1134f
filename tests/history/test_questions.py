"""The named questions, on an empty and on a seeded history."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from told import NOON

from backup_ops.errors import UsageError
from backup_ops.history import question
from backup_ops.run import RUN_COLUMNS, Run


@pytest.mark.parametrize("name", question.names())
def test_every_question_runs_on_an_empty_and_on_a_seeded_history(told, name):
    assert all(row["errors"] == 0 for row in told.history.rows(name))
    frame = told.history.frame(name)
    told.seed()
    rows = told.history.rows(name)
    assert rows and list(rows[0]) == list(frame.columns)
    assert len(told.history.frame(name)) == len(rows)


@pytest.mark.parametrize("name", question.names())
def test_every_filter_of_every_question_is_understood(told, name):
    told.seed()
    asked = question.find(name)
    everything = told.history.rows(name)
    for parameter in asked.parameters:
        value = {"since": NOON - timedelta(days=400), "until": NOON + timedelta(days=1), "limit": 1000,
                 "unresolved": False, "now": NOON}.get(parameter, "nothing-is-called-so")  # fmt: skip
        found = told.history.rows(name, **{parameter: value})
        if isinstance(value, str):
            assert found == [] or all(row["errors"] == 0 for row in found), parameter
        elif parameter != "now":
            assert found == everything, parameter


def test_unknown_question_and_unknown_filter_are_named(told):
    with pytest.raises(UsageError, match=r"there is no question 'run'\. Did you mean 'runs'\?"):
        told.history.rows("run")
    with pytest.raises(UsageError, match=r"'runs' cannot be filtered by 'outcom'\. Did you mean 'outcome'\?"):
        told.history.rows("runs", outcom="failed")
    for limit in (-1, "5"):
        with pytest.raises(UsageError, match="is no number of rows"):
            told.history.rows("runs", limit=limit)


def test_runs_are_newest_first_and_filtered(told):
    told.seed()
    runs = told.history.rows("runs")
    assert len(runs) == 60 and [row["started_at"] for row in runs] == sorted(
        (row["started_at"] for row in runs), reverse=True
    )
    assert list(runs[0]) == list(RUN_COLUMNS)
    assert Run(**runs[0]).started_at.tzinfo is UTC
    assert [row["run_id"] for row in told.history.rows("runs", limit=3)] == [row["run_id"] for row in runs[:3]]
    assert {row["job"] for row in told.history.rows("runs", job="mail")} == {"mail"}
    assert len(told.history.rows("runs", job=["mail", "photos"])) == 60
    assert len(told.history.rows("runs", outcome="failed")) == 5
    assert [row["run_id"] for row in told.history.rows("runs", run_id=runs[7]["run_id"])] == [runs[7]["run_id"]]
    assert len(told.history.rows("runs", run_id_prefix=runs[0]["run_id"][:8])) == 2
    assert told.history.rows("runs", since=NOON - timedelta(days=1), limit=0) == []


def test_window_includes_its_beginning_and_not_its_end_in_any_zone(told):
    told.seed()
    berlin = timezone(timedelta(hours=1))
    since = datetime(2026, 1, 20, 13, tzinfo=berlin)
    found = told.history.rows("runs", job="photos", since=since, until=NOON - timedelta(days=2))
    assert [row["started_at"] for row in found] == [NOON - timedelta(days=3), NOON - timedelta(days=4)]
    plain = {"since": since.astimezone(UTC).replace(tzinfo=None), "until": datetime.fromisoformat("2026-01-22T12:00")}
    assert told.history.rows("runs", job="photos", **plain) == found


def test_errors_are_filtered_and_unresolved_ones_found(told):
    told.seed()
    errors = told.history.rows("errors")
    assert len(errors) == 5
    assert [row["occurred_at"] for row in errors] == sorted((row["occurred_at"] for row in errors), reverse=True)
    resolved = [row for row in errors if row["resolved"]]
    assert [(row["resolved_by"], row["resolution_note"], row["resolved_at"]) for row in resolved] == [
        ("ann", "cable", NOON)
    ]
    assert len(told.history.rows("errors", unresolved=True)) == 4
    for filters, count in [
        ({"severity": "HIGH"}, 5),
        ({"severity": ["LOW", "HIGH"]}, 5),
        ({"severity": "LOW"}, 0),
        ({"component": "storage", "job": "mail"}, 5),
        ({"error_type": "network_error"}, 5),
        ({"error_id": errors[2]["error_id"]}, 1),
        ({"run_id": errors[2]["run_id"]}, 1),
        ({"since": NOON - timedelta(days=10)}, 2),
    ]:
        assert len(told.history.rows("errors", **filters)) == count, filters


def test_severity_breakdown_is_worst_first(told):
    for severity in ("LOW", "CRITICAL", "odd", "HIGH", "MEDIUM", "HIGH"):
        told.error(severity=severity)
    rows = told.history.rows("severity_breakdown")
    assert [(row["severity"], row["errors"]) for row in rows] == [
        ("CRITICAL", 1), ("HIGH", 2), ("MEDIUM", 1), ("LOW", 1), ("odd", 1),
    ]  # fmt: skip


def test_error_statistics_count_totals_severities_components_and_the_last_day(told):
    told.error(severity="LOW", component="ui", at=NOON - timedelta(days=3))
    told.error(severity="HIGH", component="ui", at=NOON - timedelta(hours=1))
    last = told.error(severity="HIGH", component="engine", at=NOON - timedelta(hours=2))
    told.event("error_resolved", error_id=last)
    rows = told.history.rows("error_statistics", now=NOON)
    assert [(row["scope"], row["name"], row["errors"], row["unresolved"], row["last_24h"]) for row in rows] == [
        ("total", "all", 3, 2, 2),
        ("severity", "HIGH", 2, 1, 2),
        ("severity", "LOW", 1, 1, 0),
        ("component", "ui", 2, 2, 1),
        ("component", "engine", 1, 0, 1),
    ]


def test_job_card_knows_last_run_usual_duration_sizes_and_errors(told):
    told.seed()
    cards = {row["job_uid"]: row for row in told.history.rows("job_cards")}
    assert set(cards) == {"photos", "mail"}
    photos = cards["photos"]
    last = told.history.rows("runs", job="photos", limit=1)[0]
    for name in ("run_id", "job", "outcome", "started_at", "finished_at", "duration_s", "bytes_total", "snapshot_id"):
        assert photos[name] == last[name]
    assert photos["usual_duration_s"] == 60 + 19.5  # the median of days 10 to 29
    assert photos["sizes"] == [1000 + day for day in range(30)]
    assert photos["last_good_at"] == last["finished_at"]
    assert (photos["errors_unresolved"], photos["error_type"]) == (0, None)
    mail = cards["mail"]
    assert mail["errors_unresolved"] == 4
    assert (mail["error_type"], mail["remedy"]) == ("network_error", "Check the host.")
    assert len(mail["sizes"]) == 25


def test_job_card_ignores_runs_under_way_and_skipped_ones_count_as_last(told):
    told.run(run_id="r1", outcome="succeeded", started_at=NOON, finished_at=NOON, bytes_total=7, duration_s=1)
    told.run("run_started", run_id="r2", queued_at=NOON + timedelta(hours=1), started_at=NOON + timedelta(hours=1))
    (card,) = told.history.rows("job_cards")
    assert (card["run_id"], card["outcome"]) == ("r1", "succeeded")
    told.run(run_id="r3", outcome="skipped", reason="already running", finished_at=NOON + timedelta(hours=2))
    (card,) = told.history.rows("job_cards")
    assert (card["run_id"], card["outcome"], card["last_good_at"], card["sizes"]) == ("r3", "skipped", NOON, [7])


def test_job_card_shows_the_error_of_the_last_run_before_any_other(told):
    told.error("of the run before", run_id="r1", at=NOON - timedelta(hours=1))
    named = told.error("that decided", run_id="r2", at=NOON)
    told.error("a later one of the same run", run_id="r2", at=NOON + timedelta(minutes=1))
    told.error("of no run", at=NOON + timedelta(minutes=2))
    told.run(run_id="r2", outcome="failed", finished_at=NOON, error_id=named)
    (card,) = told.history.rows("job_cards")
    assert (card["error_message"], card["error_run_id"], card["errors_unresolved"]) == ("that decided", "r2", 4)


def test_renamed_job_keeps_its_card(told):
    told.run(run_id="r1", outcome="succeeded", job="fotos", job_uid="u1", finished_at=NOON, bytes_total=1)
    told.run(
        run_id="r2", outcome="succeeded", job="photos", job_uid="u1", finished_at=NOON + timedelta(1), bytes_total=2
    )
    (card,) = told.history.rows("job_cards")
    assert (card["job_uid"], card["job"], card["sizes"]) == ("u1", "photos", [1, 2])
