"""kill -9 at random over submitters, runners, tools, shells, a server, ingest, compaction and rebuild: every run gets
exactly one outcome, what was acknowledged is there once, no process is left over."""

import collections
import contextlib
import subprocess
import sys
import time

import psutil
import pytest

import backup_ops as bo
from tests.conftest import SCALE, processes_of, wait_until

SUBMIT = """
import sys, backup_ops as bo
ops = bo.open(sys.argv[1])
for name in sys.argv[2:]:
    print(ops.submit(name).run_id, flush=True)
"""

UPKEEP = """
import sys, time, backup_ops as bo
from backup_ops.errors import HistoryBusy
ops = bo.open(sys.argv[1])
while True:
    print(ops.record_error("a note", severity="LOW"), flush=True)
    try:
        ops.manager.history.compact(everything=True)
        if sys.argv[2] == "rebuild":
            ops.manager.history.rebuild()
    except HistoryBusy:
        pass
    ops.manager.journal.close()
    time.sleep(0.05)
"""


class Bystanders:
    """Processes that work on the home beside the runs; each is started again when it was killed."""

    def __init__(self, home, folder):
        self._home, self._folder = str(home), folder
        shell = [sys.executable, "-m", "backup_ops", "--home", self._home]
        self._commands = {
            "compact": [sys.executable, "-c", UPKEEP, self._home, "compact"],
            "rebuild": [sys.executable, "-c", UPKEEP, self._home, "rebuild"],
            "status": [*shell, "status", "--json"],
            "runs": [*shell, "runs", "--json"],
            "serve": [*shell, "serve", "--port", "0"],
        }
        self._processes = {}

    def keep_going(self):
        for name, command in self._commands.items():
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                with open(self._folder / f"{name}.out", "ab") as said:
                    self._processes[name] = subprocess.Popen(command, stdout=said, stderr=said)

    def pids(self):
        return {process.pid for process in self._processes.values() if process.poll() is None}

    def end(self):
        for process in self._processes.values():
            process.kill()
            process.wait()

    def acknowledged(self):
        """Ids of the errors that were recorded; the last line may be torn by a kill."""
        found = []
        for name in ("compact", "rebuild"):
            text = (self._folder / f"{name}.out").read_text()
            found += [line for line in text[: text.rfind("\n") + 1].split() if line.count("-") == 4]
        return found

    def said(self):
        return "".join(path.read_text(errors="replace") for path in self._folder.glob("*.out"))


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
    kills = collections.Counter()
    beside = Bystanders(place.home, place.folder)
    with bo.open(place.home) as ops:
        for _ in range(4 * SCALE):
            chosen = chance.sample(names, 4)
            submitters = [
                subprocess.Popen(
                    [sys.executable, "-c", SUBMIT, str(place.home), *part], stdout=subprocess.PIPE, text=True
                )
                for part in (chosen[:2], chosen[2:])
            ]
            for _ in range(5):
                beside.keep_going()
                time.sleep(chance.uniform(0.05, 0.7))
                victims = processes_of(place.home)
                if victims:
                    victim = chance.choice(victims)
                    with contextlib.suppress(psutil.Error):
                        name = " ".join(victim.cmdline()[:4])
                        victim.kill()
                        kills[name.replace(sys.executable, "").replace(str(place.home), "")[:40]] += 1
            for submitter in submitters:
                acknowledged |= set(submitter.communicate(timeout=60)[0].split())

            def is_empty():
                ops.manager.settle()
                return not list(ops.home.queue.glob("*.json"))

            wait_until(is_empty, 90, "an outcome for every run")
        beside.end()
        ops.manager.history.ingest(force=True)
        outcomes = collections.defaultdict(list)
        for run_id, outcome in ops.manager.history.sql_rows(
            "SELECT run_id, data->>'outcome' FROM events WHERE kind = 'run_finished'"
        )[1]:
            outcomes[run_id].append(outcome)
        print(
            "kills",
            kills.total(),
            dict(kills),
            collections.Counter(outcome for found in outcomes.values() for outcome in found),
        )
        assert kills.total() >= 4 * SCALE
        assert "Traceback" not in beside.said(), beside.said()
        for step in ("index", "rebuilt"):
            if step == "rebuilt":
                assert ops.manager.history.rebuild().damaged_segments == ()
            ids = [i for (i,) in ops.manager.history.sql_rows("SELECT error_id FROM errors")[1]]
            noted = set(beside.acknowledged())
            assert noted and noted <= set(ids) and len(ids) == len(set(ids)), step
        assert {run_id: found for run_id, found in outcomes.items() if len(found) != 1} == {}
        assert acknowledged <= set(outcomes), "a run was acknowledged and has no outcome"
        wait_until(lambda: not processes_of(place.home), 20, "the last process to end")
        assert list(ops.home.runs.iterdir()) == []
        for name in names:
            for snapshot in ops.snapshots(name):
                assert snapshot.snapshot_id in outcomes
                assert outcomes[snapshot.snapshot_id] == ["succeeded"]
