"""kill -9 at random over submitters, runners and tools: every run gets exactly one outcome, no process is left over."""

import collections
import subprocess
import sys
import time

import psutil
import pytest

import backup_ops as bo
from backup_ops.journal import read_events
from tests.conftest import SCALE, processes_of, wait_until

SUBMIT = """
import sys, backup_ops as bo
ops = bo.open(sys.argv[1])
for name in sys.argv[2:]:
    print(ops.submit(name).run_id, flush=True)
"""


@pytest.mark.timeout(600)
def test_killed_at_random_every_run_has_one_outcome(place, chance):
    names = [f"j{number}" for number in range(6)]
    for name in names:
        place.fill(3, 60_000, folder=place.folder / name)
    place.write_jobs(
        "".join(
            f"{name}: {{source: {place.folder / name}, repository: r{number % 3}, limits: {{bandwidth: 150K}}}}\n"
            for number, name in enumerate(names)
        ),
        settings="{max_running: 2}",
        repositories="".join(
            f"r{number}: {{engine: rclone, url: {place.folder}/repo-{number}}}\n" for number in range(3)
        ),
    )
    acknowledged: set[str] = set()
    kills = 0
    with bo.open(place.home) as ops:
        for _ in range(4 * SCALE):
            chosen = chance.sample(names, 4)
            submitters = [
                subprocess.Popen(
                    [sys.executable, "-c", SUBMIT, str(place.home), *part], stdout=subprocess.PIPE, text=True
                )
                for part in (chosen[:2], chosen[2:])
            ]
            for _ in range(4):
                time.sleep(chance.uniform(0.05, 0.7))
                victims = processes_of(place.home)
                if victims:
                    try:
                        chance.choice(victims).kill()
                        kills += 1
                    except psutil.NoSuchProcess:
                        pass
            for submitter in submitters:
                acknowledged |= set(submitter.communicate(timeout=60)[0].split())

            def is_empty():
                ops.manager.settle()
                return not list(ops.home.queue.glob("*.json"))

            wait_until(is_empty, 90, "an outcome for every run")
        outcomes = collections.defaultdict(list)
        for path in ops.home.journal.iterdir():
            for event in read_events(path):
                if event["kind"] == "run_finished":
                    outcomes[event["run_id"]].append(event["outcome"])
        print("kills", kills, collections.Counter(outcome for found in outcomes.values() for outcome in found))
        assert kills >= 4 * SCALE
        assert {run_id: found for run_id, found in outcomes.items() if len(found) != 1} == {}
        assert acknowledged <= set(outcomes), "a run was acknowledged and has no outcome"
        wait_until(lambda: not processes_of(place.home), 20, "the last process to end")
        assert list(ops.home.runs.iterdir()) == []
        for name in names:
            for snapshot in ops.snapshots(name):
                assert snapshot.snapshot_id in outcomes
                assert outcomes[snapshot.snapshot_id] == ["succeeded"]
