"""A foreign program that has history.duckdb open: nobody fails, its process is named, and it heals when it ends."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from told import EVENTS, events

from backup_ops.errors import HistoryBusy

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def foreigner(path, *, read_only):
    """A program with a connection of its own, and what it says it sees when it is told to look."""
    script = f"""
import duckdb, sys
connection = duckdb.connect({str(path)!r}, read_only={read_only})
print("held", flush=True)
for _ in sys.stdin:
    print(connection.execute("SELECT count(*) FROM errors").fetchone()[0], flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_foreign_program_disturbs_no_shell_and_is_not_disturbed(filled, read_only):
    home = filled.home
    shell = [sys.executable, "-m", "backup_ops", "--home", str(home.path), "errors", "--json"]
    with foreigner(home.history, read_only=read_only) as other:
        filled.error()
        for _ in range(2):
            done = subprocess.run(shell, capture_output=True, text=True, check=False, cwd=ROOT)
            assert done.returncode == 0 and len(json.loads(done.stdout)) == EVENTS + 1, done.stderr
        other.stdin.write("look\n")
        other.stdin.flush()
        assert other.stdout.readline() == f"{EVENTS - 1}\n"  # what was folded in when it came
    done = subprocess.run(shell, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0 and len(json.loads(done.stdout)) == EVENTS + 1
    history = filled.another()
    assert history.ingest(force=True) is True and events(history) == EVENTS + 1
    history.close()
    filled.journal.close()
    assert filled.rebuilt == [] and not list(home.path.glob("history.broken-*"))


def test_foreign_writer_is_named_with_its_pid_and_heals_when_it_ends(filled, monkeypatch):
    monkeypatch.setattr("backup_ops.history.reading.STAND_IN_BYTES", 10)  # as journals of 65 MB would be
    history = filled.another()
    with foreigner(filled.home.history, read_only=False) as other:
        for _ in range(2):
            begin = time.monotonic()
            with pytest.raises(HistoryBusy) as caught:
                events(history)
            assert time.monotonic() - begin < 5
            assert f"is held open by process {other.pid} (python" in str(caught.value)
            assert caught.value.exit_code == 75
        filled.error()
    assert events(history) == EVENTS + 1
    assert history.ingest(force=True) is True
    history.close()
    filled.journal.close()
