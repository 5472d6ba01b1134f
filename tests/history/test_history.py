"""What is told is seen at once; runs, resolutions and snapshots are folded into what is true of them now."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from told import NOON, Told, line_of

from backup_ops.event import new_event_id
from backup_ops.history import History
from backup_ops.home import Home


@pytest.fixture(params=["tail", "index"])
def settle(request, told):
    """Looks at everything out of the journals' tails, or folds it in first: the answers are the same."""
    return (lambda: None) if request.param == "tail" else (lambda: told.history.ingest(force=True))


def test_own_writes_are_seen_at_once_before_and_after_an_ingest(told):
    for number in range(5):
        told.event("tick", number=number)
        assert len(told.history.sql_rows("SELECT * FROM events")[1]) == number + 1
        with told.history.reading() as cursor:
            assert cursor.execute("SELECT count(*) FROM events").fetchone() == (number + 1,)
        if number % 2:
            assert told.history.ingest(force=True)


def test_run_goes_from_queued_to_running_to_its_outcome(told, settle):
    states = []
    for kind in ("run_queued", "run_started", "run_finished"):
        told.run(kind, run_id="r", outcome="warning", reason=kind)
        settle()
        (row,) = told.history.rows("runs")
        states.append((row["outcome"], row["reason"]))
    assert states == [("queued", "run_queued"), ("running", "run_started"), ("warning", "run_finished")]


def test_final_row_stays_whatever_open_rows_come_later(told, settle):
    told.run(run_id="r", outcome="succeeded", at=NOON)
    settle()
    told.run("run_started", run_id="r", at=NOON + timedelta(hours=1))
    settle()
    assert told.history.rows("runs")[0]["outcome"] == "succeeded"


@pytest.mark.parametrize("truth_first", [False, True])
def test_lost_is_replaced_by_the_truth_and_never_replaces_it(told, settle, truth_first):
    outcomes = ["succeeded", "lost"] if truth_first else ["lost", "succeeded"]
    for hour, outcome in enumerate(outcomes):
        told.run(run_id="r", outcome=outcome, at=NOON + timedelta(hours=hour))
        settle()
        assert told.history.rows("runs")[0]["outcome"] == ("succeeded" if truth_first else outcome)


def test_of_two_final_rows_the_later_one_counts(told, settle):
    told.run(run_id="r", outcome="interrupted", at=NOON)
    settle()
    told.run(run_id="r", outcome="succeeded", reason="recovered", at=NOON + timedelta(minutes=1))
    settle()
    assert [(row["outcome"], row["reason"]) for row in told.history.rows("runs")] == [("succeeded", "recovered")]


def test_error_is_resolved_and_opened_again(told, settle):
    error_id = told.error()
    seen = []
    for resolved in (True, False, True):
        told.event("error_resolved", error_id=error_id, resolved=resolved, resolved_by="ann", resolution_note="n")
        settle()
        row = told.history.rows("errors")[0]
        seen.append((row["resolved"], row["resolved_by"], row["resolved_at"] is not None))
    assert seen == [(True, "ann", True), (False, None, False), (True, "ann", True)]


def test_resolution_may_arrive_before_its_error(told, settle):
    event_id = new_event_id(NOON)
    told.event("error_resolved", error_id=event_id, resolved_by="ann")
    settle()
    fields = {"severity": "LOW", "error_type": "t", "message": "m"}
    told.garbage(line_of("error_recorded", fields, event_id=event_id))
    settle()
    assert told.history.rows("errors")[0]["resolved"] is True


def test_resolved_pattern_covers_the_errors_until_then_and_a_later_word_on_one_error_wins(told, settle):
    first = told.error("old", fingerprint="f", at=NOON)
    told.error("old too", fingerprint="f", at=NOON + timedelta(minutes=1))
    told.event("error_resolved", fingerprint="f", resolved_by="ann", at=NOON + timedelta(hours=1))
    told.error("new", fingerprint="f", at=NOON + timedelta(hours=2))
    told.error("other", fingerprint="g", at=NOON)
    settle()
    assert {row["message"] for row in told.history.rows("errors", unresolved=True)} == {"new", "other"}
    told.event("error_resolved", error_id=first, resolved=False, at=NOON + timedelta(hours=3))
    settle()
    assert {row["message"] for row in told.history.rows("errors", unresolved=True)} == {"old", "new", "other"}
    told.event("error_resolved", fingerprint="f", at=NOON + timedelta(hours=4))
    settle()
    assert {row["message"] for row in told.history.rows("errors", unresolved=True)} == {"other"}


def test_snapshot_gets_its_later_facts(told, settle):
    told.event("snapshot_created", snapshot_id="s", job="photos", files=3, bytes=9, at=NOON)
    settle()
    told.event("snapshot_kept", snapshot_id="s", kept_because="daily", at=NOON + timedelta(hours=1))
    settle()
    told.event("snapshot_pruned", snapshot_id="s", at=NOON + timedelta(hours=2))
    settle()
    (row,) = told.history.rows("snapshots")
    assert (row["job"], row["files"], row["bytes"], row["created_at"]) == ("photos", 3, 9, NOON)
    assert (row["kept_because"], row["pruned_at"]) == ("daily", NOON + timedelta(hours=2))


