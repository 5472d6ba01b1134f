"""Damage while five processes work: none of them stops, and what lies in undamaged files is there in the end."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import damages
import duckdb
import pytest
from damaged_home import THEIRS
from told import Told
from whole_home import held, lines_in, whole_segments

from backup_ops.history import History, ledger, segments
from backup_ops.home import Home

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))


@dataclass
class Noted:
    number: int
    journal: str
    began: float


class Storm:
    """Damages at random moments, and which events nobody can be blamed for any more."""

    TARGETS = ("index",) * 5 + ("wal",) * 3 + ("journal",) * 4 + ("ledger", "locks", "folders", "segment")

    def __init__(self, home: Home, chance: random.Random) -> None:
        self.home, self.chance = home, chance
        self.done: Counter[str] = Counter()
        self.spoiled: dict[str, float] = {}
        """Of each damaged journal when it was damaged last."""
        self.excused: set[str] = set()

    def strike(self) -> None:
        target = self.chance.choice(self.TARGETS)
        ways = [one for one in damages.DAMAGES if one.target == target and one.way not in ("swapped", "renamed")]
        way = self.chance.choice(ways)
        places = way.aim(self.home)
        if not places:
            return
        place = self.chance.choice(places)
        if way.target == "segment":
            if sum(count for what, count in self.done.items() if what.startswith("segment")) >= 3:
                return  # or there would be little left to be blamed for
            with contextlib.suppress(duckdb.Error):
                self.excused |= lines_in(place).keys()
        try:
            way.strike(place, self.chance)
        except OSError:
            return  # merged, folded or compacted meanwhile; or somebody makes a file in the folder that goes
        if way.target == "journal":
            self.spoiled[place.name] = time.time()
        self.done[str(way)] += 1

    def noted(self) -> dict[str, Noted]:
        found = {}
        for path in self.home.path.parent.glob("noted-*"):
            for line in path.read_text(encoding="ascii").splitlines():
                event_id, number, journal, began = line.split()
                found[event_id] = Noted(int(number), journal, float(began))
        return found

    def must_be_there(self) -> dict[str, Noted]:
        return {
            event_id: one
            for event_id, one in self.noted().items()
            if event_id not in self.excused and one.began > self.spoiled.get(one.journal, 0.0)
        }


def check_after_storm(storm: Storm, history: History) -> None:
    now, noted, must = held(storm.home), storm.noted(), storm.must_be_there()
    _, rows = history.sql_rows(
        "SELECT event_id, kind, data FROM events UNION ALL SELECT error_id, 'error_recorded', details FROM errors"
    )
    ids = Counter(event_id for event_id, _, _ in rows)
    lost, doubled = must.keys() - ids.keys(), [one for one, count in ids.items() if count > 1]
    assert not lost and not doubled, f"{len(lost)} lost, {len(doubled)} doubled of {len(must)}"
    assert now.keys() <= ids.keys()
    for event_id, kind, data in rows:
        if event_id in THEIRS:
            assert kind == "foreign"
        elif kind != ledger.SEGMENT_SEALED:
            assert event_id in noted, f"{event_id} was never written"
            assert json.loads(data)["number"] == noted[event_id].number


@pytest.mark.timeout(120 + 20 * SCALE)
def test_damage_under_five_working_processes(tmp_path, chance):
    for episode in range(max(1, SCALE // 10)):
        folder = tmp_path / f"episode-{episode}"
        home = Home(folder / "home")
        folder.mkdir()
        home.make()
        storm = Storm(home, chance)
        seconds = 9.0
        command = [sys.executable, str(Path(__file__).with_name("survivors.py"))]
        workers = {
            (role, number): subprocess.Popen(
                [*command, role, str(home.path), str(chance.randrange(1 << 32)), str(seconds)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()},
            )
            for number, role in enumerate(("write", "write", "fold", "compact", "read"))
        }  # fmt: skip
        try:
            begun = time.monotonic()
            while len(storm.noted()) < 60 and time.monotonic() - begun < seconds:
                time.sleep(0.05)  # on a busy machine the writers take long to begin
            while any(worker.poll() is None for worker in workers.values()):
                time.sleep(chance.uniform(0.02, 0.25))
                storm.strike()
        finally:
            ends = {who: finish(worker) for who, worker in workers.items()}
        print(f"episode {episode}:", [(role, said) for (role, _), (_, said, _) in ends.items()])
        print("damages:", sum(storm.done.values()), dict(sorted(storm.done.items())))
        for who, (code, _, errors) in ends.items():
            assert code == 0, f"{who}: {errors}"
        check_end(storm)


def finish(worker: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        said, errors = worker.communicate(timeout=60)
    finally:
        worker.kill()
    return worker.returncode, said.strip(), errors


def check_end(storm: Storm) -> None:
    home = storm.home
    print(f"{len(storm.noted())} written, {len(storm.must_be_there())} in files that were never damaged")
    assert storm.must_be_there(), "everything was damaged: nothing was tested"
    home.open()  # the folders
    told = Told(home)
    whole = {path.name for path in whole_segments(home)}
    damaged = {path.name for path in home.segments.iterdir() if segments.parse_name(path.name)} - whole
    findings = [one.sentence for one in told.history.inspect() if one.state == "problem"]
    assert all(any(name in said for said in findings) for name in damaged), findings
    check_after_storm(storm, told.history)
    rebuilt = told.history.rebuild()
    assert rebuilt is not None and set(rebuilt.damaged_segments) == damaged
    assert {one.name for one in told.lost if one.state == "damaged"} == damaged
    check_after_storm(storm, told.history)
    ids = {one for (one,) in told.history.sql_rows("SELECT event_id FROM events UNION SELECT error_id FROM errors")[1]}
    assert ids == held(home).keys()
    told.history.close()
