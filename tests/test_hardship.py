"""What goes wrong in one place stays there: full disks, odd files, hanging mounts, forks, foreign code that raises."""

import json
import os
import resource
import subprocess
import sys
import threading
import time

import pytest

import backup_ops as bo
from backup_ops import lock, recovery, starter
from backup_ops.errors import HomeBusy, JournalFull
from backup_ops.home import Home
from backup_ops.journal import Journal
from backup_ops.queue import Queue
from tests.conftest import wait_until
from tests.test_runs import is_running, slow


def unstarted(ops, monkeypatch, job="photos", **settings):
    """A run in the queue for which no runner was started."""
    with monkeypatch.context() as patched:
        patched.setattr(starter, "_start_runner", lambda home, queue, run_id: False)
        return ops.submit(job, **settings)


def in_a_process(script, *arguments, timeout=60):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )


def test_another_versions_request_is_left_alone(ops, monkeypatch):
    handle = unstarted(ops, monkeypatch)
    path = ops.home.queue / f"{handle.run_id}.json"
    data = json.loads(path.read_text()) | {"version": 2}
    path.write_text(json.dumps(data))
    ops.manager.settle()
    assert json.loads(path.read_text()) == data
    assert len(ops.errors()) == 0


def test_disk_that_does_not_answer_proves_no_damage(ops, monkeypatch):
    handle = unstarted(ops, monkeypatch)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, before[1]))
        assert Queue(ops.home).damaged() == []
        assert Queue(ops.home).cancel_of(handle.run_id) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(taken[0])
    assert handle.wait(30).outcome == "succeeded"


def test_damaged_request_ends_as_failed_with_its_job(ops, monkeypatch):
    handle = unstarted(ops, monkeypatch)
    (ops.home.queue / f"{handle.run_id}.json").write_bytes(b'{"half a requ')
    ops.manager.settle()
    run = ops.get_run(handle.run_id)
    assert (run.outcome, run.job) == ("failed", "photos")
    assert "damaged and was put aside" in run.reason


def test_one_poisoned_run_keeps_no_other_from_settling(ops, monkeypatch, caplog):
    poisoned = unstarted(ops, monkeypatch)
    path = ops.home.queue / f"{poisoned.run_id}.json"
    data = json.loads(path.read_text())
    data["config"]["job"]["limits"] = {"no such limit": 1}
    data["job_uid"] = "another"
    path.write_text(json.dumps(data))
    Journal(ops.home.journal, name=f"run-{poisoned.run_id}").append("run_started", {"run_id": poisoned.run_id})
    assert ops.run("photos").outcome == "succeeded"
    assert len(ops.runs()) == 2


def test_hanging_repository_holds_up_no_other_run(ops, monkeypatch):
    dead = unstarted(ops, monkeypatch)
    journal = Journal(ops.home.journal, name=f"run-{dead.run_id}")
    journal.append("run_started", {"run_id": dead.run_id})
    journal.close()
    monkeypatch.setattr(recovery, "ANSWER_WITHIN_S", 0.5)
    monkeypatch.setattr(recovery, "_ask", lambda request: time.sleep(5))
    started = time.monotonic()
    ops.manager.settle()
    assert time.monotonic() - started < 3
    assert dead.state == "queued"  # not given a wrong outcome meanwhile


def test_submit_without_waiting_counts_what_is_only_starting(place, ops):
    place.write_jobs(slow(place) + slow(place, "second"))
    first = ops.submit("slow")
    second = ops.submit("second", wait=False)
    assert (second.state, second.result().reason) == (
        "skipped",
        "waits for repository mirror, which another run is using",
    )
    first.cancel()
    first.wait(30)


