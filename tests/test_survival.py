"""Every writer outlives what happens to its home: what it acknowledged is there, what not is said, and it heals."""

import contextlib
import os
import shutil
import subprocess
import sys
from datetime import timedelta

import pytest

import backup_ops as bo
from backup_ops import starter
from backup_ops.errors import HomeError, JournalFull
from backup_ops.home import Home
from backup_ops.journal import Journal, read_events
from backup_ops.queue import Queue
from tests.cli.conftest import Shell, listing
from tests.conftest import SCALE, wait_until
from tests.history.told import NOON
from tests.test_hardship import in_a_process, unstarted
from tests.test_runs import is_running, slow


def messages(ops):
    return sorted(ops.errors().message)


def mount(*words):
    """Mounts for the length of a test. Needs root."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root can mount")


@pytest.fixture
def small(place):
    """A home with the job `photos`, on a disk of 4 MB of its own."""
    mount("-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", place.home)
    place.fill()
    place.write_jobs()
    yield place
    subprocess.run(["umount", "-l", place.home], check=True)


@pytest.fixture
def alone(ops):
    """Without its background monitor, which would start what a test leaves waiting."""
    ops.close()
    return ops


def fill_disk(place):
    with (place.home / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 65536) == 65536:
            pass
    with (place.home / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x"):
            pass


# --- the journal, under its writer


def test_replaced_by_another_file_of_the_same_size_costs_only_what_was_replaced(ops):
    assert ops.record_error("kept")
    ops.runs()
    path = ops.manager.journal.path
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    os.replace(other, path)
    assert ops.record_error("after") and ops.record_error("and after")
    assert messages(ops)[:2] == ["after", "and after"]


def test_overwritten_in_place_the_next_line_stands_alone(tmp_path):
    journal = Journal(tmp_path, name="run-a")
    journal.append("first", {})
    size = journal.path.stat().st_size
    with journal.path.open("r+b") as file:
        file.write(b"x" * size)
    journal.append("second", {})
    journal.append("third", {})
    assert [fields["kind"] for fields in read_events(journal.path)] == ["second", "third"]
    journal.close()


@pytest.mark.parametrize("left_there", [None, b"", b"another's line\n"])
@pytest.mark.parametrize("name", [None, "run-a"])
def test_moved_out_of_the_home_a_new_file_is_begun(tmp_path, name, left_there):
    folder = tmp_path / "journal"
    folder.mkdir()
    journal = Journal(folder, name=name)
    journal.append("first", {})
    path = journal.path
    path.rename(tmp_path / "moved")
    if left_there is not None:
        path.write_bytes(left_there)
    journal.append("second", {})
    assert journal.path.parent == folder
    assert [fields["kind"] for fields in read_events(journal.path)] == ["second"]
    journal.close()


def test_whatever_happens_to_the_file_what_is_told_afterwards_is_there(place, chance):
    """Truncated, cut to nothing, deleted, replaced, overwritten, appended to, at random between appends."""
    home = Home(place.home)
    home.open()
    journal = Journal(home.journal)

    def overwrite(path):
        with path.open("r+b") as file:
            file.seek(chance.randrange(path.stat().st_size + 1))
            file.write(chance.randbytes(50))

    def append(path):
        with path.open("ab") as file:
            file.write(chance.choice([b"torn", b"a line\n", b"\0" * 100]))

    def replace(path):
        path.with_name("new").write_bytes(b"x" * path.stat().st_size)
        os.replace(path.with_name("new"), path)

    harms = [
        lambda path: os.truncate(path, chance.randrange(path.stat().st_size + 1)),
        lambda path: os.truncate(path, 0),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("aside")),
        replace,
        overwrite,
        append,
    ]
    for number in range(60 * SCALE):
        journal.append("before", {"n": number})
        chance.choice(harms)(journal.path)
        journal.append("after", {"n": number})
        told = [fields["n"] for fields in read_events(journal.path) if fields["kind"] == "after"]
        assert told[-1] == number and journal.path.parent == home.journal
    journal.close()


def test_journal_folder_removed_is_said_and_heals(ops, caplog):
    assert ops.record_error("before")
    ops.runs()
    shutil.rmtree(ops.home.journal)
    assert ops.record_error("unheard") is None
    assert "could not be recorded" in caplog.text and "unheard" in caplog.text
    ops.home.open()
    assert ops.record_error("after")
    assert "after" in messages(ops)


# --- the clock


def test_a_clock_that_jumps_loses_nothing_and_the_outcome_stays_last(place):
    """A day back between the start of a run and its end, an hour ahead between an error and its resolution."""
    home = Home(place.home)
    home.open()
    clock = NOON
    journal = Journal(home.journal, now=lambda: clock)
    run = {"run_id": "20260124T120000-000000", "job": "photos", "job_uid": "photos"}
    journal.append("run_queued", run | {"outcome": "queued"})
    journal.append("run_started", run | {"outcome": "running"})
    error = {"severity": "HIGH", "component": "other", "error_type": "unknown"}
    ids = [journal.append("error_recorded", error | {"message": "first"})]
    clock -= timedelta(days=1)
    journal.append("run_finished", run | {"outcome": "succeeded", "finished_at": "2026-01-23T12:00:01Z"})
    ids.append(journal.append("error_recorded", error | {"message": "second"}))
    journal.append("error_resolved", {"error_id": ids[0], "resolved": True, "resolved_by": "me"})
    clock += timedelta(days=1, hours=1)
    journal.append("error_resolved", {"error_id": ids[1], "resolved": True, "resolved_by": "me"})
    journal.close()
    with bo.open(place.home) as ops:
        for _ in range(2):  # from the journal, then from the index
            assert ops.get_run(run["run_id"]).outcome == "succeeded"
            rows = ops.errors()
            assert sorted(rows.error_id) == sorted(ids) and list(rows.resolved) == [True, True]
            assert len(ops.sql("SELECT 1 FROM events")) == 5
            assert ops.manager.history.ingest(force=True)


def test_ids_stay_apart_and_in_their_journals_order_when_the_clock_jumps(tmp_path, chance):
    moments = [NOON + timedelta(seconds=chance.choice([0, 0, -86400, 86400]) + number) for number in range(500)]
    coming = iter(moments)
    journal = Journal(tmp_path, now=lambda: next(coming))
    ids = [journal.append("noted", {"n": number}) for number in range(500)]
    journal.close()
    assert len(set(ids)) == 500
    assert [fields["id"] for fields in read_events(journal.path)] == ids


# --- forks and threads


def test_forked_while_threads_record_nothing_acknowledged_is_lost_and_nobody_hangs(place):
    place.write_jobs()
    children = 10 * min(SCALE, 20)
    script = """
