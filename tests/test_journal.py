"""Acknowledged means written: whole lines, whoever dies, truncates, deletes, forks or runs out of space."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from backup_ops import lock
from backup_ops.errors import JournalFull
from backup_ops.journal import Journal, read_events


def kinds(path):
    return [fields["kind"] for fields in read_events(path)]


def test_appended_events_come_back_in_order(tmp_path):
    journal = Journal(tmp_path)
    ids = [journal.append("noted", {"n": number}) for number in range(20)]
    assert [fields["id"] for fields in read_events(journal.path)] == ids
    journal.close()


def test_named_journal_has_one_writer(tmp_path):
    journal = Journal(tmp_path, name="run-a")
    assert lock.is_held(tmp_path / "run-a.jsonl")
    with pytest.raises(lock.Held):
        Journal(tmp_path, name="run-a")
    journal.close()
    assert not lock.is_held(tmp_path / "run-a.jsonl")
    again = Journal(tmp_path, name="run-a")
    again.append("noted", {})
    again.close()


def test_events_of_threads_never_mix(tmp_path):
    journal = Journal(tmp_path)
    threads = [
        threading.Thread(target=lambda: [journal.append("noted", {"x": "y" * 5000}) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kinds(journal.path)) == 400
    journal.close()


def test_line_torn_by_a_dead_writer_costs_only_itself(tmp_path):
    first = Journal(tmp_path, name="run-a")
    first.append("before", {})
    first.close()
    with (tmp_path / "run-a.jsonl").open("ab") as file:
        file.write(b'{"crc":"12345678","v":1,"torn')
    second = Journal(tmp_path, name="run-a")
    second.append("after", {})
    second.close()
    assert kinds(tmp_path / "run-a.jsonl") == ["before", "after"]


def test_truncated_under_its_writer_loses_no_later_event(tmp_path):
    journal = Journal(tmp_path)
    journal.append("first", {"x": "y" * 100})
    os.truncate(journal.path, 40)
    journal.append("second", {})
    journal.append("third", {})
    assert kinds(journal.path) == ["second", "third"]
    journal.close()


def test_deleted_under_its_writer_a_new_file_is_begun(tmp_path):
    journal = Journal(tmp_path)
    journal.append("first", {})
    journal.path.unlink()
    journal.append("second", {})
    assert kinds(journal.path) == ["second"]
    journal.close()


def test_child_of_a_fork_writes_a_file_of_its_own(tmp_path):
    script = """
import os, sys
from pathlib import Path
from backup_ops.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.append("parent", {})
child = os.fork()
journal.append("child" if child == 0 else "parent_again", {})
if child == 0: os._exit(0)
os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=30)
    found = sorted(kinds(path) for path in tmp_path.iterdir())
    assert found == [["child"], ["parent", "parent_again"]]


def test_full_disk_is_said_and_nothing_half_written_counts(tmp_path):
    # A file size limit refuses the write the way a full disk does, in part.
    script = """
import resource, signal, sys
from pathlib import Path
from backup_ops.errors import JournalFull
from backup_ops.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), name="run-a")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
written = 0
try:
    while True:
        journal.append("noted", {"x": "y" * 300}); written += 1
except JournalFull as error:
    print(written, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append("after", {})
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, timeout=30, capture_output=True, text=True
    )
    written, sentence = done.stdout.split(" ", 1)
    assert "could not be written to" in sentence and "Free space" in sentence
    found = kinds(tmp_path / "run-a.jsonl")
    assert found == ["noted"] * int(written) + ["after"]


def test_acknowledged_before_kill_is_there_after(tmp_path):
    script = """
import sys
from pathlib import Path
from backup_ops.journal import Journal
journal = Journal(Path(sys.argv[1]), name="run-a")
number = 0
while True:
    journal.append("noted", {"n": number}); print(number, flush=True); number += 1
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    time.sleep(0.6)
    process.send_signal(signal.SIGKILL)
    with process.stdout:
        acknowledged = process.stdout.read().split()
    process.wait()
    numbers = [fields["n"] for fields in read_events(tmp_path / "run-a.jsonl")]
    assert len(acknowledged) > 100
    assert numbers[: len(acknowledged)] == [int(number) for number in acknowledged]
    assert not lock.is_held(tmp_path / "run-a.jsonl")


def test_a_look_at_its_lock_keeps_nobody_from_beginning_a_journal(tmp_path):
    done = threading.Event()

    def look():
        while not done.is_set():
            for path in tmp_path.glob("*.jsonl"):
                lock.is_held(path)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for number in range(300):
            journal = Journal(tmp_path)
            journal.append("noted", {"n": number})
            journal.close()
            journal.path.unlink()
    finally:
        done.set()
        looker.join()


def test_unwritable_folder_is_an_error_with_a_remedy(tmp_path):
    journal = Journal(tmp_path / "gone")
    with pytest.raises(JournalFull, match="could not be written"):
        journal.append("noted", {})
