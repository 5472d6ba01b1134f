"""Others at the file: foreign programs that hold it, stopped ingesters, long readers. Reading goes on."""

import os
import signal
import subprocess
import sys
import threading
import time

import duckdb
import pytest

from backup_ops.errors import HistoryBusy


def events(history) -> int:
    return history.sql_rows("SELECT count(*) FROM events")[1][0][0]


class Foreigner:
    """Another program that holds history.duckdb through plain duckdb.connect()."""

    def __init__(self, path, *, read_only):
        script = f"""
import duckdb, time
connection = duckdb.connect({str(path)!r}, read_only={read_only})
print("held", flush=True)
time.sleep(600)
"""
        self.process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_foreign_writer_stops_no_reader_and_ingest_follows_when_it_is_gone(told):
    told.event("tick")
    assert told.history.ingest(force=True)
    with Foreigner(told.home.history, read_only=False):
        told.event("tick")
        assert events(told.history) == 2
        begin = time.monotonic()
        told.history.rows("runs")
        told.history.rows("runs")
        assert time.monotonic() - begin < 3
        assert told.history.ingest() is False
    assert events(told.history) == 2
    assert told.history.ingest(force=True) is True
    assert events(told.history) == 2


def test_foreign_writer_is_named_when_the_journals_are_too_large_to_stand_in(told, monkeypatch):
    told.event("tick")
    assert told.history.ingest(force=True)
    monkeypatch.setattr("backup_ops.history.reading.STAND_IN_BYTES", 10)
    with Foreigner(told.home.history, read_only=False) as foreigner:
        pid = foreigner.process.pid
        with pytest.raises(HistoryBusy, match=rf"is held open by process {pid} \(python.*\), which is no backup-ops"):
            told.history.rows("runs")
        with pytest.raises(HistoryBusy):
            told.history.sql("SELECT 1")
    assert events(told.history) == 1


def test_foreign_reader_only_delays_the_ingest(told):
    told.event("tick")
    assert told.history.ingest(force=True)
    with Foreigner(told.home.history, read_only=True):
        for number in range(20):
            told.event("tick")
            assert events(told.history) == number + 2
        assert told.history.ingest() is False
    assert told.history.ingest(force=True) is True


@pytest.mark.parametrize("read_only", [True, False])
def test_file_held_by_this_very_process_is_read_all_the_same(told, read_only):
    told.event("tick")
    assert told.history.ingest(force=True)
    with duckdb.connect(str(told.home.history), read_only=read_only):
        told.event("tick")
        assert events(told.history) == 2
        begin = time.monotonic()
        told.history.ingest(force=True)
        assert time.monotonic() - begin < 3
    assert told.history.ingest(force=True) is True
    assert events(told.history) == 2


def test_stopped_ingester_is_waited_for_and_then_done_without(told, tmp_path):
    told.event("tick")
    assert told.history.ingest(force=True)
    script = """
import os, signal, sys
from backup_ops.home import Home
from backup_ops.history import History, ingest
ingest.reached = lambda stage: stage == "inserted" and os.kill(os.getpid(), signal.SIGSTOP)
History(Home(sys.argv[1])).ingest(force=True)
"""
    told.event("tick")
    process = subprocess.Popen([sys.executable, "-c", script, str(told.home.path)])
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        begin = time.monotonic()
        with told.history.reading(wait_s=0.5) as cursor:
            assert cursor.execute("SELECT count(*) FROM events").fetchone() == (2,)
        assert 0.4 < time.monotonic() - begin < 5
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    begin = time.monotonic()
    assert events(told.history) == 2
    assert time.monotonic() - begin < 3
    assert told.history.ingest(force=True) and events(told.history) == 2


def test_long_reader_makes_the_ingest_wait_its_turn(told):
    told.event("tick")
    with told.another().reading() as cursor:
        begin = time.monotonic()
        assert told.history.ingest() in (False, True)
        assert time.monotonic() - begin < 2
        assert cursor.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert told.history.ingest(force=True) is True


def test_steady_readers_do_not_shut_out_the_ingest(told):
    told.history.ingest(force=True)
    told.event("tick")
    done = threading.Event()

    def read(history) -> None:
        while not done.is_set():
            with history.reading():
                done.wait(0.2)

    readers = [threading.Thread(target=read, args=(told.another(),)) for _ in range(5)]
    for number, reader in enumerate(readers):
        reader.start()
        time.sleep(0.03 * number)  # there is always one inside
    try:
        assert told.history.ingest(force=True) is True
    finally:
        done.set()
        for reader in readers:
            reader.join()