def test_drills_and_anomalies_have_rows(told, settle):
    told.event("drill_finished", drill_id="d", job="photos", mismatches=0, outcome="succeeded")
    told.event("anomaly_detected", anomaly_id="a", job="photos", observed=1, expected=2.5, at=NOON)
    settle()
    told.event("anomaly_closed", anomaly_id="a")
    settle()
    with told.history.reading() as cursor:
        assert cursor.execute("SELECT drill_id, mismatches, outcome FROM drills").fetchall() == [("d", 0, "succeeded")]
        found = cursor.execute("SELECT anomaly_id, observed, expected, state, detected_at FROM anomalies").fetchall()
    assert found == [("a", 1.0, 2.5, "closed", NOON.replace(tzinfo=None))]


def test_the_same_line_in_two_journals_is_one_fact(told, settle):
    lines = [line_of("tick", {"number": number}) for number in range(3)]
    told.garbage(*lines)
    settle()
    told.garbage(*lines)
    settle()
    assert len(told.history.sql_rows("SELECT * FROM events")[1]) == 3
    assert told.history.sql_rows("SELECT * FROM rejected")[1] == []


def test_another_event_with_a_known_id_is_rejected_not_dropped(told, settle):
    event_id = new_event_id(NOON)
    told.garbage(*(line_of("tick", {"number": n}, event_id=event_id) for n in (1, 2)), name="a.jsonl")
    settle()
    fields = {"severity": "LOW", "error_type": "t", "message": "m"}
    told.garbage(line_of("error_recorded", fields, event_id=event_id), name="b.jsonl")
    settle()
    assert told.history.sql_rows("SELECT data->>'number' FROM events")[1] == [("1",)]
    assert told.history.sql_rows("SELECT file, reason FROM rejected ORDER BY file")[1] == [
        ("a.jsonl", "its id is that of another event"),
        ("b.jsonl", "its id is that of another event"),
    ]


def test_rejected_lines_are_told_once_with_count_reason_and_journal(told):
    told.history.ingest(force=True)
    name = told.garbage(b"first", b"second")
    assert len(told.history.sql_rows("SELECT * FROM rejected")[1]) == 2
    assert told.rejected == []  # only an ingest tells: every reader would tell again
    assert told.history.ingest(force=True)
    assert told.history.ingest(force=True)
    assert told.rejected == [(2, "does not begin with a checksum", name)]


def test_rejected_line_is_found_in_its_journal(told):
    name = told.garbage(b"\xffbad", b"ok?", name="odd.jsonl")
    rows = told.history.sql_rows('SELECT file, "offset", line FROM rejected ORDER BY 2')[1]
    assert rows == [(name, 0, "\\xffbad"), (name, 5, "ok?")]


@pytest.mark.parametrize("how", ["truncated", "rewritten", "deleted"])
def test_journal_that_was_tampered_with_loses_and_doubles_nothing_that_is_folded_in(told, how):
    path = told.home.journal / told.garbage(*(line_of("tick", {"number": number}) for number in range(10)))
    assert told.history.ingest(force=True)
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "truncated":
        path.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    elif how == "rewritten":
        path.write_bytes(b"".join(reversed(lines)) + line_of("tick", {"number": 10}) + b"\n")
    else:
        path.unlink()
    for _ in range(2):
        numbers = told.history.sql_rows("SELECT (data->>'number')::INT FROM events ORDER BY 1")[1]
        assert [number for (number,) in numbers] == list(range(11 if how == "rewritten" else 10))
        assert told.history.ingest(force=True)


def test_ingest_leaves_others_a_second_unless_forced(told):
    told.history.ingest(force=True)
    os.utime(told.home.locks / "ingest.lock", (0, 0))
    told.event("tick")
    assert told.history.ingest() is True
    told.event("tick")
    assert told.history.ingest() is False
    assert told.another().ingest() is False
    assert told.history.ingest(force=True) is True


def count_in_index(history) -> int:
    with history.reading() as cursor:
        return cursor.execute("SELECT count(*) FROM h.events").fetchone()[0]


@pytest.mark.parametrize("ask", [lambda history: history.rows("runs"), lambda history: history.sql("SELECT 1")])
def test_large_tail_is_folded_in_by_whoever_reads_it(told, ask):
    told.history.ingest(force=True)
    os.utime(told.home.locks / "ingest.lock", (0, 0))
    told.event("tick", text="x" * 100_000)
    ask(told.history)
    assert count_in_index(told.history) == 0
    told.event("tick", text="x" * 300_000)
    ask(told.history)
    assert count_in_index(told.history) == 2


