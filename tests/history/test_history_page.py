"""docs/history.md: a history is read without us, by the lines that stand there."""

import re
from datetime import timedelta
from pathlib import Path

from told import NOON

from backup_ops.journal import Journal

PAGE = Path(__file__).parents[2] / "docs" / "history.md"


def test_a_history_is_read_without_backup_ops(told, capsys):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for month in range(3):
        journal = Journal(told.home.journal)
        for _ in range(5):
            journal.append("tick", {"text": "ä\nö", "data": b"\xff"}, at=NOON + timedelta(days=31 * month))
        journal.close()
        told.history.compact(everything=True)
    told.event("tick")
    told.garbage(b"no event")
    names = {"HOME": str(told.home.path)}
    exec(compile(snippet, str(PAGE), "exec"), names)
    known = told.history.sql_rows("SELECT event_id FROM events")[1]
    assert set(names["events"]) == {event_id for (event_id,) in known} and len(known) == 16 + 3
    spoiled = next(told.home.segments.iterdir())
    spoiled.write_bytes(spoiled.read_bytes() + b"x")
    exec(compile(snippet, str(PAGE), "exec"), names)
    assert f"damaged: {spoiled}" in capsys.readouterr().out
