"""A home that has all there can be: what each of its lines became in the history, and which files hold it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import damages
import duckdb

from backup_ops import event
from backup_ops.errors import HistoryDamaged
from backup_ops.history import History, ledger, segments
from backup_ops.home import Home
from backup_ops.journal import Journal
from backup_ops.queue import Queue, Request

NOW = datetime.now(UTC)
KILL_WHEN_COMMITTED = """
import os, signal, sys
from backup_ops.history import History, ingest
from backup_ops.home import Home
ingest.reached = lambda stage: stage == "committed" and os.kill(os.getpid(), signal.SIGKILL)
History(Home(sys.argv[1])).ingest(force=True)
"""
FACTS = "SELECT event_id, kind, occurred_at, job, run_id, host, data FROM events"
ERRORS = "SELECT * EXCLUDE (resolved, resolved_at, resolved_by, resolution_note) FROM errors"


@dataclass
class Template:
    """A home that has all there can be, and what each of its lines became in the history."""

    home: Home
    older_index: bytes = b""
    lines: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, tuple] = field(default_factory=dict)
    runs: dict[str, list[tuple]] = field(default_factory=dict)
    """Of each run what the history may say of it: as it ended, and as it was queued."""
    snapshots: dict[str, tuple] = field(default_factory=dict)
    resolved: dict[str, str] = field(default_factory=dict)
    """Of each resolution the error's id."""
    folded: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    """The digest of each file."""


