"""What a killed run leaves in the repository, and who tidies it up."""

import os
import signal

import pytest

from tests.conftest import processes_of, wait_until

SLOW = "slow: {{source: {folder}, repository: mirror, limits: {{bandwidth: 300K}}}}\n"


@pytest.fixture
def killed(ops, place):
    """The id of a run of `slow` that was killed with its tool while it copied; nobody has settled it yet."""
    folder = place.folder / "slow"
    place.fill(6, 400_000, folder=folder)
    place.write_jobs(SLOW.format(folder=folder))
    handle = ops.submit("slow")
    runs = place.repository / "runs" / handle.run_id
    wait_until(lambda: runs.is_dir() and any(runs.iterdir()), what="the first bytes")
    for process in processes_of(place.home):
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes_of(place.home), what="its end")
    assert runs.is_dir()
    return handle.run_id


def events(ops):
    return ops.sql("SELECT job, run_id, data->>'left_by' AS left_by FROM events WHERE kind = 'leftovers_removed'")


def test_the_next_run_removes_the_folder_of_a_killed_one_and_says_so(ops, place, killed):
    run = ops.run("photos")
    assert run.outcome == "succeeded"
    assert sorted(os.listdir(place.repository / "runs")) == [run.run_id]
    told = events(ops)
    assert told.to_dict("records") == [{"job": "photos", "run_id": run.run_id, "left_by": killed}]
    assert any(killed in line for line in ops.log(run.run_id))
    assert ops.run("photos").outcome == "succeeded"
    assert len(events(ops)) == 1, "once"
    assert list(ops.home.repositories.glob("*.begun")) == []


def test_a_folder_of_a_run_that_goes_on_is_left_alone(ops, place, killed):
    """As if the run were alive: its request is in the queue, or somebody holds its journal's lock."""
    from backup_ops import lock
    from backup_ops.starter import journal_path

    ops.manager.settle()
    with lock.hold(journal_path(ops.home, killed), wait_s=5):  # a look at it takes it for an instant
        assert ops.run("photos").outcome == "succeeded"
        assert killed in os.listdir(place.repository / "runs")
    assert ops.run("photos").outcome == "succeeded"
    assert killed not in os.listdir(place.repository / "runs")


def test_a_snapshot_is_never_taken_for_a_leftover(ops, place):
    """Not even when the home believes its run to have been killed, and its seal is damaged."""
    from backup_ops.repositories import note_begun, repository_key

    first = ops.run("photos")
    seal = place.repository / "snapshots" / f"{first.run_id}.json"
    seal.write_bytes(seal.read_bytes()[:-20])
    note_begun(ops.home, repository_key(str(place.repository)), first.run_id)
    ops.run("photos")
    assert first.run_id in os.listdir(place.repository / "runs")
    assert len(events(ops)) == 0


def test_a_run_that_failed_by_itself_leaves_nothing_to_remove(ops, place):
    place.write_jobs(f"gone: {{source: {place.folder}/gone, repository: mirror}}\n")
    assert ops.run("gone").outcome == "failed"
    assert ops.run("photos").outcome == "succeeded"
    assert len(events(ops)) == 0
