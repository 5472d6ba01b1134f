"""Sentences about jobs: whether they are protected, what happened to each, and when. Pure: facts in, words out.

A job is called protected only when it has a good copy and its last run did not end badly; nothing is claimed of a job
that has never run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Literal

from backup_ops.card import JobCard
from backup_ops.quantity import format_bytes, format_count, format_duration

Kind = Literal[
    "failed", "interrupted", "lost", "missed", "warning", "none", "running", "queued", "skipped", "cancelled", "fine"
]
Tone = Literal["fail", "warn", "ok", "queue"]

KINDS: tuple[Kind, ...] = (
    "failed", "interrupted", "lost", "missed", "none", "warning", "running", "queued", "skipped", "cancelled", "fine",
)  # fmt: skip
"""What a job is now, the one that needs a person most first."""

_BAD = ("failed", "interrupted", "lost", "missed")
_NAMED = 3
"""More jobs than this are counted, not named: a sentence is read in one breath."""


@dataclass(frozen=True)
class Words:
    """A piece of a sentence; `is_name` for names of jobs, which faces may set in bold."""

    text: str
    is_name: bool = False


@dataclass(frozen=True)
class Verdict:
    """`headline` is one sentence that can be acted on; `detail` says how much, since when, and what is safe."""

    tone: Tone
    headline: str
    detail: tuple[Words, ...]
    jobs: int
    protected: int

    @property
    def detail_text(self) -> str:
        return "".join(words.text for words in self.detail)

    @property
    def past(self) -> Verdict:
        """The same as a page says it that has lost its connection: `2 of 37 jobs were not protected.`"""
        detail = tuple(words if words.is_name else replace(words, text=_past(words.text)) for words in self.detail)
        headline = _past(self.headline)
        if headline.split(" ", 1)[0] in ("All", "Both", "None", "Nothing"):
            headline = headline[:1].lower() + headline[1:]
        return replace(self, headline=headline, detail=detail)


@dataclass(frozen=True)
class Sentence:
    """What happened to a job, what to do about it, and what is safe meanwhile; the last two may be empty."""

    what: str
    deed: str = ""
    safe: str = ""

    @property
    def remedy(self) -> str:
        return f"{self.deed} {self.safe}".strip()


def kind_of(card: JobCard) -> Kind:
    """The card's place: an outcome that needs nobody is `fine`."""
    state = card.state
    if state == "succeeded":
        return "fine"
    return next((kind for kind in KINDS if kind == state), "none")


def is_protected(card: JobCard) -> bool:
    """There is a good copy, and what ran after it did not end badly.

    A run that is under way, was skipped or was cancelled proves nothing: the one before it counts.
    """
    return card.last_good_at is not None and (card.last_outcome or card.state) not in _BAD


def needs_attention(card: JobCard) -> bool:
    """Whether a person should look at it before the others."""
    return kind_of(card) in ("failed", "interrupted", "lost", "missed", "none", "warning") or not (
        is_protected(card) or card.state in ("running", "queued")
    )


def verdict(cards: Sequence[JobCard], now: datetime, history_problem: str | None = None) -> Verdict:
    """The answer of a page: which jobs are not protected, or that all are.

    With a `history_problem` nothing is claimed: what the cards know of the past may be old, or nothing at all.
    """
    total = len(cards)
    if history_problem is not None:
        return Verdict("queue", "Whether the jobs are protected is not known.", _plain(history_problem), total, 0)
    if not total:
        return Verdict(
            "queue",
            "Nothing is backed up yet.",
            _plain("Make the first job; its first run shows here as soon as it starts."),
            0,
            0,
        )
    outside = sorted((card for card in cards if not is_protected(card)), key=_most_urgent)
    safe = total - len(outside)
    failing = [card for card in outside if _last(card) in _BAD]
    if not outside:
        has_warning = any(kind_of(card) == "warning" for card in cards)
        headline = f"{cards[0].job} is protected." if total == 1 else f"{_all(total)} jobs are protected."
        return Verdict("warn" if has_warning else "ok", headline, _calm(cards, now), total, safe)
    if total == 1:
        headline = f"{outside[0].job} is not protected{'' if failing else ' yet'}."
    elif len(outside) == total:
        headline = f"None of the {format_count(total)} jobs is protected{'' if failing else ' yet'}."
    else:
        are = "is" if len(outside) == 1 else "are"
        headline = f"{format_count(len(outside))} of {format_count(total)} jobs {are} not protected."
    return Verdict("fail" if failing else "queue", headline, _trouble(outside, cards, now), total, safe)


