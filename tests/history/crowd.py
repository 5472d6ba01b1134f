"""A crowd over one home: runners that write, and a dashboard, notebooks, shells and witnesses that ask, all at once.

`gather(home, crowd, seconds)` starts a process for each of them, lets them go together and returns what they saw.
`python crowd.py ROLE HOME NOTES CROWD SECONDS NUMBER` is one of them: it says `ready`, waits for a line on stdin, does
its part and writes its notes. Only who asks imports DuckDB: a runner of the product does not either.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = ("job_cards", "runs", "errors", "severity_breakdown", "error_statistics")


@dataclass(frozen=True)
class Crowd:
    """How many of each, and how often each of them does its thing in a second."""

    runners: int = 20
    events_per_s: float = 20.0
    dashboard_threads: int = 8
    dashboard_per_s: float = 5.0
    notebook_per_s: float = 1.0
    long_query_s: float = 20.0
    long_pause_s: float = 10.0
    """The second notebook asks for so long at a stretch, and then pauses."""
    shells_per_s: float = 1.0
    witnesses: int = 2
    witness_per_s: float = 2.0
    """A witness writes an event and asks for it at once."""

    @property
    def roles(self) -> list[tuple[str, int]]:
        return [
            *(("runner", number) for number in range(self.runners)),
            *(("witness", number) for number in range(self.witnesses)),
            ("dashboard", 0), ("notebook", 0), ("long", 0), ("shell", 0),
        ]  # fmt: skip


@dataclass
class Notes:
    """What was seen: seconds of each call and the age of the newest event in its answer, by kind of call."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    ages_s: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    """Own events that were not in the answer to a question asked after they were written."""
    witnessed: int = 0
    ingests: int = 0
    cpu_s: float = 0.0

    @contextlib.contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Nobody in a crowd may fail, and one that does goes on: all failures are to be seen, not the first."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.failures.append(f"{kind}: {type(error).__name__}: {error}")
        else:
            self.seconds.setdefault(kind, []).append(time.perf_counter() - began)

    def age(self, kind: str, newest: datetime | None) -> None:
        if newest is not None:
            self.ages_s.setdefault(kind, []).append((datetime.now(UTC) - newest).total_seconds())

    def add(self, other: Notes) -> None:
        for mine, theirs in ((self.seconds, other.seconds), (self.ages_s, other.ages_s)):
            for kind, values in theirs.items():
                mine.setdefault(kind, []).extend(values)
        for name in ("failures", "written", "unseen"):
            getattr(self, name).extend(getattr(other, name))
        self.witnessed += other.witnessed
        self.ingests += other.ingests
        self.cpu_s += other.cpu_s


def gather(home: Path, crowd: Crowd, seconds: float) -> Notes:
    """Everybody's notes together. A process that did not do its part to the end is a failure."""
    everybody = Notes()
    folder = home.parent / "notes"
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        processes: list[tuple[str, subprocess.Popen[str], Path]] = []
        for role, number in crowd.roles:
            notes = folder / f"{role}-{number}.json"
            arguments = [role, str(home), str(notes), json.dumps(asdict(crowd)), str(seconds), str(number)]
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, __file__, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT), "BACKUP_OPS_HOME": str(home)},
                )
            )
            stack.callback(process.kill)
            processes.append((role, process, notes))
        for role, process, _ in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{role} did not start: {process.communicate()[1]}")
        for _, process, _ in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for role, process, notes in processes:
            _, errors = process.communicate(timeout=seconds + 90)
            if process.returncode or not notes.exists():
                everybody.failures.append(f"{role} ended with {process.returncode}: {errors[-2000:]}")
                continue
            if errors:
                everybody.failures.append(f"{role} said: {errors[-2000:]}")
            everybody.add(Notes(**json.loads(notes.read_text(encoding="utf-8"))))
    return everybody


# --- the roles