def files_of(home: Home) -> dict[str, str]:
    found = {}
    for path in sorted(home.path.rglob("*")):
        if path.is_file() and path.parent != home.locks:
            found[str(path.relative_to(home.path))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def whole_segments(home: Home) -> Iterator[Path]:
    for path in sorted(home.segments.glob("*.parquet")):
        found = segments.parse_name(path.name)
        if found is not None and hashlib.sha256(path.read_bytes()).hexdigest() == found.sha256:
            yield path


def lines_in(*paths: Path) -> dict[str, bytes]:
    """The lines of journals and whole segments that are events, by their ids."""
    lines = [line for path in paths if path.suffix == ".jsonl" for line in path.read_bytes().split(b"\n")[:-1]]
    packed = [str(path) for path in paths if path.suffix == ".parquet"]
    if packed:
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT line FROM read_parquet($packed)", {"packed": packed}).fetchall()
            lines += [text.encode() for (text,) in rows]
    found = {}
    for line in lines:
        with contextlib.suppress(event.Undecodable):
            found[event.decode(line)["id"]] = line
    return found


def replaced_by(whole: Iterable[Path]) -> set[str]:
    """What whole segments say of themselves: they were made of these."""
    with duckdb.connect() as connection:
        rows = [
            connection.execute(
                "SELECT value FROM parquet_kv_metadata($path) WHERE key = 'replaces'", {"path": str(path)}
            ).fetchall()
            for path in whole
        ]
    return {name for found in rows for (value,) in found for name in value.decode().split(",")} - {""}


def held(home: Home) -> dict[str, bytes]:
    return lines_in(*home.journal.glob("*.jsonl"), *whole_segments(home))


def sealed(lines: Iterable[bytes]) -> tuple[set[str], set[str]]:
    """The segments that must be there, and those that were replaced, as lines of a ledger say."""
    there: set[str] = set()
    replaced: set[str] = set()
    for fields in {fields["id"]: fields for fields in map(event.decode, lines)}.values():
        if fields["kind"] == ledger.SEGMENT_SEALED:
            there -= set(fields["replaces"])
            replaced |= set(fields["replaces"])
            there.add(fields["segment"])
    return there, replaced


def ask(history: History, query: str) -> list[tuple]:
    """As `History` says of `reading`: when damage shows itself during a query, the same block will work."""
    try:
        with history.reading() as cursor:
            return cursor.execute(query).fetchall()
    except HistoryDamaged:
        with history.reading() as cursor:
            return cursor.execute(query).fetchall()


def facts_of(history: History) -> list[tuple]:
    return [(*row[:-1], json.loads(row[-1])) for row in ask(history, FACTS)] + ask(history, ERRORS)


# --- how it comes about


def write_journal(home: Home, at: datetime, size: int = 3) -> None:
    journal = Journal(home.journal)
    for number in range(size):
        at += timedelta(seconds=7)
        run_id = f"{at:%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"
        about = {"run_id": run_id, "job": "photos", "job_uid": "photos"}
        journal.append("run_queued", about | {"queued_at": at.isoformat()}, at=at)
        row = about | {"outcome": "succeeded", "bytes_total": number, "finished_at": at.isoformat()}
        journal.append("run_finished", row, at=at)
        kept = {"snapshot_id": run_id, "job": "photos", "repository": "mirror", "files": number}
        journal.append("snapshot_created", kept, at=at)
        wrong = {"severity": "HIGH", "error_type": "network_error", "message": f"no {number} at {at}", "job": "photos"}
        error_id = journal.append("error_recorded", wrong | {"stack_trace": "line\n" * 20}, at=at)
        if number % 2:
            said = {"error_id": error_id, "resolved": True, "resolved_by": "ann", "resolution_note": f"note {number}"}
            journal.append("error_resolved", said, at=at)
        journal.append("tick", {"number": number, "text": os.urandom(20).hex()}, at=at)
    journal.close()


def write_queue(home: Home) -> None:
    """One run that was just started, and one that is to be cancelled."""
    for suffix in (".claim", ".cancel"):
        request = Request(
            run_id=f"{NOW:%Y%m%dT%H%M%S}-{os.urandom(3).hex()}", job_name="photos", job_uid="photos", engine="rclone",
            repository_name="mirror", repository_url=str(home.path / "mirror"), priority=0, trigger="manual", by="ann",
            queued_at=NOW, config_version="1", max_running=2, engine_path=None, force=False, config={},
        )  # fmt: skip
        Queue(home).submit(request)
        text = "1" if suffix == ".claim" else json.dumps({"by": "ann", "reason": "cancelled by ann"})
        (home.queue / f"{request.run_id}{suffix}").write_text(text)


def write_running(home: Home) -> Journal:
    """A run whose runner lives: as long as its journal is not closed."""
    write_queue(home)
    run_id = next(path for path in home.queue.glob("*.claim")).stem
    journal = Journal(home.journal, name=f"run-{run_id}")
    journal.append("run_started", {"run_id": run_id, "job": "photos", "job_uid": "photos"})
    (home.runs / run_id).mkdir()
    (home.runs / run_id / "progress.json").write_text('{"phase": "copying", "bytes_done": 5, "bytes_total": 10}')
    return journal


def build(folder: Path) -> Template:
    home = Home(folder / "home")
    home.make()
    (folder / "source").mkdir()
    (home.path / "jobs.yaml").write_text(
        f"version: 1\nrepositories:\n  mirror: {{engine: rclone, url: {folder / 'mirror'}}}\n"
        f"jobs:\n  photos: {{source: {folder / 'source'}, repository: mirror}}\n"
    )
    made, history = Template(home), History(home)
    for month in range(6, 0, -1):
        for _ in range(2 if month in (2, 5) else 1):  # two segments of a month are merged, and the ledger tells of it
            write_journal(home, NOW.replace(day=2) - timedelta(days=30 * month + 5), 4)
            history.compact(everything=True)
        if month == 3:
            history.close()
            made.older_index = home.history.read_bytes()
    for number in range(12):
        write_journal(home, NOW.replace(day=1) + timedelta(minutes=number), 2)
        if number < 2:
            history.compact(everything=True)
        elif number == 5:
            assert history.ingest(force=True)
            history.close()
        elif number == 8:
            made.folded = set(held(home))
            killed = subprocess.run(
                [sys.executable, "-c", KILL_WHEN_COMMITTED, home.path], cwd=os.getcwd(), check=False
            )
            assert killed.returncode == -signal.SIGKILL
    for number in range(3):
        (home.logs / f"run-{number}.log.zst").write_bytes(random.Random(number).randbytes(3000))
    assert Path(f"{home.history}.wal").stat().st_size > 100
    assert len(list(home.segments.iterdir())) >= 6 and len(damages.journals_of(home)) == 10
    made.files = files_of(home)
    made.lines = held(home)
    learn(made, folder)
    return made


def learn(made: Template, folder: Path) -> None:
    """What the undamaged home says, checked against what was written."""
    home = Home(folder / "asked")
    shutil.copytree(made.home.path, home.path)
    history = History(home)
    made.facts = {row[0]: row for row in facts_of(history)}
    assert made.facts.keys() == made.lines.keys()
    for event_id, line in made.lines.items():
        fields, row = event.decode(line), made.facts[event_id]
        if fields["kind"] == "error_recorded":
            assert fields["message"] in row and fields["stack_trace"] in row
        else:
            assert row[1] == fields["kind"] and row[-1].items() <= fields.items() and len(row[-1]) == len(fields) - 4
            if fields["kind"] == "error_resolved":
                made.resolved[event_id] = fields["error_id"]
    made.runs = {row[0]: [row] for row in ask(history, "SELECT * FROM runs")}
    made.snapshots = {row[0]: row for row in ask(history, "SELECT * FROM snapshots")}
    assert len(made.runs) == len(made.snapshots) > 40
    history.close()
    queued = Home(folder / "queued")
    queued.make()
    text = b"".join(line + b"\n" for line in made.lines.values() if b'"run_queued"' in line)
    (queued.journal / "queued.jsonl").write_bytes(text)
    history = History(queued)
    for row in ask(history, "SELECT * FROM runs"):
        made.runs[row[0]].append(row)
    history.close()
    shutil.rmtree(home.path)