import os, sys, threading
import backup_ops as bo
ops = bo.open(sys.argv[1])
is_over, told = threading.Event(), []
def record(name):
    number = 0
    while not is_over.is_set():
        if ops.record_error(f"{name}-{number}", "LOW"): told.append(f"{name}-{number}")
        number += 1
threads = [threading.Thread(target=record, args=(f"thread-{n}",)) for n in range(4)]
for thread in threads: thread.start()
for child in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        done = all(ops.record_error(f"child-{child}-{n}", "LOW") for n in range(3))
        os._exit(0 if done else 1)
    assert os.waitpid(pid, 0)[1] == 0
    told += [f"child-{child}-{n}" for n in range(3)]
is_over.set()
for thread in threads: thread.join()
ops.close()
print("\\n".join(told))
"""
    done = in_a_process(script, place.home, children, timeout=120)
    assert done.returncode == 0, done.stderr
    told = done.stdout.split()
    assert len([name for name in told if name.startswith("child")]) == 3 * children
    with bo.open(place.home) as ops:
        assert messages(ops) == sorted(told)


# --- a full disk


def test_full_disk_is_said_by_every_command_and_heals(small):
    shell = Shell(small.home)
    assert shell("run", "photos").returncode == 0
    fill_disk(small)
    done = shell("run", "photos")
    assert done.returncode == 1
    assert "could not be queued" in done.stderr and "No space left on device. Free space" in done.stderr
    assert list((small.home / "queue").glob("*.json")) == []
    for words in (["status"], ["runs"], ["errors"], ["jobs"]):
        assert shell(*words).returncode == 0, words
    (small.home / "filler").unlink()
    assert shell("run", "photos").returncode == 0
    assert [row["outcome"] for row in shell.data("runs")] == ["succeeded", "succeeded"]


def test_error_on_a_full_disk_is_none_and_a_line_in_the_log(small, caplog):
    with bo.open(small.home) as ops:
        assert ops.record_error("before")
        fill_disk(small)
        acknowledged = [message for number in range(50) if ops.record_error(message := f"full-{number}" + "x" * 500)]
        assert len(acknowledged) < 50 and "could not be recorded" in caplog.text and "No space left" in caplog.text
        assert set(messages(ops)) == {"before", *acknowledged}
        (small.home / "filler").unlink()
        assert ops.record_error("after")
        assert set(messages(ops)) == {"before", "after", *acknowledged}


def test_a_run_whose_disk_is_full_ends_with_one_outcome_once_there_is_room(small):
    small.write_jobs(slow(small))
    with bo.open(small.home) as ops:
        handle = ops.submit("slow")
        wait_until(lambda: is_running(handle), what="progress")
        fill_disk(small)
        done = Shell(small.home)("cancel", "slow")
        assert done.returncode == 0 and handle.run_id in done.stderr + done.stdout
        wait_until(lambda: not starter.is_running(ops.home, handle.run_id), 30, "the end of the runner")
        (small.home / "filler").unlink()
        assert handle.wait(30).outcome in ("cancelled", "interrupted")  # as it could say it itself, or not
        assert len(ops.sql("SELECT 1 FROM events WHERE kind = 'run_finished'")) == 1
        assert ops.run("photos").outcome == "succeeded"


# --- a home that cannot be written any more


@pytest.fixture
def read_only(place):
    """Makes the home read-only, as a kernel does that has met an error of the disk, and writable again."""
    mount("--bind", place.home, place.home)

    @contextlib.contextmanager
    def remounted():
        command = ["mount", "-o", "remount,ro,bind", place.home]
        # Refused while a runner that is over still has its journal open.
        wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 10, "the mount")
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw,bind", place.home], check=True)

    yield remounted
    subprocess.run(["umount", "-l", place.home], check=True)


def test_home_remounted_read_only_under_a_process_is_read_on_and_heals(read_only, alone, monkeypatch, caplog):
    alone.run("photos")
    waiting = unstarted(alone, monkeypatch)
    assert alone.record_error("before")
    alone.close()  # or the kernel would refuse; it takes the right to write from open files only for its own reasons
    with read_only():
        assert alone.record_error("unheard") is None
        assert "Read-only file system" in caplog.text and "unheard" in caplog.text
        assert messages(alone) == ["before"]
        assert sorted(alone.runs().outcome) == ["queued", "succeeded"]
        assert alone.manager.cards()[0].state == "queued"
        for act in (lambda: alone.submit("photos"), lambda: alone.resolve(alone.errors().iloc[0].error_id)):
            with pytest.raises((HomeError, JournalFull)):
                act()
        alone.manager.upkeep()
    assert alone.record_error("after")
    assert waiting.wait(30).outcome == "succeeded"
    assert messages(alone) == ["after", "before"]


def test_read_only_home_is_said_by_the_shell_and_nothing_is_begun(read_only, ops):
    ops.run("photos")
    ops.close()
    shell = Shell(ops.home.path)
    with read_only():
        for words in (["run", "photos"], ["cancel", "photos"], ["resolve", "x"]):
            done = shell(*words)
            assert (done.returncode, done.stdout) == (2, ""), words
            assert "is mounted read-only" in done.stderr and "Traceback" not in done.stderr
        assert [row["outcome"] for row in shell.data("runs")] == ["succeeded"]
        assert shell("status").returncode == 0 and shell("logs", ops.get_run("2").run_id).returncode == 0
    assert shell("run", "photos").returncode == 0
    assert [row["outcome"] for row in shell.data("runs")] == ["succeeded", "succeeded"]


# --- folders of the home that somebody removed


@pytest.mark.parametrize("name", ["queue", "locks", "logs", "runs", "journal"])
def test_folder_removed_between_two_runs_is_made_anew(ops, name):
    ops.run("photos")
    shutil.rmtree(ops.home.path / name)
    assert ops.run("photos").outcome == "succeeded"
    assert len(ops.runs()) == 2


@pytest.mark.parametrize("name", ["queue", "locks", "logs", "runs"])
def test_folder_removed_under_a_run_ends_it_with_one_outcome(place, ops, name):
    place.write_jobs(slow(place, size=150_000))
    handle = ops.submit("slow")
    wait_until(lambda: is_running(handle), what="progress")
    path = starter.journal_path(ops.home, handle.run_id)
    shutil.rmtree(ops.home.path / name)
    ops.home.open()
    wait_until(lambda: any(fields["kind"] == "run_finished" for fields in read_events(path)), 60, "its end")
    run = ops.get_run(handle.run_id)
    if name == "runs":  # what its tool works with was in there
        assert run.outcome == "failed" and f"/runs/{run.run_id}" in run.reason
    else:
        assert run.outcome == "succeeded"
    assert ops.run("photos").outcome == "succeeded"
    assert len(ops.sql("SELECT 1 FROM events WHERE kind = 'run_finished'")) == 2


# --- a run that is over, and whose journal is gone


def test_run_whose_journal_is_gone_is_known_as_before(ops):
    run = ops.run("photos")
    shell = Shell(ops.home.path)

    def known():
        status = shell.data("status")
        return ops.get_run(run.run_id), ops.runs().to_dict("records"), list(ops.log(run.run_id)), status["jobs"]

    assert ops.manager.history.ingest(force=True)
    before = known()
    starter.journal_path(ops.home, run.run_id).unlink()
    assert known() == before


def test_late_runner_of_a_run_that_is_over_does_nothing(ops):
    run = ops.run("photos")
    assert ops.manager.history.ingest(force=True)
    events = "SELECT event_id FROM events ORDER BY ALL"
    before = ops.sql(events).event_id.tolist()
    path = starter.journal_path(ops.home, run.run_id)
    path.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "backup_ops.runner", str(ops.home.path), run.run_id], check=False, timeout=60
    )
    assert done.returncode == 0
    assert list(read_events(path)) == [] and ops.sql(events).event_id.tolist() == before
    assert ops.get_run(run.run_id) == run and len(ops.snapshots("photos")) == 1


def test_a_starter_that_comes_late_gives_no_second_outcome(alone, monkeypatch):
    """It read the queue; then the run ended, and its journal went into a segment."""
    handle = unstarted(alone, monkeypatch)
    request = Queue(alone.home).read(handle.run_id)
    assert handle.wait(30).outcome == "succeeded"
    assert alone.manager.history.ingest(force=True)
    path = starter.journal_path(alone.home, handle.run_id)
    path.unlink()
    starter._end_unstarted(alone.home, request, outcome="cancelled", reason="late")
    starter._end_dead(alone.home, Queue(alone.home), request, lambda _: None)
    assert list(read_events(path)) == []
    assert list(alone.runs().outcome) == ["succeeded"]


def test_damaged_request_of_a_run_that_has_ended_gives_no_second_outcome(alone, monkeypatch):
    handle = unstarted(alone, monkeypatch)
    path = alone.home.queue / f"{handle.run_id}.json"
    assert handle.wait(30).outcome == "succeeded"
    path.write_bytes(b"{")  # as if its runner had died before it could take it out, and the disk spoiled it
    wait_until(lambda: alone.manager.settle() or not path.exists(), 10, "the runner to let go, and the end of the file")
    assert list(alone.runs().outcome) == ["succeeded"]


def test_damaged_request_is_told_with_its_job_also_when_the_submitters_journal_is_gone(alone, monkeypatch):
    handle = unstarted(alone, monkeypatch)
    assert alone.manager.history.ingest(force=True)
    alone.manager.journal.path.unlink()
    (alone.home.queue / f"{handle.run_id}.json").write_bytes(b"{")
    alone.manager.settle()
    run = alone.get_run(handle.run_id)
    assert (run.outcome, run.job) == ("failed", "photos")


def test_the_doctor_looks_at_the_home_and_changes_nothing(ops):
    ops.run("photos")
    before = listing(ops.home.path)
    findings = ops.doctor()
    assert {"journals", "history", "queue", "jobs.yaml"} <= {finding.subject for finding in findings}
    assert [finding for finding in findings if finding.state == "problem" and finding.subject != "disk"] == []
    assert listing(ops.home.path) == before