def test_listeners_hear_what_another_thread_noticed_first(place, ops):
    place.write_jobs(slow(place, size=100_000))
    heard = []
    ops.manager.subscribe(heard.append)
    ops.manager.watch()
    is_over = threading.Event()

    def nosy():
        while not is_over.wait(0.01):
            ops.manager.cards()

    thread = threading.Thread(target=nosy)
    thread.start()
    try:
        ops.submit("slow").wait(60)
        wait_until(lambda: len(heard) >= 2, 10, "the changes")
    finally:
        is_over.set()
        thread.join()
    assert all("slow" in names for names in heard)


def test_cards_and_readers_never_wait_for_each_other_for_ever(ops):
    """The history calls back into the journal while it is being asked."""
    ops.run("photos")
    errors = []

    def work(action):
        try:
            for _ in range(10):
                ops.home.history.write_bytes(b"not a database")  # damaged under us: it is made anew
                action()
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(action,), daemon=True)
        for action in (ops.manager.cards, ops.runs, lambda: ops.record_error("x"), ops.manager.cards)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert [error for error in errors if "deadlock" in str(error)] == []


def test_watcher_outlives_a_journal_that_takes_nothing(ops, monkeypatch):
    ops.manager.watch()

    def full(*_, **__):
        raise JournalFull("no space", hint="Free some.")

    with monkeypatch.context() as patched:
        patched.setattr(ops.manager.journal, "append", full)
        patched.setattr(starter, "settle", full)
        time.sleep(1.0)
    run_seen = []
    ops.manager.subscribe(run_seen.append)
    ops.run("photos")
    wait_until(lambda: run_seen, 10, "the watcher")


def test_failing_listener_is_recorded_once(ops):
    def broken(names):
        raise RuntimeError("a broken view")

    ops.manager.subscribe(broken)
    ops.manager.watch()
    for _ in range(2):
        ops.run("photos")
        time.sleep(0.6)
    said = [message for message in ops.errors().message if "a broken view" in message]
    assert len(said) == 1


def test_stopped_submitter_is_named_not_waited_for_ever(ops, monkeypatch):
    monkeypatch.setattr("backup_ops.manager._SUBMIT_WAIT_S", 0.3)
    with lock.hold(ops.home.locks / "submit.lock"), pytest.raises(HomeBusy, match="another process"):
        ops.submit("photos")


def test_child_of_a_fork_keeps_no_lock_and_writes_a_journal_of_its_own(place):
    script = """
import os, sys, threading, time
import backup_ops as bo
from backup_ops import lock
ops = bo.open(sys.argv[1])
ops.record_error("parent")
held = lock.take(ops.home.locks / "drain.lock")
ops.manager.journal._mutex.acquire()      # as another thread of the parent may hold it
child = os.fork()
if child == 0:
    print(ops.record_error("child") is not None, flush=True)
    time.sleep(2)
    os._exit(0)
ops.manager.journal._mutex.release()
lock.release(held)
with lock.hold(ops.home.locks / "drain.lock", wait_s=1.0): print("free", flush=True)
os.waitpid(child, 0)
"""
    place.write_jobs()
    done = in_a_process(script, place.home, timeout=30)
    assert sorted(done.stdout.split()) == ["True", "free"], done.stderr
    with bo.open(place.home) as ops:
        assert sorted(ops.errors().message) == ["child", "parent"]


def test_journal_that_cannot_be_opened_keeps_no_lock(place, monkeypatch):
    home = Home(place.home)
    home.open()

    def refuse(folder):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("backup_ops.journal.sync_folder", refuse)
        with pytest.raises(JournalFull, match="cannot be opened: Too many open files"):
            Journal(home.journal, name="run-a")
    assert not lock.is_held(home.journal / "run-a.jsonl")


class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    "arguments",
    [
        (Rude(),),
        ("x", Rude()),
        ("x", "HIGH", Rude()),
        ("x", "HIGH", "other", {"not": "hashable"}),
        ("x", "HIGH", "other", None, {Rude(): Rude()}),
        (b"\xff\x00",),
        (None,),
        ("x" * (2 << 20),),
    ],
)
def test_record_error_records_whatever_it_is_given(ops, arguments):
    error_id = ops.record_error(*arguments)
    assert error_id is not None
    assert list(ops.errors().error_id) == [error_id]