def test_old_tail_is_folded_in_by_whoever_reads_it(told, monkeypatch):
    told.history.ingest(force=True)
    os.utime(told.home.locks / "ingest.lock", (0, 0))
    told.event("tick")
    told.history.rows("runs")
    assert count_in_index(told.history) == 0
    monkeypatch.setattr("backup_ops.history.upkeep.FOLD_AFTER_S", -1.0)
    told.history.rows("runs")
    assert count_in_index(told.history) == 1


def test_long_backlog_is_folded_in_before_it_is_read(told, monkeypatch):
    told.history.rows("runs")
    monkeypatch.setattr("backup_ops.history.reading.BACKLOG_BYTES", 10_000)
    monkeypatch.setattr("backup_ops.history.ingest.BATCH_BYTES", 20_000)
    os.utime(told.home.locks / "ingest.lock", (0, 0))
    for _ in range(1000):
        told.event("tick")
    with told.another().reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM events").fetchone() == (1000,)
        assert cursor.execute("SELECT count(*) FROM h.events").fetchone() == (1000,)


def test_closed_history_opens_again(told):
    told.event("tick")
    told.history.rows("runs")
    told.history.close()
    told.history.close()
    assert len(told.history.sql_rows("SELECT * FROM events")[1]) == 1


def test_many_threads_read_at_once_while_others_write(told):
    errors = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                before = told.event("tick")
                with told.history.reading() as cursor:
                    found = cursor.execute(
                        "SELECT count(*) FROM events WHERE event_id = $id", {"id": before}
                    ).fetchone()
                assert found == (1,)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        told.history.ingest(force=True)
        done.wait(0.1)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_long_reader_does_not_stop_other_threads(told):
    told.event("tick")
    with told.history.reading() as cursor:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(told.history.rows("job_cards")))
        thread.start()
        thread.join(10)
        assert answers == [[]]
        assert cursor.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_result_kept_beyond_its_block_does_no_harm(told):
    told.event("tick")
    told.history.ingest(force=True)
    with told.history.reading() as cursor:
        kept = cursor.sql("SELECT * FROM events")
        half_read = cursor.execute("SELECT * FROM events")
    told.event("tick")
    assert len(told.history.sql_rows("SELECT * FROM events")[1]) == 2
    assert len(told.history.rows("runs")) == 0
    told.history.ingest(force=True)
    del kept, half_read
    assert told.history.ingest(force=True) is True
    assert len(told.history.sql_rows("SELECT * FROM events")[1]) == 2


def test_instance_that_fails_is_replaced_by_the_next_read(told):
    told.event("tick")
    told.history.rows("runs")
    told.history._attachment._instance.close()
    assert count_in_index(told.history) == 1
    told.event("tick")
    with told.history.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM events").fetchone() == (2,)


def _in_child(told, queue) -> None:
    told.event("tick", who="child")
    queue.put(told.history.sql_rows("SELECT data->>'who' FROM events ORDER BY 1")[1])
    queue.put(told.history.ingest(force=True))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("while_reading", [False, True])
def test_forked_child_reads_and_writes_on_its_own(told, while_reading):
    told.event("tick", who="parent")
    told.history.ingest(force=True)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(told, queue))
    with contextlib.ExitStack() as stack:
        if while_reading:
            cursor = stack.enter_context(told.history.reading())
        child.start()
        assert queue.get(timeout=30) == [("child",), ("parent",)]
        if while_reading:
            assert cursor.execute("SELECT count(*) FROM events").fetchone() == (1,)
    # DuckDB in the child believes for ever that what was attached at the fork is attached there: it reads, others fold.
    assert queue.get(timeout=30) is not while_reading
    child.join(30)
    assert child.exitcode == 0
    assert told.history.ingest(force=True)
    assert len(told.history.sql_rows("SELECT * FROM events")[1]) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_does_not_hold_its_parents_locks(told):
    told.event("tick")
    told.history.rows("runs")
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    with told.history.reading():
        child = context.Process(target=stop.wait)
        child.start()
    try:
        assert told.history.ingest(force=True) is True
    finally:
        stop.set()
        child.join(30)


def test_home_that_is_not_there_is_empty_and_stays_so(tmp_path):
    home = Home(tmp_path / "none")
    history = History(home)
    assert history.rows("runs") == [] and history.ingest(force=True) is False
    assert not home.path.exists()


def test_history_from_a_new_process_knows_everything(told, home):
    told.seed()
    assert Told(home).history.rows("runs") == told.history.rows("runs")


def test_questions_while_another_thread_loads_pandas(tmp_path):
    """DuckDB looks whether numpy and pandas are there, and would take what is only half loaded."""
    script = """
import sys, threading, time
import backup_ops as bo
ops = bo.open(sys.argv[1])
ops.record_error("x", severity="LOW")
failures, is_over = [], threading.Event()
def ask():
    while not is_over.is_set():
        try:
            ops.manager.history.rows("errors", severity="LOW")
        except Exception as error:
            failures.append(repr(error))
threads = [threading.Thread(target=ask) for _ in range(3)]
for thread in threads: thread.start()
import pandas
is_over.set()
for thread in threads: thread.join()
print(failures)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
