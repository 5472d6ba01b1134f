"""A run is a process and a journal: whoever dies around it, it ends with exactly one outcome."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import backup_ops as bo
from backup_ops import starter
from backup_ops.errors import UnknownJob, UnknownRun
from backup_ops.journal import read_events
from backup_ops.queue import Queue
from tests.conftest import SCALE, processes_of, wait_until

SLOW = "limits: {bandwidth: 300K}"


def slow(place, name="slow", repository="mirror", size=600_000):
    """jobs.yaml text of a job that takes some seconds."""
    folder = place.folder / name
    place.fill(4, size, folder=folder)
    return f"{name}: {{source: {folder}, repository: {repository}, {SLOW}}}\n"


def is_running(handle):
    return handle.state == "running" and handle.progress is not None


def submit_in_a_process(place, job):
    """A shell-like process that submits and then waits; its id and the run's."""
    script = """
import sys, backup_ops as bo
handle = bo.open(sys.argv[1]).submit(sys.argv[2])
print(handle.run_id, flush=True)
handle.wait()
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(place.home), job], stdout=subprocess.PIPE, text=True)
    with process.stdout:
        return process, process.stdout.readline().strip()


def tools(place):
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "rclone" in " ".join(process.info["cmdline"] or [])[:200]
        and str(place.folder) in " ".join(process.info["cmdline"])
    ]


def test_run_succeeds_and_leaves_one_row_one_snapshot_one_log(place, ops):
    run = ops.run("photos")
    assert (run.outcome, run.files_total, run.files_new, run.errors) == ("succeeded", 5, 5, ())
    assert run.snapshot_id == run.run_id
    assert run.duration_s is not None
    assert run.shell_exit_code == 0
    rows = ops.runs()
    assert list(rows.run_id) == [run.run_id]
    assert rows.iloc[0].outcome == "succeeded"
    assert [snapshot.snapshot_id for snapshot in ops.snapshots("photos")] == [run.run_id]
    assert any("succeeded" in line for line in ops.log(run.run_id))
    assert list(place.home.joinpath("queue").iterdir()) == []
    assert list(place.home.joinpath("runs").iterdir()) == []
    assert ops.get_run(run.run_id) == run


def test_second_run_stores_only_what_changed(place, ops):
    ops.run("photos")
    (place.source / "file-1.bin").write_bytes(b"other")
    (place.source / "new.txt").write_text("new")
    (place.source / "file-2.bin").unlink()
    run = ops.run("photos")
    assert (run.files_total, run.files_new, run.files_changed, run.files_deleted) == (5, 1, 1, 1)
    assert run.bytes_added == 8


def test_unknown_job_is_named_with_what_is_meant(ops):
    with pytest.raises(UnknownJob, match=r"no job is named 'photo'. Did you mean 'photos'"):
        ops.submit("photo")


def test_failure_says_why_and_what_to_do(place, ops):
    place.source.rename(place.folder / "moved")
    run = ops.run("photos")
    assert run.outcome == "failed"
    assert str(place.source) in run.reason
    error = run.errors[0]
    assert (error.error_type, error.severity) == ("source_missing", "HIGH")
    assert error.remedy
    row = ops.errors(job="photos").iloc[0]
    assert (row.error_id, row.run_id, row.error_type) == (error.error_id, run.run_id, "source_missing")
    assert run.error_id == error.error_id


def test_same_job_twice_is_a_skip_with_its_reason(place, ops):
    place.write_jobs(slow(place))
    first = ops.submit("slow")
    second = ops.submit("slow")
    assert second.state == "skipped"
    run = second.wait()
    assert run.reason.startswith("already ") and first.run_id in run.reason
    assert run.shell_exit_code == 75
    assert first.wait(60).outcome == "succeeded"
    assert sorted(ops.runs().outcome) == ["skipped", "succeeded"]


def test_fifty_submits_at_once_start_one_run(place, ops):
    place.write_jobs(slow(place))
    states = []
    threads = [threading.Thread(target=lambda: states.append(ops.submit("slow").state)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(states) == 50
    assert states.count("skipped") == 49
    ops.cancel("slow")


def test_cancel_ends_a_running_run_and_commits_nothing(place, ops):
    place.write_jobs(slow(place))
    handle = ops.submit("slow")
    wait_until(lambda: is_running(handle), what="progress")
    handle.cancel()
    run = handle.wait(30)
    assert run.outcome == "cancelled"
    assert run.reason.startswith("cancelled by ")
    assert run.shell_exit_code == 130
    assert ops.snapshots("slow") == []
    assert tools(place) == []


def test_cancel_ends_a_queued_run_that_never_started(place, ops):
    place.write_jobs(slow(place) + slow(place, "second"))
    first = ops.submit("slow")
    wait_until(lambda: is_running(first), what="progress")
    second = ops.submit("second")
    assert second.state == "queued"
    assert "waits for repository mirror" in second.waits_for
    second.cancel()
    assert second.wait(20).outcome == "cancelled"
    first.cancel()
    assert first.wait(30).outcome == "cancelled"


def test_cancel_of_what_does_not_run_says_so(ops):
    with pytest.raises(UnknownRun, match="neither a job nor a run that is queued or running"):
        ops.cancel("photos")


def test_timeout_is_a_failure_with_a_remedy(place, ops):
    place.fill(4, 600_000, folder=place.folder / "slow")
    place.write_jobs(
        f"slow: {{source: {place.folder / 'slow'}, repository: mirror, limits: {{bandwidth: 200K, timeout: 2s}}}}"
    )
    run = ops.run("slow")
    assert (run.outcome, run.errors[0].error_type) == ("failed", "timeout")
    assert "limits.timeout of 2 s" in run.reason or "limits.timeout of 2.0 s" in run.reason
    assert tools(place) == []


def test_waiting_run_starts_when_its_repository_is_free_though_its_submitter_is_dead(place, ops):
    place.write_jobs(slow(place) + slow(place, "second", size=1000))
    first, first_id = submit_in_a_process(place, "slow")
    second, second_id = submit_in_a_process(place, "second")
    first.kill()
    second.kill()
    first.wait()
    second.wait()
    # Nobody looks at the queue meanwhile but the runner that ends.
    wait_until(lambda: not list(place.home.joinpath("queue").glob("*.json")), 60, "both runs")
    outcomes = {run_id: ops.get_run(run_id).outcome for run_id in (first_id, second_id)}
    assert set(outcomes.values()) == {"succeeded"}


def test_no_more_runs_than_slots(place, ops):
    others = "".join(slow(place, f"j{number}", f"r{number}", size=150_000) for number in range(4))
    repositories = "".join(f"r{number}: {{engine: rclone, url: {place.folder}/repo-{number}}}\n" for number in range(4))
    place.write_jobs(others, settings="{max_running: 2}", repositories=repositories)
    handles = [ops.submit(f"j{number}") for number in range(4)]
    most = 0
    while any(handle.state in ("queued", "running") for handle in handles):
        most = max(most, sum(handle.state == "running" for handle in handles))
        ops.manager.settle()
        time.sleep(0.05)
    assert most == 2
    assert [handle.result().outcome for handle in handles] == ["succeeded"] * 4


@pytest.mark.parametrize("_", range(SCALE))
def test_killed_runner_is_interrupted_and_leaves_no_tool(place, ops, _):
    place.write_jobs(slow(place))
    handle = ops.submit("slow")
    wait_until(lambda: is_running(handle) and tools(place), what="the tool")
    runner = next(process for process in processes_of(place.home) if "backup_ops.runner" in process.cmdline())
    runner.send_signal(signal.SIGKILL)
    wait_until(lambda: not tools(place), 10, "the tool's end")
    run = handle.wait(20)
    assert run.outcome == "interrupted"
    assert run.errors[0].error_type == "interrupted"
    assert ops.snapshots("slow") == []
    again = ops.submit("slow")
    assert again.state != "skipped"
    again.cancel()
    again.wait(30)


def test_killed_submitter_harms_no_run(place, ops):
    place.write_jobs(slow(place, size=200_000))
    process, run_id = submit_in_a_process(place, "slow")
    process.kill()
    process.wait()
    wait_until(lambda: ops.manager.is_over(run_id), 60, "the run's end")
    assert ops.get_run(run_id).outcome == "succeeded"


def test_hangup_of_the_terminal_harms_no_run(place, ops):
    place.write_jobs(slow(place, size=200_000))
    process, run_id = submit_in_a_process(place, "slow")
    os.kill(process.pid, signal.SIGHUP)
    process.wait()
    wait_until(lambda: ops.manager.is_over(run_id), 60, "the run's end")
    assert ops.get_run(run_id).outcome == "succeeded"


def test_claim_without_a_runner_is_started_again(place, ops, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(starter, "_start_runner", lambda home, queue, run_id: queue.claim(run_id) is None)
        handle = ops.submit("photos")
    assert Queue(ops.home).claim_of(handle.run_id).starts == 1
    claim = ops.home.queue / f"{handle.run_id}.claim"
    old = time.time() - 11
    os.utime(claim, (old, old))
    assert handle.wait(30).outcome == "succeeded"


def test_damaged_queue_file_is_told_of_and_stops_nobody(place, ops):
    ops.manager.settle()
    (ops.home.queue / "20260101T000000-abcdef.json").write_bytes(b"{half a requ")
    assert ops.run("photos").outcome == "succeeded"
    assert "is damaged and was put aside" in ops.errors().iloc[0].message


def test_index_mended_for_a_damaged_queue_file_is_told_of(place, ops):
    ops.run("photos")
    ops.close()
    (ops.home.queue / "20260101T000000-abcdef.json").write_bytes(b"{half a requ")
    ops.home.history.write_bytes(b"no DuckDB" * 1000)
    with bo.open(place.home) as again:
        assert sorted(again.errors().message.str.slice(0, 35)) == [
            "history.duckdb was made anew from s", "the queue file 20260101T000000-abcd",
        ]  # fmt: skip


def test_run_committed_by_a_killed_runner_is_recovered(place, ops, monkeypatch):
    """Killed between the commit in the repository and the terminal event."""
    handle = ops.submit("photos")
    run = handle.wait(30)
    journal = starter.journal_path(ops.home, run.run_id)
    lines = journal.read_bytes().splitlines(keepends=True)
    begun = [line for line in lines if b'"run_started"' in line]
    journal.write_bytes(b"".join(begun))
    with monkeypatch.context() as patched:
        patched.setattr(starter, "_start_runner", lambda home, queue, run_id: queue.claim(run_id) is None)
        submitted = ops.submit("photos")
    request = ops.home.queue / f"{submitted.run_id}.json"
    request.write_text(request.read_text().replace(submitted.run_id, run.run_id))
    request.rename(ops.home.queue / f"{run.run_id}.json")
    ops.manager.settle()
    recovered = ops.get_run(run.run_id)
    assert (recovered.outcome, recovered.reason, recovered.snapshot_id) == ("succeeded", "recovered", run.run_id)
    assert recovered.files_total == 5


def test_cards_follow_a_run_that_another_process_started(place, ops):
    place.write_jobs(slow(place, size=200_000))
    seen = []
    ops.manager.subscribe(
        lambda names: seen.extend((card.job, card.state) for card in ops.manager.cards() if card.job in names)
    )
    ops.manager.watch()
    process, run_id = submit_in_a_process(place, "slow")
    process.wait(60)
    wait_until(lambda: ("slow", "succeeded") in seen, 20, "the card's last state")
    assert ("slow", "running") in seen
    assert ops.manager.revision > 0
    card = next(card for card in ops.manager.cards() if card.job == "slow")
    assert (card.run_id, card.files_total, card.state) == (run_id, 4, "succeeded")
    assert card.last_good_at is not None


def test_terminal_event_carries_the_speed_over_time(place, ops):
    place.write_jobs(slow(place, size=300_000))
    run = ops.run("slow")
    finished = [
        fields for fields in read_events(starter.journal_path(ops.home, run.run_id)) if fields["kind"] == "run_finished"
    ]
    assert len(finished) == 1
    samples = finished[0]["samples"]
    assert 2 <= len(samples) <= 120
    assert samples == sorted(samples)
