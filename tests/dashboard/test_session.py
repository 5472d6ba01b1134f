"""The session: what it sends, when, and that it goes on any thread without touching a document there."""

from __future__ import annotations

import threading
from collections.abc import Callable

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
    operator = Operator(ops.manager)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(operator.run("photos", "test"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer["ok"] for answer in answers), answers
    wait_until(lambda: ops.manager.cards()[0].state == "succeeded", what="the run")
    assert len(ops.runs()) == 1


def test_an_unknown_job_is_refused_in_words(opened):
    ops, _, _, _, _ = opened
    assert operator_says(ops, "run") == (False, "no job is named 'foto'. Did you mean 'photos'?")
    assert operator_says(ops, "cancel") == (False, "foto is not running any more.")


def operator_says(ops, deed: str) -> tuple[bool, str]:
    told = getattr(Operator(ops.manager), deed)("foto", "test")
    return told["ok"], told["text"]