def test_record_error_at_the_end_of_the_stack_does_not_raise(ops):
    ops.record_error("warm")

    def deeper(depth, leaf):
        return deeper(depth - 1, leaf) if depth else leaf()

    deepest = sys.getrecursionlimit()
    while True:
        try:
            deeper(deepest, lambda: None)
            break
        except RecursionError:
            deepest -= 1
    for left in range(1, 60):  # one frame is its own
        deeper(deepest - left, lambda: ops.record_error("deep"))


def test_cancel_works_on_a_disk_that_is_full(place, ops, monkeypatch):
    place.write_jobs(slow(place))
    handle = ops.submit("slow")
    wait_until(lambda: is_running(handle), what="progress")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", full)
        assert ops.cancel("slow") == [handle.run_id]
    assert handle.wait(30).outcome == "cancelled"


def test_unwritable_log_costs_the_log_and_not_the_run(ops, monkeypatch):
    handle = unstarted(ops, monkeypatch)
    (ops.home.logs / f"{handle.run_id}.log.zst").mkdir()
    run = handle.wait(30)
    assert run.outcome == "succeeded"
    assert any("is not whole" in message for message in ops.errors().message)


def test_leftovers_of_the_dead_are_cleared(ops, monkeypatch):
    handle = unstarted(ops, monkeypatch)
    for name in ("gone.cancel", "gone.claim"):
        (ops.home.queue / name).write_text("1")
    old = ops.home.queue / ".gone.1.new"
    old.write_text("{")
    os.utime(old, (1, 1))
    ops.manager.settle()
    assert not [path.name for path in ops.home.queue.iterdir() if "gone" in path.name]
    assert handle.wait(30).outcome == "succeeded"


def test_cancelled_in_the_queue_starts_no_process(place, ops, monkeypatch):
    handle = unstarted(ops, monkeypatch)
    started = []
    with monkeypatch.context() as patched:
        patched.setattr(starter, "_start_runner", lambda *arguments: started.append(arguments) or False)
        handle.cancel()
        assert handle.wait(10).outcome == "cancelled"
    assert started == []


def test_skip_after_a_failure_hides_it_from_no_card(place, ops):
    ops.run("photos")
    place.source.rename(place.folder / "gone")
    assert ops.run("photos").outcome == "failed"
    with lock.hold(ops.home.locks / "slot-0.lock"):
        place.write_jobs(settings="{max_running: 1}")
        assert ops.submit("photos", wait=False).state == "skipped"
    card = ops.manager.cards()[0]
    assert (card.state, card.last_outcome) == ("skipped", "failed")


def test_history_that_fails_once_is_asked_again(ops, monkeypatch):
    ops.manager.watch()
    answers = ops.manager.history.rows
    with monkeypatch.context() as patched:

        def busy(*_, **__):
            raise HomeBusy("somebody holds it.")

        patched.setattr(ops.manager.history, "rows", busy)
        ops.submit("photos").wait(30)
        wait_until(lambda: ops.manager.history_problem, 10, "the problem")
    assert ops.manager.history.rows == answers
    wait_until(lambda: ops.manager._mirror.cards()[0].state == "succeeded", 10, "the card")
    assert ops.manager.history_problem is None


def test_job_renamed_while_it_runs_is_cancelled_by_its_new_name(place, ops):
    place.write_jobs(slow(place).replace("repository: mirror", "repository: mirror, uid: one"))
    handle = ops.submit("slow")
    wait_until(lambda: is_running(handle), what="progress")
    place.write_jobs(
        slow(place).replace("repository: mirror", "repository: mirror, uid: one").replace("slow:", "renamed:")
    )
    assert ops.cancel("renamed") == [handle.run_id]
    assert handle.wait(30).outcome == "cancelled"
