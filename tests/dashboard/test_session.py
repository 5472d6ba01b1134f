"""The session: what it sends, when, and that it goes on any thread without touching a document there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import duckdb
import pytest

import backup_ops
from backup_ops.dashboard.feed import Feed
from backup_ops.dashboard.operator import Operator
from backup_ops.dashboard.session import PATCH_EVERY_MS, Session
from tests.conftest import wait_until


class Loop:
    """A schedule that runs things when the test says so, as Bokeh does on its own loop."""

    def __init__(self) -> None:
        self._due: list[Callable[[], None]] = []
        self.timeouts: list[int] = []
        self._mutex = threading.Lock()

    def add_next_tick_callback(self, callback: Callable[[], None]) -> None:
        with self._mutex:
            self._due.append(callback)

    def add_timeout_callback(self, callback: Callable[[], None], timeout_milliseconds: int) -> None:
        self.timeouts.append(timeout_milliseconds)
        self.add_next_tick_callback(callback)

    def run(self) -> None:
        while True:
            with self._mutex:
                if not self._due:
                    return
                callback = self._due.pop(0)
            callback()


@pytest.fixture
def opened(place):
    place.fill()
    place.write_jobs()
    ops = backup_ops.open(place.home)
    feed = Feed(ops.manager)
    loop, sent = Loop(), []
    session = Session(feed, sent.append, loop)
    yield ops, feed, session, loop, sent
    session.close()
    feed.close()
    ops.close()


def test_a_page_gets_everything_once_and_then_what_changed(opened, place):
    ops, _, session, loop, sent = opened
    session.sync({"allowed": False, "reason": "looking"})
    (first,) = sent
    assert first["type"] == "state"
    assert [card["job"] for card in first["cards"]] == ["photos"]
    assert first["verdict"]["now"]["headline"] == "photos is not protected yet."
    assert first["operate"] == {"allowed": False, "reason": "looking"}
    ops.run("photos")
    place.write_jobs(f"mail: {{source: {place.source}, repository: mirror}}")

    def is_told() -> bool:
        loop.run()
        jobs = {card["job"]: card["state"] for message in sent[1:] for card in message["cards"]}
        return jobs.get("photos") == "succeeded" and jobs.get("mail") == "none"

    wait_until(is_told, what="patches for both jobs")
    assert {message["type"] for message in sent[1:]} == {"patch"}
    assert set(loop.timeouts) == {PATCH_EVERY_MS}
    assert session.revision == len(sent) - 1


def test_a_job_that_was_taken_out_is_gone(opened, place):
    _, _, session, loop, sent = opened
    session.sync({})
    place.write_jobs(f"mail: {{source: {place.source}, repository: mirror}}")
    (place.home / "jobs.yaml").write_text((place.home / "jobs.yaml").read_text().replace("  photos:", "  pictures:"))

    def is_gone() -> bool:
        loop.run()
        return any("photos" in message["gone"] for message in sent[1:])

    wait_until(is_gone, what="the job to go")


def test_many_changes_travel_in_one_message(opened):
    _, feed, session, loop, _ = opened
    session.sync({})
    for _ in range(250):
        feed._tell()
    loop.run()
    assert len(loop.timeouts) == 1


def test_nothing_new_sends_nothing(opened):
    _, feed, session, loop, sent = opened
    session.sync({})
    feed._tell()
    loop.run()
    assert len(sent) == 1


def test_a_closed_page_hears_nothing_more(opened):
    _, feed, session, loop, sent = opened
    session.sync({})
    session.close()
    feed._tell()
    loop.run()
    session.beat()
    assert len(sent) == 1
    assert feed.listeners == 0


def test_a_beat_says_that_the_server_lives(opened):
    _, _, session, _, sent = opened
    session.beat()
    assert sent == [], "before the page has asked there is nobody to tell"
    session.sync({})
    session.beat()
    assert sent[-1]["type"] == "beat"


def test_a_broken_jobs_yaml_is_told_with_the_cards_of_before(opened, place):
    _, feed, session, loop, sent = opened
    session.sync({})
    (place.home / "jobs.yaml").write_text("version: 1\njobs:\n  photos: {sorce: /x}\n")
    feed._looked_at = -10.0
    feed.look()
    loop.run()
    assert any("sorce" in problem for problem in sent[-1]["problems"])
    assert [(card["job"], card["is_configured"]) for card in sent[-1]["cards"]] == [("photos", False)]


def test_the_same_deed_twice_in_a_second_is_done_once(opened, place):
    ops, _, _, _, _ = opened
    operator = Operator(ops)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(operator.run("photos", "test"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer["ok"] for answer in answers), answers
    wait_until(lambda: ops.manager.cards()[0].state == "succeeded", what="the run")
    assert len(ops.runs()) == 1


def test_run_cancel_run_within_a_second_are_three_deeds(opened):
    ops, _, _, _, _ = opened
    operator = Operator(ops)
    run_id = operator.run("photos", "test")["text"].removeprefix("Queued as ").strip(".")
    assert operator.cancel("photos", "test", run_id)["ok"]
    wait_until(lambda: ops.manager.is_over(run_id), what="the end of the first run")
    operator._done["photos"] = (
        operator._done["photos"][0],
        time.monotonic(),
    )  # within the second, however slow this machine is
    assert operator.run("photos", "test")["text"].startswith("Queued as "), "told as done, and nothing has started"


def test_cancel_stops_the_run_that_the_page_shows_and_no_other(opened):
    ops, _, _, _, _ = opened
    operator = Operator(ops)
    run_id = operator.run("photos", "test")["text"].removeprefix("Queued as ").strip(".")
    told = operator.cancel("photos", "test", "20200101T000000-000000")
    assert (told["ok"], told["text"]) == (False, "photos is not running any more.")
    wait_until(lambda: ops.manager.is_over(run_id), what="the run")
    wait_until(lambda: ops.manager.cards()[0].state == "succeeded", what="the run's card")


def test_what_nobody_thought_of_is_answered_and_recorded(opened, place):
    ops, _, _, _, _ = opened
    (place.home / "locks").rename(place.home / "locks.gone")
    (place.home / "locks").write_text("no folder")
    told = Operator(ops).run("photos", "test")
    (place.home / "locks").unlink()
    (place.home / "locks.gone").rename(place.home / "locks")
    assert (told["type"], told["job"], told["ok"]) == ("told", "photos", False)
    assert told["text"].startswith("photos could not be started: ")
    recorded = ops.manager.history.rows("errors", job="photos", limit=1)
    assert recorded[0]["component"] == "ui"


def test_a_history_that_cannot_be_asked_takes_the_verdict_back(place):
    place.fill()
    place.write_jobs()
    with backup_ops.open(place.home) as ops:
        ops.run("photos")
        ops.manager.history.ingest(force=True)
    with duckdb.connect(str(place.home / "history.duckdb")) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    sent = []
    with backup_ops.open(place.home) as ops:
        feed = Feed(ops.manager)
        session = Session(feed, sent.append, Loop())
        session.sync({})
        session.close()
        feed.close()
    (state,) = sent
    assert "newer backup-ops" in state["doubt"]
    assert state["verdict"]["tone"] == "queue"
    assert "not known" in state["verdict"]["now"]["headline"]
    (card,) = state["cards"]
    assert (card["kind"], card["is_known"], card["protected"]) == ("unknown", False, False)
    assert "never" not in card["what"], "it has run"
    values = {figure["name"]: figure["value"] for figure in state["figures"]}
    assert values.pop("Running") == "0"
    assert set(values.values()) == {"not known"}


def test_a_history_that_can_be_asked_again_is_believed_again(opened):
    ops, feed, session, loop, sent = opened
    session.sync({})
    ops.manager._mirror.problem = "the history is busy."
    feed._looked_at = -10.0
    feed.look()
    loop.run()
    assert sent[-1]["doubt"] == "the history is busy."
    assert sent[-1]["cards"][0]["kind"] == "unknown"
    ops.manager._mirror.problem = None
    feed._looked_at = -10.0
    feed.look()
    loop.run()
    assert sent[-1]["doubt"] == ""
    assert sent[-1]["cards"][0]["kind"] == "none"


def test_a_jobs_yaml_that_was_deleted_switches_run_off(opened, place):
    _, feed, session, loop, sent = opened
    session.sync({})
    (place.home / "jobs.yaml").unlink()
    feed._looked_at = -10.0
    feed.look()
    loop.run()
    assert "there is no" in sent[-1]["problems"][0]
    assert [(card["job"], card["is_configured"]) for card in sent[-1]["cards"]] == [("photos", False)]


def test_a_home_that_is_gone_is_said_and_the_verdict_taken_back(opened, place):
    ops, feed, session, loop, sent = opened
    session.sync({})
    place.home.rename(place.folder / "elsewhere")
    feed._looked_at = -10.0
    feed.look()
    loop.run()
    assert f"The home {place.home} is gone" in sent[-1]["doubt"]
    assert "not known" in sent[-1]["verdict"]["now"]["headline"]
    assert [(card["job"], card["is_configured"]) for card in sent[-1]["cards"]] == [("photos", False)]
    assert not Operator(ops).run("photos", "test")["ok"]
    (place.folder / "elsewhere").rename(place.home)
    feed._looked_at = -10.0
    feed.look()
    loop.run()
    assert sent[-1]["doubt"] == ""
    assert [(card["job"], card["is_configured"]) for card in sent[-1]["cards"]] == [("photos", True)]


def test_an_unknown_job_is_refused_in_words(opened):
    ops, _, _, _, _ = opened
    assert operator_says(ops, "run") == (False, "no job is named 'foto'. Did you mean 'photos'?")
    assert operator_says(ops, "cancel") == (False, "foto is not running any more.")


def operator_says(ops, deed: str) -> tuple[bool, str]:
    told = getattr(Operator(ops), deed)("foto", "test")
    return told["ok"], told["text"]
