"""Which logs stay, that a deletion is told before it happens, and that upkeep is in nobody's way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

import backup_ops as bo
from backup_ops import lock, log_keeping, monitor, upkeep
from backup_ops.errors import HistoryBusy, JournalFull, UnknownRun
from backup_ops.home import Home
from backup_ops.log_keeping import Log, judge
from backup_ops.run import OUTCOMES
from backup_ops.upkeep import Upkeep
from tests.cli.conftest import Shell
from tests.conftest import SCALE, Place, wait_until
from tests.test_hardship import unstarted
from tests.test_runs import is_running, slow

NOON = datetime(2026, 1, 24, 12, 0, tzinfo=UTC)
WRONG = [outcome for outcome in OUTCOMES if outcome not in ("succeeded", "cancelled")]


def log(number, outcome="succeeded", job="photos", size=10):
    return Log(f"{NOON + timedelta(days=number):%Y%m%dT%H%M%S}-000000", size, job, outcome)


def gone(logs, *, under_way=(), keep=30, cap=1 << 40):
    return [
        log.run_id
        for sentence in judge(logs, under_way=set(under_way), keep=keep, cap_bytes=cap)
        for log in sentence.logs
    ]


def days(*numbers):
    return [log(number).run_id for number in numbers]


# --- the choice


def test_the_last_of_each_job_stay():
    logs = [log(number, job=job) for job in ("photos", "mail") for number in range(5)]
    assert sorted(gone(logs, keep=3)) == sorted(days(0, 1) * 2)
    assert gone(logs, keep=5) == []


@pytest.mark.parametrize("outcome", WRONG)
def test_what_went_wrong_stays_however_old(outcome):
    logs = [log(0, outcome), *(log(number) for number in range(1, 6))]
    assert gone(logs, keep=2) == days(1, 2, 3)


def test_over_the_cap_the_oldest_good_go_first_then_the_oldest_of_all_others():
    logs = [log(0, "failed"), log(1), log(2, "warning"), log(3), log(4)]
    assert gone(logs, cap=50) == []
    assert gone(logs, cap=45) == days(1)
    assert gone(logs, cap=25) == days(1, 3, 0)
    assert gone(logs, cap=0) == days(1, 3, 0, 2)  # the newest of a job stays whatever it takes


def test_a_run_under_way_keeps_its_log_and_the_newest_ended_one_too():
    logs = [log(number) for number in range(3)]
    assert gone(logs, under_way=days(2), keep=1, cap=0) == days(0)


def test_a_log_that_nobody_knows_goes_only_when_space_is_needed():
    logs = [log(0, None, None), *(log(number) for number in range(1, 4))]
    assert gone(logs, keep=1) == days(1, 2)
    assert gone(logs, keep=1, cap=15) == days(1, 2, 0)


def test_whatever_there_is_the_rules_hold(chance):
    outcomes = [*OUTCOMES, None, "running"]
    for _ in range(50 * SCALE):
        logs = [
            log(
                number,
                chance.choice(outcomes),
                chance.choice(["a", "b", None]),
                chance.randrange(50),
            )
            for number in range(chance.randrange(40))
        ]
        under_way = {log.run_id for log in logs if chance.random() < 0.1}
        keep, cap = chance.randrange(1, 12), chance.choice([0, chance.randrange(900), 1 << 40])
        sentences = judge(logs, under_way=under_way, keep=keep, cap_bytes=cap)
        doomed = [log for sentence in sentences for log in sentence.logs]
        left = [log for log in logs if log not in doomed]
        assert len(set(doomed)) == len(doomed) and not {log.run_id for log in doomed} & under_way
        for job in ("a", "b"):
            ended = [log for log in logs if log.job_uid == job and log.run_id not in under_way]
            assert not ended or ended[-1] in left
            by_count = [log for log in ended[:-keep] if log.outcome in ("succeeded", "cancelled")]
            assert set(by_count) <= set(doomed)
        if sum(log.size_bytes for log in left) > cap:  # then nothing is left that may go
            newest = {job: log for log in logs if (job := log.job_uid) and log.run_id not in under_way}
            assert {log.run_id for log in left} <= under_way | {log.run_id for log in newest.values()}
        if cap == 1 << 40:
            assert all(log.outcome in ("succeeded", "cancelled") for log in doomed)


# --- the sweep


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """A home in which a run failed, and four went well since; nobody has looked after it yet."""
    place = Place(tmp_path_factory.mktemp("past"))
    place.fill()
    place.write_jobs(f"gone: {{source: {place.folder}/gone, repository: mirror}}\n")
    with bo.open(place.home) as ops:
        for job in ("gone", "photos", "photos", "photos", "photos"):
            ops.run(job)
    return place


@pytest.fixture
def aged(place, past):
    """A copy of that home, which is to keep two logs of each job."""
    shutil.copytree(past.home, place.home, dirs_exist_ok=True)
    place.fill()
    place.write_jobs(settings="{logs: {keep: 2}}")
    return place


@pytest.fixture
def swept(aged):
    """The same after an upkeep; its runs are `failed` and four in `good`."""
    with bo.open(aged.home) as ops:
        ops.failed, *ops.good = kept(ops)
        ops.manager.upkeep()
        yield ops


def kept(ops):
    return sorted(path.name.removesuffix(".log.zst") for path in ops.home.logs.iterdir())


def look_again(home):
    """As if the last upkeep was long ago."""
    os.utime(home.locks / "upkeep.lock", (1, 1))


def test_old_logs_go_and_one_event_says_which_and_why(swept):
    assert kept(swept) == [swept.failed, *swept.good[2:]]
    rows = swept.sql("SELECT data FROM events WHERE kind = 'logs_deleted'")
    assert len(rows) == 1
    told = json.loads(rows.iloc[0].data)
    assert (told["count"], told["run_ids"], told["and_more"]) == (2, swept.good[:2], 0) and told["bytes"] > 0
    assert told["reason"].startswith("only the last 2 logs of each job and those of runs that went wrong are kept")


def test_a_deleted_log_is_not_said_never_to_have_started(swept, place):
    with pytest.raises(UnknownRun, match=r"the log of run \S+ was deleted: only the last 2 logs of each job"):
        swept.log(swept.good[0])
    done = Shell(place.home)("logs", swept.good[1])
    assert done.returncode == 2 and "was deleted: only the last 2 logs of each job" in done.stderr
    assert next(iter(swept.log(swept.good[3])))


def test_a_log_that_somebody_else_removed_is_said_to_be_gone(swept):
    (swept.home.logs / f"{swept.failed}.log.zst").unlink()
    with pytest.raises(UnknownRun, match=r"is gone\. Kept are the last logs of each job"):
        swept.log(swept.failed)


def test_a_run_that_never_started_has_no_log(ops, monkeypatch):
    ops.close()  # a background monitor might start it
    handle = unstarted(ops, monkeypatch)
    handle.cancel()
    with pytest.raises(UnknownRun, match="it never started"):
        ops.log(handle.wait(10).run_id)


def test_more_than_a_hundred_are_counted_and_not_all_named(place):
    place.write_jobs(settings="{logs: {cap: 0}}")
    home = Home(place.home)
    home.open()
    for number in range(130):
        (home.logs / f"{log(number).run_id}.log.zst").write_bytes(b"x" * 10)
    told = []
    count = log_keeping.sweep(
        home, keep=30, cap_bytes=0, ask=lambda ids: [], tell=lambda kind, fields: told.append(fields)
    )
    assert count == 130 and list(home.logs.iterdir()) == []
    assert [(fields["count"], fields["bytes"], len(fields["run_ids"]), fields["and_more"]) for fields in told] == [
        (130, 1300, 100, 30)
    ]


def test_nothing_is_deleted_that_could_not_be_told(swept):
    look_again(swept.home)

    def full(kind, fields):
        raise JournalFull("no space.")

    before = kept(swept)
    with pytest.raises(JournalFull):
        log_keeping.sweep(swept.home, keep=1, cap_bytes=0, ask=lambda ids: [], tell=full)
    assert kept(swept) == before


def test_killed_between_word_and_deed_the_next_sweep_goes_on(swept, place):
    place.write_jobs(settings="{logs: {keep: 1}}")
    script = """
