"""The sentences: never a claim without a good copy, and each names what a person can act on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backup_ops import verdict
from backup_ops.card import JobCard

NOW = datetime(2026, 11, 23, 14, 32, tzinfo=UTC)


def card(job="photos", state="succeeded", good=timedelta(hours=2), **facts) -> JobCard:
    known = {
        "job_uid": job,
        "engine": "rclone",
        "repository": "mirror",
        "source": (f"/srv/{job}",),
        "last_good_at": None if good is None else NOW - good,
        "last_outcome": None if state in ("none", "queued", "running") else state,
    }
    return JobCard(job=job, state=state, **(known | facts))


def say(*cards: JobCard) -> tuple[str, str]:
    said = verdict.verdict(cards, NOW)
    return said.headline, said.detail_text


def test_a_home_without_jobs_has_nothing_protected():
    said = verdict.verdict([], NOW)
    assert said.headline == "Nothing is backed up yet."
    assert (said.jobs, said.protected) == (0, 0)


def test_all_protected_is_said_with_the_oldest_copy():
    assert say(card(), card("mail", good=timedelta(days=1, hours=12))) == (
        "Both jobs are protected.",
        "Every job has a good copy; the oldest, 1 d 12 h, is of mail.",
    )
    assert verdict.verdict([card(f"job-{n}") for n in range(37)], NOW).headline == "All 37 jobs are protected."


def test_the_exception_is_named_with_the_age_of_what_is_safe():
    failing = card("nextcloud", "failed", good=timedelta(hours=36))
    assert say(failing, card(), card("mail")) == (
        "1 of 3 jobs is not protected.",
        "nextcloud is failing; its newest good copy is 1 d 12 h old.",
    )


def test_many_exceptions_are_counted_not_listed():
    cards = [card(f"job-{n}", "failed", good=None) for n in range(5)] + [card()]
    headline, detail = say(*cards)
    assert headline == "5 of 6 jobs are not protected."
    assert detail == "job-0, job-1, job-2 and 2 more are failing; none of them has a good copy."


@pytest.mark.parametrize(
    "state", ["none", "failed", "interrupted", "cancelled", "skipped", "running", "queued", "warning"]
)
def test_without_a_good_copy_nothing_is_protected(state):
    alone = card(state=state, good=None)
    assert not verdict.is_protected(alone)
    assert "is not protected" in verdict.verdict([alone], NOW).headline


@pytest.mark.parametrize("state", ["failed", "interrupted", "lost", "missed"])
def test_a_copy_does_not_protect_a_job_whose_last_run_went_badly(state):
    assert not verdict.is_protected(card(state=state))
    assert not verdict.is_protected(card(state="running", last_outcome=state)), "a retry under way proves nothing yet"


def test_a_run_under_way_is_judged_by_the_one_before():
    assert verdict.is_protected(card(state="running", last_outcome="succeeded"))


@pytest.mark.parametrize("state", ["skipped", "cancelled"])
def test_a_run_that_was_not_allowed_to_work_hides_no_failure(state):
    hidden = card("photos", state, last_outcome="failed")
    assert not verdict.is_protected(hidden)
    assert verdict.needs_attention(hidden)
    assert say(hidden)[0] == "photos is not protected."
    assert verdict.is_protected(card("photos", state, last_outcome="succeeded"))


def test_nothing_is_claimed_while_the_history_does_not_answer():
    said = verdict.verdict([card()], NOW, "history.duckdb was written by a newer backup-ops.")
    assert (said.tone, said.headline, said.protected) == ("queue", "Whether the jobs are protected is not known.", 0)
    assert said.detail_text == "history.duckdb was written by a newer backup-ops."


def test_protected_with_gaps_is_a_warning_not_an_all_clear():
    said = verdict.verdict([card(), card("home", "warning")], NOW)
    assert said.tone == "warn"
    assert said.detail_text.endswith("home is protected but left files out.")


def test_a_lost_connection_turns_the_sentence_into_the_past():
    said = verdict.verdict([card("nextcloud", "failed"), card()], NOW).past
    assert said.headline == "1 of 2 jobs was not protected."
    assert said.detail_text == "nextcloud was failing; its newest good copy was 2 h old."
    assert verdict.verdict([card(), card("b")], NOW).past.headline == "both jobs were protected."


def test_names_of_jobs_are_left_as_they_are_in_the_past_too():
    said = verdict.verdict([card("is", "failed"), card("has")], NOW).past
    assert [words.text for words in said.detail if words.is_name] == ["is"]


def test_success_is_short():
    said = verdict.sentence(card(bytes_added=2362232013, duration_s=1440.0, files_total=9), NOW)
    assert (said.what, said.remedy) == ("Saved 2.2 GiB in 24 min.", "")
    nothing_new = verdict.sentence(card(bytes_added=0, duration_s=3.0, files_total=1), NOW)
    assert nothing_new.what == "Nothing had changed in 1 file, checked in 3.0 s."


def test_a_failure_says_what_to_do_and_what_is_safe():
    failed = card(
        state="failed",
        error_message="nas closed the connection",
        remedy="Check that nas is up",
        good=timedelta(hours=36),
    )
    said = verdict.sentence(failed, NOW)
    assert said.what == "nas closed the connection.", "names stay as typed: no capital is put on them"
    assert said.remedy == "Check that nas is up. The newest good copy is 1 d 12 h old."


def test_a_warning_says_what_is_missing():
    partly = card(state="warning", error_message="14 of 81,204 files could not be read", remedy="Grant read access")
    said = verdict.sentence(partly, NOW)
    assert (said.what, said.remedy) == ("Saved, but 14 of 81,204 files could not be read.", "Grant read access.")


def test_a_failure_without_a_remedy_sends_to_the_first_error():
    said = verdict.sentence(card(state="failed", good=None), NOW)
    assert said.what == "It ended without a reason."
    assert said.remedy == "No known remedy. Open the log at the first error. There is no good copy yet."


def test_what_waits_says_for_what():
    assert (
        verdict.sentence(card(state="queued", waits_for="repository mirror"), NOW).what
        == "Waits for repository mirror."
    )
    assert verdict.sentence(card(state="queued"), NOW).what == "Starts as soon as a slot is free."


@pytest.mark.parametrize("state", [*verdict.KINDS, "succeeded", "of a newer version"])
def test_every_state_has_a_place_and_a_sentence(state):
    for good in (None, timedelta(hours=1)):
        shown = card(state=state, good=good)
        assert verdict.kind_of(shown) in verdict.KINDS
        assert verdict.sentence(shown, NOW).what.endswith(".")
        assert verdict.verdict([shown, card("other")], NOW).headline.endswith(".")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "just now"), (9, "just now"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7260, "2 h"),
        (86400 + 12 * 3600, "1 d 12 h"), (2 * 86400, "2 d"), (9 * 86400 + 3600, "9 d"),
    ],
)  # fmt: skip
def test_ages(seconds, said):
    assert verdict.age(seconds) == said


def test_ago():
    assert verdict.ago(None, NOW) == "never"
    assert verdict.ago(NOW - timedelta(minutes=17), NOW) == "17 min ago"
    assert verdict.ago(NOW, NOW) == "just now"