def sentence(card: JobCard, now: datetime) -> Sentence:
    """What the last run did, or what the one under way is waiting for."""
    kind = kind_of(card)
    if kind == "fine":
        return Sentence(_saved(card))
    if kind == "none":
        return Sentence("It has never run, so there is no copy of it.", "Run it now; the first run reads everything.")
    if kind == "queued":
        return Sentence(f"Waits for {card.waits_for}." if card.waits_for else "Starts as soon as a slot is free.")
    if kind == "running":
        return Sentence("Running." if card.progress is None else f"{_capital(card.progress.phase)}.")
    if kind == "warning":
        but = _lower(_ended(card.error_message or card.reason or "something was left out"))
        return Sentence(f"{_saved(card)[:-1] if card.bytes_added else 'Saved'}, but {but}", _ended(card.remedy or ""))
    if kind == "skipped":
        return Sentence(_ended(f"Skipped: {card.reason or 'no reason was given'}"), safe=safety(card.last_good_at, now))
    if kind == "cancelled":
        return Sentence(_ended(_capital(card.reason or "cancelled")), safe=safety(card.last_good_at, now))
    why = {"missed": "It was due and did not start", "lost": "Its host is out of reach"}
    what = card.error_message or card.reason or why.get(kind, "It ended without a reason")
    deed = _ended(card.remedy or "No known remedy. Open the log at the first error")
    return Sentence(_ended(what), deed, safety(card.last_good_at, now))


def safety(last_good_at: datetime | None, now: datetime) -> str:
    """How old the newest good copy is, as a sentence."""
    if last_good_at is None:
        return "There is no good copy yet."
    said = age((now - last_good_at).total_seconds())
    return "The newest good copy was made just now." if said == "just now" else f"The newest good copy is {said} old."


