"""Processes that work on while their home is damaged: `python survivors.py ROLE HOME SEED SECONDS`.

Nothing may stop them, and only inside a `reading()` block may they be told that the index is busy or was damaged. What
they were told they say at their end, as JSON. A writer notes each event: its id and number, the journal, and when it
began to write it.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

from backup_ops.errors import HistoryBusy, HistoryDamaged
from backup_ops.history import History
from backup_ops.home import Home
from backup_ops.journal import Journal

DIFFERENT = (
    "SELECT count(*), count(DISTINCT id), max(hash(data)) FROM (SELECT event_id AS id, data FROM events UNION ALL"
    " SELECT error_id, details FROM errors)"
)


class Survivor:
    def __init__(self, home: Home, chance: random.Random, seconds: float) -> None:
        self.history = History(home, on_rebuilt=self.note_rebuilt)
        self.home, self.chance, self.until = home, chance, time.monotonic() + seconds
        self.told: Counter[str] = Counter()

    def note_rebuilt(self, reason: str, was_damaged: bool) -> None:
        self.told["rebuilt"] += 1

    def beats(self, longest_s: float) -> Iterator[None]:
        while time.monotonic() < self.until:
            self.told["beats"] += 1
            yield
            time.sleep(self.chance.uniform(0, longest_s))

    def look(self) -> None:
        """No event is ever seen twice, and the answer is whole or not given."""
        try:
            with self.history.reading() as cursor:
                total, different, _ = cursor.execute(DIFFERENT).fetchone()
        except (HistoryBusy, HistoryDamaged) as error:
            self.told[type(error).__name__] += 1
        else:
            assert total == different, f"{total} rows, {different} different"

    def write(self) -> None:
        journal = Journal(self.home.journal)
        with open(self.home.path.parent / f"noted-{os.getpid()}", "a", encoding="ascii", buffering=1) as noted:
            for number, _ in enumerate(self.beats(0.006)):
                kind = self.chance.choice(["tick", "error_recorded"])
                fields = {"severity": "LOW", "error_type": "t", "message": f"{os.getpid()} {number}", "number": number}
                began = time.time()
                event_id = journal.append(kind, fields)
                noted.write(f"{event_id} {number} {journal.path.name} {began:.6f}\n")
                if number % 50 == 49:
                    self.look()
                if self.chance.random() < 0.03:
                    journal.close()
        journal.close()

    def read(self) -> None:
        for _ in self.beats(0.05):
            self.look()

    def fold(self) -> None:
        for _ in self.beats(0.03):
            self.history.ingest(force=True)

    def compact(self) -> None:
        for _ in self.beats(0.05):
            self.told["journals"] += self.history.compact(everything=True)


if __name__ == "__main__":
    role, folder, seed, seconds = sys.argv[1:]
    one = Survivor(Home(folder), random.Random(seed), float(seconds))
    {"write": one.write, "read": one.read, "fold": one.fold, "compact": one.compact}[role]()
    print(json.dumps(one.told))
