"""An index that does not hold a segment: it is complete all the same, learns it, and never claims what it lacks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from test_compaction import ended, flip, names

import backup_ops as bo
from backup_ops import lock
from backup_ops.errors import HistoryBusy
from backup_ops.history import holdings, ledger, segments
from backup_ops.history.compaction import compact

KILLED_AT = """
import os, signal, sys
import backup_ops as bo
from backup_ops.history import holdings, rebuild
rebuild.reached = holdings.reached = lambda stage: stage == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL)
with bo.open(sys.argv[1]) as ops:
    ops.manager.history.ingest(force=True)
"""
HOLD = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print(flush=True); time.sleep(60)"


def ticks(history) -> int:
    return history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1][0][0]


def put_back_older(told, events=5, parts=1):
    """An index that was copied before segments were made."""
    told.event("before")
    told.history.ingest(force=True)
    told.history.close()
    older = told.home.history.read_bytes()
    for _ in range(parts):
        ended(told.home, events)
        told.history.compact(everything=True)
    told.history.close()
    told.home.history.write_bytes(older)


@pytest.fixture
def held_open(told):
    """A foreign program that has the index open for writing."""

    def hold():
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(told.home.history)], stdout=subprocess.PIPE)
        holders.append(process)
        process.stdout.readline()
        return process

    holders = []
    yield hold
    for process in holders:
        process.kill()
        process.wait()
        process.stdout.close()


def test_answer_is_complete_although_nobody_can_fold_it_in(told):
    put_back_older(told)
    with lock.hold(told.home.locks / "ingest.lock"):
        begin = time.monotonic()
        assert ticks(told.another()) == 5
        assert time.monotonic() - begin < 4
    assert ticks(told.another()) == 5
    assert told.history.ingest(force=True) and ticks(told.another()) == 5


def test_index_that_lacks_much_is_made_anew_beside(told, monkeypatch):
    monkeypatch.setattr(holdings, "AT_ONCE_BYTES", 1000)
    put_back_older(told, events=300)
    assert ticks(told.another()) == 300
    assert len(told.rebuilt) == 1 and "lacked the events of 1 segments" in told.rebuilt[0]
    assert ticks(told.another()) == 300 and len(told.rebuilt) == 1


def test_compaction_beside_a_long_reader_slows_nobody(told):
    other = told.another()
    for _ in range(5):
        ended(told.home, 3)
    told.history.ingest(force=True)
    with other.reading() as cursor:
        assert told.history.compact(everything=True) == 5
        begin = time.monotonic()
        assert ticks(told.another()) == 15 and ticks(told.history) == 15
        assert time.monotonic() - begin < 3
        assert cursor.execute("SELECT count(*) FROM events WHERE kind = 'tick'").fetchone() == (15,)
    assert ticks(told.another()) == 15


def test_a_reader_waits_for_no_compaction_of_its_process(told, monkeypatch):
    ended(told.home, 3)
    told.history.ingest(force=True)
    begun = threading.Event()

    def slow(*arguments, **more):
        begun.set()
        time.sleep(3)
        return compact(*arguments, **more)

    monkeypatch.setattr("backup_ops.history.upkeep.compact", slow)
    monkeypatch.setattr("backup_ops.history.reading.BACKLOG_BYTES", 10)
    thread = threading.Thread(target=lambda: told.history.compact(everything=True))
    thread.start()
    begun.wait()
    told.event("tick")
    begin = time.monotonic()
    assert ticks(told.history) == 4
    assert time.monotonic() - begin < 2.5
    thread.join()


def test_segment_that_could_not_be_read_for_a_moment_is_not_given_up(told, monkeypatch):
    for _ in range(2):
        ended(told.home, 5)
    told.history.compact(everything=True)
    (name,) = names(told.home)
    whole = segments.is_whole

    def unreadable(folder, segment):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(segments, "is_whole", unreadable)
    assert told.history.rebuild().damaged_segments == (name,)
    assert "cannot be read (Permission denied)" in str(told.lost[0])
    monkeypatch.setattr(segments, "is_whole", whole)
    ended(told.home, 5)
    told.history.compact(everything=True)
    assert ticks(told.another()) == 15 or len(names(told.home)) == 2, "not merged as if the index held it"
    monkeypatch.setattr(holdings, "_UNREADABLE_FOR_S", 1)
    time.sleep(1.1)
    assert ticks(told.another()) == 15
    assert told.history.ingest(force=True)
    told.history.compact(everything=True)
    assert ticks(told.another()) == 15 and len(told.lost) == 1
    assert told.history.rebuild().damaged_segments == () and ticks(told.history) == 15


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_nothing_stands_in_for_an_index_that_alone_knows_a_segment(told, held_open, how):
    ended(told.home, 5)
    told.history.compact(everything=True)
    told.history.close()
    path = told.home.segments / names(told.home)[0]
    good = path.read_bytes()
    path.unlink() if how == "gone" else flip(path, 100)
    holder = held_open()
    with pytest.raises(HistoryBusy, match=rf"held open by process {holder.pid}"):
        told.another().rows("runs")
    path.write_bytes(good)
    assert ticks(told.another()) == 5


def test_no_index_is_put_beside_the_log_of_a_foreign_program(told, held_open):
    told.event("tick")
    told.history.ingest(force=True)
    told.history.close()
    holder = held_open()
    with pytest.raises(HistoryBusy, match=f"process {holder.pid}"):
        told.history.rebuild()
    holder.kill()
    holder.wait()
    assert told.history.rebuild().events == 1
    assert not list(told.home.path.glob("history.new-*"))


def test_journal_that_was_written_anew_to_the_same_size_is_read(told):
    first = told.event("tick", number=1)
    assert told.history.ingest(force=True)
    os.truncate(told.journal.path, 0)
    second = told.event("tick", number=2)
    ids = {i for (i,) in told.history.sql_rows("SELECT event_id FROM events")[1]}
    assert ids == {first, second}
    told.history.ingest(force=True)
    assert {i for (i,) in told.another().sql_rows("SELECT event_id FROM events")[1]} == {first, second}


def test_a_ledger_that_lost_a_merge_misses_nothing(told):
    for _ in range(2):
        ended(told.home, 5)
        told.history.compact(everything=True)
    path = told.home.journal / ledger.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["replaces"], "the last one tells of a merge"
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"segment_sealed", b"segment_seal3d"))
    assert [one.sentence for one in told.history.inspect() if one.subject == "segments" and one.state != "ok"] == []
    assert told.history.rebuild().missing_segments == () and ticks(told.history) == 10


def test_index_that_holds_what_is_gone_is_told_of_without_the_ledger(told):
    ended(told.home, 5)
    told.history.compact(everything=True)
    (told.home.segments / names(told.home)[0]).unlink()
    (told.home.journal / ledger.FILE).unlink()
    (found,) = [one for one in told.history.inspect() if one.state == "problem"]
    assert "it holds the events of segment" in found.sentence and "do not rebuild" in found.hint


def test_segments_that_are_no_folder_are_a_sentence(told):
    ended(told.home, 1)
    told.home.segments.rmdir()
    told.home.segments.write_text("no folder")
    assert any("segments" in one.sentence and one.state == "problem" for one in told.history.inspect())


@pytest.mark.parametrize(
    ("index", "stage"), [("gone", "aside"), ("gone", "told"), ("gone", "swapped"), ("older", "told")]
)
def test_a_lost_segment_is_told_of_whoever_is_killed(told, index, stage):
    put_back_older(told)
    if index == "gone":
        told.home.history.unlink()
    flip(told.home.segments / names(told.home)[0], 100)
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, str(told.home.path), stage], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with bo.open(told.home.path) as ops:
        ops.manager.history.ingest(force=True)
        said = [message for message in ops.errors().message if names(told.home)[0] in message]
        assert 1 <= len(said) <= 2 and "5 events" in said[0]
        assert len(ops.errors()) == len(said), "and nothing else is"


def test_who_rebuilds_while_the_locks_are_swept_away_is_no_stranger(told, monkeypatch):
    """Whoever makes the locks anew rebuilds too, and removes the file of the first."""
    put_back_older(told)
    (told.home.segments / names(told.home)[0]).unlink()
    told.home.history.unlink()
    seen = []

    def reached(stage):
        if stage == "built" and not seen:
            seen.append(stage)
            shutil.rmtree(told.home.locks)
            seen.append(ticks(told.another()))

    monkeypatch.setattr("backup_ops.history.rebuild.reached", reached)
    assert ticks(told.another()) == 0 and seen == ["built", 0]
    assert {one.state for one in told.lost} == {"missing"}
