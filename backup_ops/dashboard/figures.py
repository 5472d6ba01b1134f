"""The six figures under the verdict: a number, its scope, and the job it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backup_ops import verdict
from backup_ops.card import JobCard
from backup_ops.quantity import format_bytes, format_count


@dataclass(frozen=True)
class Figure:
    """`page` makes the note a link."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    job: str | None = None
    page: str | None = None


def figures(cards: Sequence[JobCard], slots: int, now: datetime, *, is_known: bool = True) -> tuple[Figure, ...]:
    """Of all cards; a number that is not known is said to be so, never shown as 0. Not `is_known`: nothing of the past
    is."""
    if not is_known:
        names = ("Protected", "Oldest last good backup", "Last run", "In good copies", "Unresolved errors")
        unknown = [Figure(name, "not known") for name in names]
        return (*unknown[:2], _running(cards, slots), *unknown[2:])
    return (
        _protected(cards),
        _oldest(cards, now),
        _running(cards, slots),
        _last(cards, now),
        _size(cards),
        _errors(cards),
    )


def _protected(cards: Sequence[JobCard]) -> Figure:
    safe = sum(verdict.is_protected(card) for card in cards)
    outside = len(cards) - safe
    return Figure(
        "Protected",
        format_count(safe),
        f"of {format_count(len(cards))}",
        f"{format_count(outside)} outside, listed first" if outside else "none outside",
    )


def _oldest(cards: Sequence[JobCard], now: datetime) -> Figure:
    known = [(card.last_good_at, card.job) for card in cards if card.last_good_at is not None]
    if not known:
        return Figure("Oldest last good backup", "none", note="nothing has succeeded yet")
    moment, job = min(known)
    missing = len(cards) - len(known)
    return Figure(
        "Oldest last good backup",
        verdict.age((now - moment).total_seconds()),
        job=job,
        note=f"{missing} with none" if missing else "",
    )


def _running(cards: Sequence[JobCard], slots: int) -> Figure:
    running = [card.job for card in cards if card.state == "running"]
    queued = sum(card.state == "queued" for card in cards)
    return Figure(
        "Running",
        str(len(running)),
        f"of {slots} {'slot' if slots == 1 else 'slots'}",
        f"{queued} queued",
        job=running[0] if running else None,
    )


def _last(cards: Sequence[JobCard], now: datetime) -> Figure:
    ended = [(card.finished_at, card) for card in cards if card.finished_at is not None]
    if not ended:
        return Figure("Last run", "none", note="nothing has run yet")
    moment, card = max(ended, key=lambda pair: pair[0])
    return Figure("Last run", verdict.ago(moment, now), job=card.job, note=card.state)


def _size(cards: Sequence[JobCard]) -> Figure:
    sizes = [card.sizes[-1] for card in cards if card.sizes]
    if not sizes:
        return Figure("In good copies", "none", note="nothing has succeeded yet")
    value, _, unit = format_bytes(sum(sizes)).partition(" ")
    return Figure(
        "In good copies", f"{value} {unit}", note=f"newest of {len(sizes)} {'job' if len(sizes) == 1 else 'jobs'}"
    )


def _errors(cards: Sequence[JobCard]) -> Figure:
    open_errors = sum(card.errors_unresolved for card in cards)
    jobs = sum(card.errors_unresolved > 0 for card in cards)
    note = f"in {jobs} {'job' if jobs == 1 else 'jobs'}" if jobs else "see those of before"
    return Figure("Unresolved errors", format_count(open_errors), note=note, page="errors")