def age(seconds: float) -> str:
    """How long, as people say it: `just now` below 10 s, then one part, and days with their hours below three days."""
    total = max(0, int(seconds))
    if total < 10:
        return "just now"
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min"
    if total < 86400:
        return f"{total // 3600} h"
    days, hours = divmod(total // 3600, 24)
    return f"{days} d {hours} h" if days < 3 and hours else f"{days} d"


def _old(seconds: float) -> str:
    said = age(seconds)
    return "a moment" if said == "just now" else said


def ago(moment: datetime | None, now: datetime) -> str:
    """`12 h ago`, `just now`, `never`."""
    if moment is None:
        return "never"
    said = age((now - moment).total_seconds())
    return said if said == "just now" else f"{said} ago"


def _last(card: JobCard) -> str | None:
    return card.last_outcome or card.state


def _most_urgent(card: JobCard) -> tuple[int, str]:
    return KINDS.index(kind_of(card)), card.job


def _all(total: int) -> str:
    return "Both" if total == 2 else f"All {format_count(total)}"


def _calm(cards: Sequence[JobCard], now: datetime) -> tuple[Words, ...]:
    oldest = min(cards, key=lambda card: card.last_good_at or now)
    assert oldest.last_good_at is not None
    said = age((now - oldest.last_good_at).total_seconds())
    if len(cards) == 1:
        words = [
            Words(
                f"Its newest good copy is from {ago(oldest.last_good_at, now)}."
                if said != "just now"
                else "Its newest good copy was made just now."
            )
        ]
    elif said == "just now":
        words = [Words("Every job has a good copy, all made just now.")]
    else:
        words = [
            Words(f"Every job has a good copy; the oldest, {said}, is of "),
            Words(oldest.job, is_name=True),
            Words("."),
        ]
    return (*words, *_incomplete(cards))


def _trouble(outside: Sequence[JobCard], cards: Sequence[JobCard], now: datetime) -> tuple[Words, ...]:
    groups = [list(members) for _, members in groupby(outside, key=kind_of)]
    words: list[Words] = []
    left = _NAMED
    for index, members in enumerate(groups):
        if index:
            words.append(Words(" and " if index == len(groups) - 1 else ", "))
        words += _listed([card.job for card in members[:left]], len(members) - left)
        one, more = _DOING[kind_of(members[0])]
        words.append(Words(f" {one if len(members) == 1 else more}"))
        left = max(0, left - len(members))
    return (*words, Words(f"; {_copies(outside, now)}."), *_incomplete(cards))


def _listed(names: Sequence[str], further: int) -> list[Words]:
    """`a`, `a and b`, `a, b, c and 4 more`, `4 more`."""
    items = [Words(name, is_name=True) for name in names]
    if further > 0:
        items.append(Words(f"{format_count(further)} more"))
    listed = items[:1]
    for index, item in enumerate(items[1:], start=1):
        listed += [Words(" and " if index == len(items) - 1 else ", "), item]
    return listed


def _copies(outside: Sequence[JobCard], now: datetime) -> str:
    """What is safe of the jobs that are not protected: the age of their copies, or that there are none."""
    moments = [card.last_good_at for card in outside if card.last_good_at is not None]
    ages = [_old((now - moment).total_seconds()) for moment in moments]
    without = len(outside) - len(moments)
    if without == len(outside):
        return "there is no good copy" if len(outside) == 1 else "none of them has a good copy"
    if without:
        return f"{format_count(without)} of them {'has' if without == 1 else 'have'} no good copy"
    if len(ages) == 1:
        return f"its newest good copy is {ages[0]} old"
    if len(ages) > _NAMED:
        return f"each has a good copy, the oldest {_old((now - min(moments)).total_seconds())} old"
    return f"their newest good copies are {', '.join(ages[:-1])} and {ages[-1]} old"


def _incomplete(cards: Sequence[JobCard]) -> list[Words]:
    warned = [card for card in cards if kind_of(card) == "warning"]
    if not warned:
        return []
    if len(warned) > 1:
        return [Words(f" {len(warned)} jobs are protected but left files out.")]
    return [Words(" "), Words(warned[0].job, is_name=True), Words(" is protected but left files out.")]


_DOING: dict[Kind, tuple[str, str]] = {
    "failed": ("is failing", "are failing"),
    "interrupted": ("was interrupted", "were interrupted"),
    "lost": ("is out of reach", "are out of reach"),
    "missed": ("is overdue", "are overdue"),
    "none": ("has never run", "have never run"),
    "running": ("is running", "are running"),
    "queued": ("is queued", "are queued"),
    "skipped": ("was skipped", "were skipped"),
    "cancelled": ("was cancelled", "were cancelled"),
    "warning": ("left files out", "left files out"),
    "fine": ("has no good copy", "have no good copy"),
}


def _saved(card: JobCard) -> str:
    took = f" in {format_duration(card.duration_s)}" if card.duration_s is not None else ""
    if card.bytes_added:
        return f"Saved {format_bytes(card.bytes_added)}{took}."
    if card.files_total is not None:
        files = f"{format_count(card.files_total)} {'file' if card.files_total == 1 else 'files'}"
        return f"Nothing had changed in {files}{f', checked{took}' if took else ''}."
    return f"Succeeded{took}."


_THEN = {"is": "was", "are": "were", "has": "had", "have": "had"}


def _past(text: str) -> str:
    return re.sub(r"\b(?:is|are|has|have)\b", lambda found: _THEN[found[0]], text)


def _plain(text: str) -> tuple[Words, ...]:
    return (Words(text),)


def _capital(text: str) -> str:
    """First letter up, unless the word is a name or path, which stay as they were typed."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def _lower(text: str) -> str:
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first.isalpha() and first[1:].islower() else text


def _ended(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."
