"""A crowd over one home: nobody fails, all see what was written before they asked, nothing is lost or doubled."""

import os

import duckdb
import pytest
from crowd import QUESTIONS, Crowd, gather, lost_and_doubled

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))
SMALL = Crowd(
    runners=5, dashboard_threads=4, dashboard_per_s=3.0, long_query_s=1.5, long_pause_s=2.0, witnesses=1,
    witness_per_s=5.0,
)  # fmt: skip


@pytest.mark.timeout(300 + 2 * SCALE)
def test_everybody_at_once_is_served(home):
    crowd, seconds = (SMALL, 5.0) if SCALE < 10 else (Crowd(), min(180.0, 1.8 * SCALE))
    notes = gather(home.path, crowd, seconds)
    assert notes.failures == []
    assert notes.unseen == [] and notes.witnessed >= seconds / 2
    for asker in (*(f"dashboard: {name}" for name in QUESTIONS), "notebook: sql", "shell: a call"):
        assert notes.seconds.get(asker), f"{asker} never got an answer"
    with duckdb.connect(str(home.history), read_only=True) as index:  # not through History, which would fold them in
        assert index.execute("SELECT count(*) FROM events").fetchone()[0] > 0, "nobody came to fold anything in"
    assert len(notes.written) > crowd.runners * crowd.events_per_s * seconds / 3
    assert lost_and_doubled(home.path, notes.written) == (0, 0)
