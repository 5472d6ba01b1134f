"""One round: a copy of the template, damages, a start, and what is said then against what the files still hold."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import damages
from damages import Damage, foreign_line
from told import Told
from whole_home import (
    Template,
    ask,
    facts_of,
    files_of,
    held,
    lines_in,
    replaced_by,
    sealed,
    whole_segments,
    write_queue,
    write_running,
)

from backup_ops import event
from backup_ops.history import History, ledger, segments
from backup_ops.home import Home
from backup_ops.journal import Journal

OLD = time.time() - 3 * 86_400
QUEUED = ("queue", "claim", "cancel")
THEIRS = {event.decode(line)["id"]: line for line in map(foreign_line, range(damages.FOREIGN))}
OLDER = Damage("index", "an older one put back", lambda home: [home.history], damages.deleted)
OLDER_LOG_KEPT = Damage("index", "an older one put back beside the log", lambda home: [home.history], damages.deleted)


class DamagedHome:
    def __init__(self, template: Template, folder: Path, chance: random.Random) -> None:
        self.template = template
        self.chance = chance
        self.home = Home(folder)
        shutil.copytree(template.home.path, folder)
        self.told = Told(self.home)
        self.running: Journal | None = None
        self.done: list[Damage] = []

    def close(self) -> None:
        self.told.history.close()
        if self.running is not None:
            self.running.close()

    def damage(self, *wanted: Damage) -> None:
        targets = [one.target for one in wanted]
        if "progress" in targets:
            self.running = write_running(self.home)
        elif set(QUEUED) & set(targets):
            write_queue(self.home)
        for one in wanted:
            places = [path for path in one.aim(self.home) if path.exists()]
            if one in (OLDER, OLDER_LOG_KEPT):
                self.home.history.unlink(missing_ok=True)
                self.home.history.write_bytes(self.template.older_index)
                if one is OLDER:
                    Path(f"{self.home.history}.wal").unlink(missing_ok=True)
            elif places:
                one.strike(self.chance.choice(places), self.chance)
            self.done.append(one)
        self.learn_changes()

    def learn_changes(self) -> None:
        if self.chance.random() < 0.5:  # so old that the next upkeep moves them into segments
            for path in damages.journals_of(self.home):
                os.utime(path, (OLD, OLD))
        known, now = self.template.files, files_of(self.home)
        self.changed = {name for name, digest in known.items() if now.get(name) != digest}
        self.is_index_gone = not self.home.history.exists() or not self.home.history.stat().st_size
        self.is_index_damaged = bool(self.changed & {"history.duckdb", "history.duckdb.wal"})
        self.lines = held(self.home)
        new = lines_in(*(path for path in damages.journals_of(self.home) if f"journal/{path.name}" not in known))
        for event_id, line in self.lines.items():  # not by their checksums, which is what the product goes by
            assert line in (self.template.lines.get(event_id), new.get(event_id), THEIRS.get(event_id))
        self.learn_lost()

    def learn_lost(self) -> None:
        whole = {path.name for path in whole_segments(self.home)}
        present = {path.name for path in self.home.segments.iterdir() if segments.parse_name(path.name)}
        journal = self.home.journal / ledger.FILE
        there, _ = sealed(lines_in(journal).values() if journal.exists() else ())
        self.damaged, self.missing = present - whole, there - present - replaced_by(whole_segments(self.home))
        truly, replaced = sealed(lines_in(self.template.home.journal / ledger.FILE).values())
        is_ledger_whole = f"journal/{ledger.FILE}" not in self.changed
        assert not is_ledger_whole or self.missing == truly - present
        self.false_alarms = self.missing & replaced
        assert not (is_ledger_whole and self.false_alarms)

    @property
    def lost(self) -> set[str]:
        return self.damaged | self.missing

    # --- what is asked

    def ask_shell(self) -> None:
        """A fresh process, as after a start of the machine."""
        what = self.chance.choice(["sql", "runs", "errors", "status"])
        select = ["SELECT event_id FROM events UNION ALL SELECT error_id FROM errors"] if what == "sql" else []
        done = subprocess.run(
            [sys.executable, "-m", "backup_ops", "--home", str(self.home.path), "--json", what, *select],
            capture_output=True, text=True, cwd=os.getcwd(), check=False, timeout=120,
        )  # fmt: skip
        print(f"  {what}: exit code {done.returncode}, {done.stderr.strip() or 'nothing on stderr'}")
        assert done.returncode == 0, (what, done)
        assert done.stderr == "", done.stderr
        said = json.loads(done.stdout)
        kinds = {event_id: event.decode(line)["kind"] for event_id, line in self.lines.items()}
        if what == "sql":
            ids = [row["event_id"] for row in said]
            assert len(ids) == len(set(ids)) and kinds.keys() <= set(ids)
        elif what == "errors":
            assert {one for one, kind in kinds.items() if kind == "error_recorded"} <= {row["error_id"] for row in said}
        elif what == "runs":
            named = {event.decode(line)["run_id"] for line in self.lines.values() if b'"kind":"run_' in line}
            assert named <= {row["run_id"] for row in said}
        else:
            assert said["jobs_total"] == 1 and said["problems"] == []
            assert len(said["running"]) == (self.running is not None)

    def check_named(self, history: History) -> None:
        findings = history.inspect()
        problems = [one for one in findings if one.state == "problem" and one.subject == "segments"]
        for name in self.lost:
            assert any(name in one.sentence for one in problems), f"{name} is not named: {problems}"
        assert len(problems) == len(self.lost), problems

    def check_said(self, history: History, *, is_rebuilt: bool) -> None:
        """The whole of what the history says, against what lies in the files now."""
        now = held(self.home)
        rows = facts_of(history)
        ids = Counter(row[0] for row in rows)
        lost, doubled = now.keys() - ids.keys(), [one for one, count in ids.items() if count > 1]
        assert not lost and not doubled, f"{len(lost)} lost, {len(doubled)} doubled"
        if not self.is_index_damaged and not is_rebuilt:
            assert self.template.folded <= ids.keys()
        for row in rows:
            if row[0] in self.template.facts:
                assert row == self.template.facts[row[0]]
                assert not is_rebuilt or row[0] in now, f"{row} is in no undamaged file"
            else:
                self.check_new(row, now)
        self.check_tables(history, now, is_rebuilt=is_rebuilt)

    def check_new(self, row: tuple, now: dict[str, bytes]) -> None:
        """What the template has not: lines of another home, and what was written in this round."""
        assert row[0] in now, f"{row} was never written"
        fields = event.decode(now[row[0]])
        if fields["kind"] == "error_recorded":
            assert fields["message"] in row
        else:
            assert row[1] == fields["kind"] and row[-1].items() <= fields.items()

    def check_tables(self, history: History, now: dict[str, bytes], *, is_rebuilt: bool) -> None:
        told = [event.decode(line) for line in now.values()]
        ended = {fields["run_id"] for fields in told if fields["kind"] == "run_finished"}
        queued = {fields["run_id"] for fields in told if fields["kind"] == "run_queued"}
        rows = {row[0]: row for row in ask(history, "SELECT * FROM runs")}
        for run_id, (as_ended, as_queued) in self.template.runs.items():
            row = rows.get(run_id)
            if run_id in ended:
                assert row == as_ended
            elif run_id in queued:
                assert row in ((as_queued,) if is_rebuilt else (as_queued, as_ended))
            else:
                assert row is None or (not is_rebuilt and row in (as_ended, as_queued))
        rows = {row[0]: row for row in ask(history, "SELECT * FROM snapshots")}
        kept = {fields["snapshot_id"] for fields in told if fields["kind"] == "snapshot_created"}
        assert kept <= rows.keys() and rows.items() <= self.template.snapshots.items()
        assert not is_rebuilt or rows.keys() == kept
        notes = dict(ask(history, "SELECT error_id, resolution_note FROM errors WHERE resolved"))
        must = {error_id for one, error_id in self.template.resolved.items() if one in now and error_id in now}
        assert must <= notes.keys() <= set(self.template.resolved.values())
        assert not is_rebuilt or notes.keys() == must
        spoiled = {file for (file,) in ask(history, "SELECT DISTINCT file FROM rejected")}
        assert {f"journal/{file}" for file in spoiled} <= self.changed

    def check_start(self) -> None:
        """From the damage to a rebuilt index; whoever comes first is by chance."""
        fresh = self.told.another()
        steps = [self.ask_shell, lambda: self.check_said(fresh, is_rebuilt=False)]
        self.chance.shuffle(steps)
        self.check_named(fresh)
        for step in steps:
            step()
        self.check_told(fresh)
        self.told.lost.clear()
        rebuilt = fresh.rebuild()
        assert rebuilt is not None
        assert set(rebuilt.damaged_segments) == self.damaged and set(rebuilt.missing_segments) == self.missing
        assert {one.name for one in self.told.lost} == self.lost and len(self.told.lost) == len(self.lost)
        assert not self.kept_aside() or self.is_index_damaged or self.lost
        assert not self.lost or self.kept_aside(), "the old index may be all that knows their events"
        self.check_said(fresh, is_rebuilt=True)
        self.check_named(fresh)
        again = self.told.another()
        assert sorted(facts_of(again), key=str) == sorted(facts_of(fresh), key=str)
        again.close()
        fresh.close()

    def check_told(self, history: History) -> None:
        """Who made the index anew said which segments could not be taken in."""
        is_anew = bool(self.kept_aside()) or self.is_index_gone
        assert not is_anew or self.is_index_damaged
        if is_anew:
            said = [message for (message,) in ask(history, "SELECT message FROM errors")]
            said += map(str, self.told.lost)
            for name in self.lost:
                assert any(name in one for one in said), f"nobody was told of {name}"

    def kept_aside(self) -> list[Path]:
        return list(self.home.path.glob("history.broken-*"))