class Member:
    """One of the crowd: where, for how long, and its notes."""

    def __init__(self, home: Path, crowd: Crowd, seconds: float, number: int) -> None:
        self.home = home
        self.crowd = crowd
        self.seconds = seconds
        self.number = number
        self.notes = Notes()
        self.until = 0.0

    def start(self) -> None:
        """Waits for the others, so that nobody's start-up is measured."""
        print("ready", flush=True)
        sys.stdin.readline()
        self.until = time.monotonic() + self.seconds

    def beats(self, per_s: float, *, first_after_s: float = 0.0) -> Iterator[None]:
        """So many times a second until the time is over; a beat that was missed is not made up for."""
        due = time.monotonic() + first_after_s
        while (now := time.monotonic()) < self.until:
            if now < due:
                time.sleep(min(due, self.until) - now)
                if due >= self.until:
                    return
            yield
            due = max(due + 1 / per_s, time.monotonic())

    def count_ingests(self) -> None:
        from backup_ops.history import ingest

        def reached(stage: str) -> None:
            self.notes.ingests += stage == "committed"

        ingest.reached = reached


def runner(me: Member) -> None:
    """What a runner tells: that its run began, events and errors of it, that it ended; then the next run."""
    from backup_ops.home import Home
    from backup_ops.journal import Journal
    from backup_ops.run import Run

    journal = Journal(Home(me.home).journal)
    job = f"job-{me.number:02}"

    def append(kind: str, fields: dict[str, object], *, durable: bool = False) -> None:
        with me.notes.timed("runner: append"):
            me.notes.written.append(journal.append(kind, fields, durable=durable))

    me.start()
    for beat, _ in enumerate(me.beats(me.crowd.events_per_s, first_after_s=me.number / 400)):
        now = datetime.now(UTC)
        if beat % 100 == 0:
            run = Run(
                run_id=f"{now:%Y%m%dT%H%M%S}-{me.number:03x}{beat % 4096:03x}", job=job, job_uid=job, engine="rclone",
                repository="mirror", queued_at=now, started_at=now, outcome="running", attempts=1,
            )  # fmt: skip
            append("run_started", run.as_row(), durable=True)
        elif beat % 100 == 99:
            end = {"finished_at": now, "duration_s": (now - run.started_at).total_seconds(), "outcome": "succeeded"}
            append("run_finished", run.as_row() | end | {"bytes_total": 1000 + beat}, durable=True)
        elif beat % 2:
            fields = {
                "severity": "LOW",
                "component": "storage",
                "error_type": "network_error",
                "message": f"lost {beat}",
            }
            append("error_recorded", fields | {"job": job, "job_uid": job, "run_id": run.run_id})
        else:
            append("files_copied", {"job": job, "run_id": run.run_id, "files": beat})
    journal.close()


