import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from backup_ops.home import Home
from backup_ops.queue import AlreadySubmitted, Queue, Request, new_run_id
from backup_ops.repositories import repository_key

NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)


def request(run_id="a", **changes):
    fields = {
        "run_id": run_id,
        "job_name": "photos",
        "job_uid": "photos",
        "engine": "rclone",
        "repository_name": "mirror",
        "repository_url": "/mnt/mirror",
        "priority": 5,
        "trigger": "manual",
        "by": "me",
        "queued_at": NOW,
        "config_version": "x",
        "max_running": 4,
        "engine_path": None,
        "force": False,
        "config": {},
    }
    return Request(**(fields | changes))


@pytest.fixture
def queue(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    return Queue(home)


def test_request_comes_back_whole(queue):
    queue.submit(request(scheduled_at=NOW))
    assert queue.read("a") == request(scheduled_at=NOW)


def test_same_run_is_submitted_once(queue):
    queue.submit(request())
    with pytest.raises(AlreadySubmitted):
        queue.submit(request(by="another"))
    assert queue.read("a").by == "me"


def test_twenty_processes_claim_one_slot_once(tmp_path, queue):
    script = """
import sys, json
from backup_ops.home import Home
from backup_ops.queue import AlreadySubmitted, Queue, Request
request = Request.from_data(json.loads(sys.argv[2]))
try: Queue(Home(sys.argv[1])).submit(request); print("mine")
except AlreadySubmitted: print("taken")
"""
    data = json.dumps(request("slot-1").as_data())
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "home"), data], stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in running]
    assert sorted(said) == ["mine"] + ["taken"] * 19


def test_order_is_priority_then_age(queue):
    queue.submit(request("old", queued_at=NOW - timedelta(hours=1)))
    queue.submit(request("new"))
    queue.submit(request("urgent", priority=9))
    assert [one.run_id for one in queue.requests()] == ["urgent", "old", "new"]


def test_damaged_request_is_put_aside_once(queue, tmp_path):
    queue.submit(request())
    (tmp_path / "home" / "queue" / "bad.json").write_bytes(b"\x00\xff{")
    assert [one.run_id for one in queue.requests()] == ["a"]
    assert queue.damaged() == ["bad"]
    assert queue.put_aside("bad").name == "bad.damaged"
    assert queue.put_aside("bad").read_bytes() and queue.damaged() == ["bad"], "until its run has its outcome"


def test_cancel_of_a_run_that_is_over_is_no_cancel(queue):
    assert not queue.request_cancel("a", by="me", reason="cancelled by me")
    queue.submit(request())
    assert queue.request_cancel("a", by="me", reason="cancelled by me")
    assert queue.cancel_of("a") == "cancelled by me"
    queue.remove("a")
    assert queue.cancel_of("a") is None and queue.requests() == []


def test_claims_count_starts(queue):
    queue.submit(request())
    assert [queue.claim("a").starts for _ in range(3)] == [1, 2, 3]
    assert queue.claim_of("a").age_s < 5
    queue.unclaim("a")
    assert queue.claim_of("a") is None


def test_repository_has_one_lock_however_it_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert (
        repository_key(f"{tmp_path}/real") == repository_key(f"{tmp_path}/real/") == repository_key(f"{tmp_path}/link")
    )
    assert repository_key(f"local:{tmp_path}/real") == repository_key(f"{tmp_path}/real")
    assert repository_key("sftp:nas:/a") != repository_key("sftp:nas:/b")


def test_ids_sort_by_time_within_a_second_too():
    moments = [NOW + timedelta(milliseconds=5 * step) for step in range(400)]
    ids = [new_run_id(moment) for moment in moments]
    assert ids == sorted(ids)
