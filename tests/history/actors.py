"""Processes that work on one home at once: `python actors.py ROLE HOME SEED SECONDS [FAULT] [STAGE]`.

A writer notes each acknowledged event id in a file of its own, after the append returned; now and then it begins a new
journal, so that there are ended ones. Who folds, compacts or rebuilds kills itself, with SIGKILL, at its STAGE, at a
time of its choice. A FAULT breaks it on purpose, to prove that the test would see it.
"""

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from backup_ops.errors import HistoryBusy
from backup_ops.history import History, compaction, ingest, intake, rebuild
from backup_ops.home import Home
from backup_ops.journal import Journal

STAGES = {
    "fold": ("attached", "folded", "inserted", "offsets", "committed", "detached"),
    "compact": ("staged", "sealed", "entered", "held", "unlinking", "removing"),
    "rebuild": ("built", "aside", "told", "swapped"),
}


def write(home: Home, chance: random.Random, seconds: float) -> None:
    """Also asks, now and then, whether it sees what it wrote just before."""
    journal, history = Journal(home.journal), History(home)
    until = time.monotonic() + seconds
    with open(home.path / f"acknowledged-{os.getpid()}", "a", encoding="ascii", buffering=1) as noted:
        number = 0
        while time.monotonic() < until:
            number += 1
            kind = chance.choice(["tick", "error_recorded"])
            fields = {"severity": "LOW", "error_type": "t", "message": "m", "number": number}
            event_id = journal.append(kind, fields)
            noted.write(f"{event_id}\n")
            if number % 20 == 0:
                with history.reading() as cursor:
                    table, key = ("events", "event_id") if kind == "tick" else ("errors", "error_id")
                    cursor.execute(f"SELECT count(*) FROM {table} WHERE {key} = $id", {"id": event_id})
                    found = cursor.fetchone()
                assert found == (1,), f"{event_id} was written and is seen {found} times"
            if chance.random() < 0.02:
                journal.close()
            time.sleep(chance.uniform(0, 0.004))


def read(home: Home, chance: random.Random, seconds: float) -> None:
    """Nothing is ever seen twice, and what was seen once stays."""
    history = History(home)
    until, before = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        with history.reading() as cursor:
            total, different = cursor.execute(
                "SELECT count(*), count(DISTINCT id) FROM"
                " (SELECT event_id AS id FROM events UNION ALL SELECT error_id FROM errors)"
            ).fetchone()
        assert total == different >= before, f"{total} rows, {different} different, {before} seen before"
        before = total
        time.sleep(chance.uniform(0, 0.05))


def keep_up(role: str, home: Home, chance: random.Random, seconds: float, stage: str | None, is_broken: bool) -> None:
    history = History(home)
    until, times = time.monotonic() + seconds, 1 if is_broken or role != "fold" else chance.randrange(1, 6)

    def reached(here: str) -> None:
        nonlocal times
        if here == stage:
            times -= 1
            if times <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    ingest.reached = compaction.reached = rebuild.reached = reached
    while time.monotonic() < until:
        if role == "fold":
            history.ingest(force=True)
        elif role == "compact":
            history.compact(everything=True)
        else:
            with contextlib.suppress(HistoryBusy):
                history.rebuild()
        time.sleep(chance.uniform(0, 0.02))


def break_on_purpose(fault: str) -> None:
    if fault == "forgets":
        stage_right = compaction._stage

        def stage_wrong(cursor, ended, this_month):
            staged = stage_right(cursor, ended, this_month)
            cursor.execute("DELETE FROM moving WHERE hash(event_id) % 2 = 0")
            return staged

        compaction._stage = stage_wrong
        return
    write_right = ingest.write

    def write_wrong(cursor, sifted, *, into, known_in, then):
        if fault == "loses":
            sifted.facts = sifted.facts[: len(sifted.facts) // 2]
            return write_right(cursor, sifted, into=into, known_in=known_in, then=then)
        done = write_right(cursor, sifted, into=into, known_in=known_in)
        ingest.reached("inserted")
        then()
        return done

    ingest.write = write_wrong
    if fault == "doubles":
        intake._known = lambda cursor, ids, known_in: {}


if __name__ == "__main__":
    role, folder, seed, seconds, *more = sys.argv[1:]
    is_broken = bool(more) and more[0] in ("doubles", "loses", "forgets")
    if is_broken:
        break_on_purpose(more.pop(0))
    arguments = (Home(Path(folder)), random.Random(seed), float(seconds))
    if role in STAGES:
        keep_up(role, *arguments, more[0] if more else None, is_broken)
    else:
        {"write": write, "read": read}[role](*arguments)
