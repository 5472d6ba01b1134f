"""`status`: what goes on now, and how every job's last run ended."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from backup_ops import starter, verdict
from backup_ops.bar import words_of_progress
from backup_ops.card import JobCard
from backup_ops.cli.cells import printable
from backup_ops.cli.shell import Shell
from backup_ops.cli.tables import Column, Row, print_table
from backup_ops.quantity import format_bytes, format_duration
from backup_ops.queue import Queue, Request


def status(shell: Shell, _: Namespace) -> int:
    manager = shell.ops.manager
    manager.settle()
    now = datetime.now(UTC)
    cards = manager.cards()
    problems = manager.config_problems()
    requests = Queue(shell.home).requests()
    running = [request for request in requests if starter.is_running(shell.home, request.run_id)]
    queued = [request for request in requests if request not in running]
    history_problem = manager.history_problem
    said = verdict.verdict(cards, now, history_problem)
    is_known = bool(cards) or not problems
    if shell.as_json:
        shell.say_object(
            {
                "home": str(shell.home.path),
                "at": now,
                "tone": said.tone if is_known else None,
                "verdict": said.headline if is_known else None,
                "detail": said.detail_text if is_known else None,
                "jobs_total": said.jobs if is_known else None,
                "jobs_protected": said.protected if is_known and history_problem is None else None,
                "problems": [str(problem) for problem in problems] + ([history_problem] if history_problem else []),
                "running": [_running(shell, request) for request in running],
                "queued": [_queued(shell, request) for request in queued],
                "jobs": [card.as_dict() for card in cards],
            }
        )
        return 2 if problems or history_problem else 0
    if problems:
        shell.say(f"jobs.yaml cannot be used, so nothing new can start: {len(problems)} of its lines need you.")
        for problem in problems:
            shell.complain(str(problem), is_prefixed=False)
    else:
        shell.say_sentence(printable(said.headline))
        shell.say_sentence(printable(said.detail_text))
    if requests:
        shell.say()
        _print_under_way(shell, running, queued, now)
    if cards:
        shell.say()
        _print_jobs(shell, cards, now)
    return 2 if problems or history_problem else 0


def _running(shell: Shell, request: Request) -> dict[str, Any]:
    progress = shell.ops.manager.progress_of(request.run_id)
    return {
        "run_id": request.run_id,
        "job": request.job_name,
        "queued_at": request.queued_at,
        "progress": asdict(progress) if progress else None,
    }


def _queued(shell: Shell, request: Request) -> dict[str, Any]:
    return {
        "run_id": request.run_id,
        "job": request.job_name,
        "queued_at": request.queued_at,
        "priority": request.priority,
        "waits_for": starter.waits_for(shell.home, request),
    }


def _print_under_way(shell: Shell, running: list[Request], queued: list[Request], now: datetime) -> None:
    columns = [Column("NOW"), Column("JOB", is_flexible=True), Column("SINCE"), Column("RUN")]
    rows = []
    for request in running:
        progress = shell.ops.manager.progress_of(request.run_id)
        note = words_of_progress(progress) if progress else "starting"
        if progress is not None and progress.fraction is not None:
            note = f"{progress.fraction:.0%} {note}"
        rows.append(Row(["running", request.job_name, verdict.ago(request.queued_at, now), request.run_id], note))
    for request in queued:
        note = starter.waits_for(shell.home, request) or "starts now"
        rows.append(Row(["queued", request.job_name, verdict.ago(request.queued_at, now), request.run_id], note))
    print_table(shell, columns, rows)


def _print_jobs(shell: Shell, cards: list[JobCard], now: datetime) -> None:
    columns = [
        Column("JOB", is_flexible=True),
        Column("STATE"),
        Column("ENDED"),
        Column("TOOK", align="right"),
        Column("GOOD COPY"),
        Column("SIZE", align="right", is_optional=True),
        Column("ERRORS", align="right", is_optional=True),
        Column("SCHEDULE", is_optional=True),
    ]
    rows = []
    for card in cards:
        words = verdict.sentence(card, now)
        is_urgent = verdict.needs_attention(card)
        rows.append(
            Row(
                [
                    card.job,
                    "never" if card.state == "none" else card.state,
                    verdict.ago(card.finished_at, now) if card.finished_at else "",
                    format_duration(card.duration_s) if card.duration_s is not None else "",
                    verdict.ago(card.last_good_at, now) if card.last_good_at else "none",
                    format_bytes(card.bytes_total) if card.bytes_total is not None else "",
                    f"{card.errors_unresolved:,}" if card.errors_unresolved else "",
                    card.schedule_text or "",
                ],
                f"{words.what} {words.remedy}".strip() if is_urgent else "",
            )
        )
    print_table(shell, columns, rows)