import os, signal, sys
import backup_ops as bo
from backup_ops import log_keeping
log_keeping._delete = lambda paths: os.kill(os.getpid(), signal.SIGKILL)
bo.open(sys.argv[1]).manager.upkeep()
"""
    before = kept(swept)
    look_again(swept.home)
    died = subprocess.run([sys.executable, "-c", script, str(place.home)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL and kept(swept) == before
    swept.manager.upkeep()  # not again at once: whatever killed it might kill us
    assert kept(swept) == before
    look_again(swept.home)
    swept.manager.upkeep()
    assert kept(swept) == [swept.failed, swept.good[3]]
    assert len(swept.sql("SELECT 1 FROM events WHERE kind = 'logs_deleted'")) == 3


def test_a_run_that_goes_on_keeps_its_log_whoever_knows_of_it(place, ops):
    ops.run("photos")
    place.write_jobs(slow(place))
    handle = ops.submit("slow")
    wait_until(lambda: is_running(handle), what="progress")
    request = ops.home.queue / f"{handle.run_id}.json"
    told = []

    def sweep():  # by somebody who has lost the history
        return log_keeping.sweep(
            ops.home, keep=1, cap_bytes=0, ask=lambda ids: [], tell=lambda *event: told.append(event)
        )

    assert sweep() == 1 and kept(ops) == [handle.run_id]
    request.rename(ops.home.queue / "mislaid")
    assert sweep() == 0 and kept(ops) == [handle.run_id] and len(told) == 1
    (ops.home.queue / "mislaid").rename(request)
    handle.cancel()
    handle.wait(30)


def test_lost_history_costs_no_log(swept):
    for path in [swept.home.history, *swept.home.journal.iterdir(), *swept.home.segments.glob("*")]:
        path.unlink(missing_ok=True)
    look_again(swept.home)
    before = kept(swept)
    swept.manager.upkeep()
    assert kept(swept) == before


def test_while_jobs_yaml_is_broken_nobody_knows_what_to_delete(swept, place):
    (place.home / "jobs.yaml").write_text("settings: {logs: {keep: 1}\n")
    look_again(swept.home)
    before = kept(swept)
    swept.manager.upkeep()
    assert kept(swept) == before
    assert len(swept.errors(component="storage")) == 0


@pytest.mark.parametrize("what", ["folder", "log"])
def test_what_cannot_be_deleted_is_not_told_to_go_and_is_named_once(swept, place, what):
    stuck = swept.home.logs / f"{swept.good[2]}.log.zst" if what == "log" else swept.home.logs
    if subprocess.run(["chattr", "+i", stuck], capture_output=True, check=False).returncode:
        pytest.skip("to make a file immutable needs root, and a file system that can")
    try:
        place.write_jobs(settings="{logs: {keep: 1}}")
        before = kept(swept)
        for _ in range(2):
            look_again(swept.home)
            swept.manager.upkeep()
        assert len(swept.sql("SELECT data FROM events WHERE kind = 'logs_deleted'")) == 1  # of the time before
        [message] = swept.errors(component="storage").message
        assert message.startswith("deleting old logs failed: PermissionError: ") and str(stuck) in message
        assert kept(swept) == before
    finally:
        subprocess.run(["chattr", "-i", stuck], check=True)
    look_again(swept.home)
    swept.manager.upkeep()
    assert kept(swept) == [swept.failed, swept.good[3]]


# --- upkeep


@pytest.fixture
def home(place):
    home = Home(place.home)
    home.open()
    return home


def test_upkeep_is_done_once_in_ten_minutes_by_whoever_is_there(home):
    done = []
    first, second = (Upkeep(home, {"chore": done.append}, done.append) for _ in range(2))
    assert first.perform(1.0) and not first.perform() and not second.perform()
    assert len(done) == 1 and 0 < done[0] <= 1.0
    look_again(home)
    with lock.hold(home.locks / "upkeep.lock"):
        assert not second.perform()
    assert second.perform() and not first.perform()
    for shift in (-upkeep.UPKEEP_EVERY_S - 1, 3600):  # long ago; by a clock that was ahead
        os.utime(home.locks / "upkeep.lock", (time.time() + shift,) * 2)
        assert first.perform()
    assert len(done) == 4


def test_what_goes_wrong_is_said_once_over_all_processes_until_it_changes(home):
    said = []
    faults = {"first": None, "second": None}

    def chore(name):
        def work(_):
            if faults[name]:
                raise faults[name]

        return work

    def perform():
        Upkeep(home, {name: chore(name) for name in faults}, said.append).perform()  # as a process of its own
        look_again(home)

    faults["first"] = OSError(5, "Input/output error")
    perform()
    perform()
    assert said == ["first failed: OSError: [Errno 5] Input/output error"]
    faults["second"] = ValueError("odd\nand long")
    perform()
    assert said[1:] == ["second failed: ValueError: odd and long"]
    faults |= {"first": None, "second": HistoryBusy("somebody is at it.")}  # which is no fault
    perform()
    assert len(said) == 2
    faults["first"] = OSError(5, "Input/output error")
    perform()
    assert len(said) == 3


def test_what_goes_wrong_is_an_error_of_the_storage_and_nobody_stumbles(swept, place):
    place.write_jobs(settings="{logs: {keep: 1}}")
    swept.home.logs.rename(place.folder / "logs")
    swept.home.logs.write_text("no folder")
    look_again(swept.home)
    swept.manager.upkeep()
    rows = swept.errors(component="storage")
    assert [message.partition(":")[0] for message in rows.message] == ["deleting old logs failed"]


def test_read_only_home_is_left_alone(swept, place):
    look_again(swept.home)
    swept.close()
    before = sorted(os.listdir(swept.home.logs)), sorted(os.listdir(swept.home.journal))
    mounted = subprocess.run(["mount", "--bind", place.home, place.home], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place.home], check=True)
        swept.manager.upkeep()
        assert (sorted(os.listdir(swept.home.logs)), sorted(os.listdir(swept.home.journal))) == before
    finally:
        subprocess.run(["umount", "-l", place.home], check=True)


def test_home_that_is_gone_is_no_trouble(home, place):
    place.home.rename(place.folder / "moved")
    assert not Upkeep(home, {"chore": pytest.fail}, pytest.fail).perform()


def test_the_monitor_does_it_on_a_thread_of_its_own(swept, monkeypatch):
    monkeypatch.setattr(monitor, "UPKEEP_LOOK_EVERY_S", 0.1)
    look_again(swept.home)
    begun, may_end = threading.Event(), threading.Event()

    def long_chore(max_s):
        begun.set()
        assert may_end.wait(30)

    monkeypatch.setattr(swept.manager, "_upkeep", Upkeep(swept.home, {"long": long_chore}, pytest.fail))
    heard = []
    swept.manager.subscribe(heard.append)
    swept.close()  # it may be watching already
    swept.manager.watch()
    try:
        assert begun.wait(10)
        swept.submit("photos").wait(30)
        wait_until(lambda: heard, 10, "the cards")
    finally:
        may_end.set()
    swept.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("backup-ops")] == []


# --- after a command


@pytest.fixture
def shell(aged):
    return Shell(aged.home)


def count(shell):
    return len(os.listdir(shell.home / "logs"))


def test_a_command_that_read_the_history_looks_after_the_home(shell):
    assert shell("jobs").returncode == 0  # reads no history
    assert shell("logs", "nonsense").returncode == 2
    assert shell("runs", "--job", "fotos").returncode == 2
    assert count(shell) == 5
    done = shell("runs", "--json")
    assert done.returncode == 0 and done.stdout.count("succeeded") == 4 and done.stderr == ""
    assert count(shell) == 3


def test_a_run_looks_after_the_home(shell):
    assert shell("run", "photos").returncode == 0
    assert count(shell) == 3


def test_interrupted_upkeep_ends_quietly(shell):
    script = """
import sys, time
from backup_ops import upkeep
from backup_ops.cli import main
upkeep.Upkeep._work = lambda *_: print("at it", file=sys.stderr, flush=True) or time.sleep(60)
sys.argv = ["backup-ops", "runs", "--json"]
sys.exit(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=shell.environment
    )
    assert process.stderr.readline() == "at it\n"
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=10)
    assert (process.returncode, complained) == (0, "") and said.count("succeeded") == 4