def dashboard(me: Member) -> None:
    import backup_ops

    me.count_ingests()
    ops = backup_ops.open(me.home)
    history = ops.manager.history
    ask: dict[str, Callable[[], object]] = {
        "job_cards": lambda: history.rows("job_cards"),
        "runs": lambda: ops.runs(limit=50),
        "errors": lambda: ops.errors(limit=50),
        "severity_breakdown": ops.severity_breakdown,
        "error_statistics": ops.error_statistics,
    }
    import pandas  # the first frame would load it, on a clock of ours

    # Each question once before the crowd comes: a dashboard that has stood there for a while.
    for question in ask.values():
        question()

    def look(thread: int) -> None:
        first = thread / me.crowd.dashboard_threads / me.crowd.dashboard_per_s
        for beat, _ in enumerate(me.beats(me.crowd.dashboard_per_s, first_after_s=first)):
            name = QUESTIONS[(thread + beat) % len(QUESTIONS)]
            with me.notes.timed(f"dashboard: {name}"):
                found = ask[name]()
                if name == "errors":
                    assert isinstance(found, pandas.DataFrame)
                    if len(found):
                        me.notes.age("dashboard: errors", found["occurred_at"].iloc[0].to_pydatetime())

    me.start()
    threads = [threading.Thread(target=look, args=(number,)) for number in range(me.crowd.dashboard_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ops.close()


def notebook(me: Member) -> None:
    import backup_ops

    me.count_ingests()
    with backup_ops.open(me.home) as ops:
        select = "SELECT job, count(*) AS n, max(occurred_at) AS newest FROM events GROUP BY job ORDER BY n DESC"
        ops.sql(select)
        me.start()
        for _ in me.beats(me.crowd.notebook_per_s):
            with me.notes.timed("notebook: sql"):
                ops.sql(select)


def long(me: Member) -> None:
    """Keeps two threads of DuckDB busy, from within the block that keeps every ingest out."""
    import duckdb

    import backup_ops

    me.count_ingests()
    with backup_ops.open(me.home) as ops:
        with ops.reading():
            pass
        me.start()
        while (left := me.until - time.monotonic()) > 0:
            with me.notes.timed("notebook: long query, until its first row"), ops.reading() as connection:
                connection.execute("SELECT count(*) FROM events").fetchall()
                begun = time.monotonic()
                ender = threading.Timer(min(me.crowd.long_query_s, left), connection.interrupt)
                ender.start()
                with contextlib.suppress(duckdb.InterruptException):
                    connection.execute("SELECT sum(hash(a.range * b.range)) FROM range(10000000) a, range(1000000) b")
                ender.join()
            # What was asked for is a long answer: of its time only what the others added is worth a note.
            kind = "notebook: long query, until its first row"
            if kind in me.notes.seconds:
                me.notes.seconds[kind][-1] -= time.monotonic() - begun
            time.sleep(max(0.0, min(me.crowd.long_pause_s, me.until - time.monotonic())))


def shell(me: Member) -> None:
    me.start()
    for beat, _ in enumerate(me.beats(me.crowd.shells_per_s)):
        words = ["runs", "--limit", "5"] if beat % 2 else ["errors", "--limit", "5"]
        with me.notes.timed("shell: a call"):
            done = subprocess.run(
                [sys.executable, "-m", "backup_ops", "--home", str(me.home), *words, "--json"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0 and not done.stderr, f"exit code {done.returncode}: {done.stderr}"
            json.loads(done.stdout)


def witness(me: Member) -> None:
    from backup_ops.history import History
    from backup_ops.home import Home
    from backup_ops.journal import Journal

    me.count_ingests()
    home = Home(me.home)
    journal, history = Journal(home.journal), History(home)
    history.rows("runs", limit=1)
    me.start()
    for _ in me.beats(me.crowd.witness_per_s, first_after_s=me.number / 7):
        event_id = journal.append("witnessed", {"job": "witness"})
        me.notes.written.append(event_id)
        with me.notes.timed("witness: own event asked for"), history.reading() as cursor:
            # Ids sort by time: of a large history DuckDB reads the newest rows only.
            found = cursor.execute("SELECT count(*) FROM events WHERE event_id = $id", {"id": event_id}).fetchone()
            newest = cursor.execute(
                "SELECT max(occurred_at) FROM events WHERE event_id > $since AND job IS DISTINCT FROM 'witness'",
                {"since": f"{(int(time.time()) - 60) * 1000:012x}"[:8]},
            ).fetchone()
            me.notes.witnessed += 1
            if found != (1,):
                me.notes.unseen.append(event_id)
            if newest and newest[0]:
                me.notes.age("witness: events", newest[0].replace(tzinfo=UTC))
    journal.close()
    history.close()


def lost_and_doubled(home: Path, written: list[str]) -> tuple[int, int]:
    """How many of these events the history does not have, and how many it has more than once."""
    from backup_ops.history import History
    from backup_ops.home import Home

    history = History(Home(home))
    with history.reading() as cursor:
        cursor.execute("CREATE TEMP TABLE written AS SELECT unnest($ids) AS id", {"ids": written})
        rows = cursor.execute(
            "SELECT id FROM written JOIN (SELECT event_id AS id FROM events UNION ALL SELECT error_id FROM errors)"
            " USING (id)"
        ).fetchall()
        cursor.execute("DROP TABLE written")
    history.close()
    found = Counter(event_id for (event_id,) in rows)
    return len(set(written) - found.keys()), sum(count > 1 for count in found.values())


if __name__ == "__main__":
    role, folder, target, wanted, duration, place = sys.argv[1:]
    member = Member(Path(folder), Crowd(**json.loads(wanted)), float(duration), int(place))
    before = os.times()
    {"runner": runner, "dashboard": dashboard, "notebook": notebook, "long": long, "shell": shell, "witness": witness}[
        role
    ](member)
    after = os.times()
    member.notes.cpu_s = sum(after[:4]) - sum(before[:4])
    Path(target).write_text(json.dumps(asdict(member.notes)), encoding="utf-8")
