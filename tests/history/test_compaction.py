"""Ended journals become sealed segments, a few for each month, and the history says the same before and after."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from told import NOON, Told, line_of

from backup_ops.errors import HomeError
from backup_ops.history import compaction, journals, ledger, segments
from backup_ops.home import Home
from backup_ops.journal import Journal, read_events


def everything(history) -> dict:
    """All that users can see, but for the ledger's own events."""
    said = {
        name: history.sql_rows(f"SELECT * FROM {name} ORDER BY ALL")[1]
        for name in ("runs", "errors", "snapshots", "drills", "anomalies", "rejected")
    }
    said["events"] = history.sql_rows(f"SELECT * FROM events WHERE kind <> '{ledger.SEGMENT_SEALED}' ORDER BY ALL")[1]
    return said


def ended(home, events, *, at=NOON) -> str:
    """A journal whose writer is gone, with so many events."""
    journal = Journal(home.journal)
    for number in range(events):
        journal.append("tick", {"number": number}, at=at + timedelta(seconds=number))
    journal.close()
    return journal.path.name


def files(home) -> list[str]:
    return sorted(path.name for path in home.journal.iterdir() if path.name != ledger.FILE)


def names(home) -> list[str]:
    return [segment.name for segment in segments.present(home.segments)]


def fill_up(folder):
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def flip(path, offset, bit=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_history_is_the_same_from_journals_from_segments_and_rebuilt(told):
    told.seed()
    for _ in range(3):
        ended(told.home, 5)
    told.journal.close()
    before = everything(told.history)
    assert told.history.compact(everything=True) == 4
    assert files(told.home) == [] and names(told.home)
    assert everything(told.history) == before
    assert everything(told.another()) == before
    rebuilt = told.history.rebuild()
    assert rebuilt.segments == len(names(told.home)) and rebuilt.journals == 1
    assert rebuilt.damaged_segments == rebuilt.missing_segments == ()
    assert everything(told.history) == before
    told.home.history.unlink()
    assert everything(told.another()) == before
    assert told.rejected == [] and told.lost == []


def test_lines_are_carried_verbatim(told):
    odd = line_of("tick", {"text": "äöü \u2028 \x00 \ud800 \\u0000 'x' \"y\" \t", "data": b"\xff\x00"})
    spaced = line_of("tick", {"n": 1})
    told.garbage(odd, spaced)
    assert told.history.compact(everything=True) == 1
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT line FROM '{told.home.segments}/*.parquet'").fetchall()
    assert sorted(text.encode() for (text,) in rows) == sorted([odd, spaced])


def test_journal_stays_while_it_is_needed(told):
    told.event("tick")  # its writer lives
    spoiled = told.garbage(line_of("tick", {}), b"no event")
    torn = told.garbage(line_of("tick", {}))
    with open(told.home.journal / torn, "ab") as file:
        file.write(line_of("tick", {})[:30])
    surrogate = line_of("tick", {"text": "x"})[18:].replace(b'"x"', b'"\xed\xa0\x80"')
    not_utf8 = told.garbage(b'{"crc":"%08x",%s' % (zlib.crc32(surrogate), surrogate))
    queued = told.garbage(line_of("tick", {}), name="run-20260101T000000-abcdef.jsonl")
    (told.home.queue / "20260101T000000-abcdef.json").write_text("{}")
    done = ended(told.home, 2)
    assert told.history.compact(everything=True) == 1
    assert files(told.home) == sorted([told.journal.path.name, spoiled, torn, not_utf8, queued])
    assert done not in files(told.home)
    (told.home.queue / "20260101T000000-abcdef.json").unlink()
    assert told.history.compact(everything=True) == 1
    assert queued not in files(told.home)


def test_journal_that_was_changed_after_it_was_read_stays(told, monkeypatch):
    name = ended(told.home, 3)

    def add(stage):
        if stage == "entered":
            with open(told.home.journal / name, "ab") as file:
                file.write(line_of("late", {}) + b"\n")

    monkeypatch.setattr(compaction, "reached", add)
    assert told.history.compact(everything=True) == 0
    assert files(told.home) == [name]
    assert told.history.sql_rows("SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1")[1] == [
        ("late", 1), (ledger.SEGMENT_SEALED, 1), ("tick", 3),
    ]  # fmt: skip


def test_one_segment_for_each_month_in_the_end(told):
    for month in (1, 2, 3):
        for _ in range(2):
            ended(told.home, 2, at=datetime(2026, month, 28, tzinfo=UTC))
            told.history.compact(everything=True)
    assert [name[:7] for name in names(told.home)] == ["2026-01", "2026-02", "2026-03"]
    this_month = datetime.now(UTC).strftime("%Y-%m")
    for _ in range(compaction.MERGE_ABOVE + 1):
        ended(told.home, 1, at=datetime.now(UTC))
        told.history.compact(everything=True)
    assert len([name for name in names(told.home) if name.startswith(this_month)]) == 2
    assert set(ledger.expected(told.home)) == set(names(told.home))
    assert told.another().sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(21,)]
    assert told.history.rebuild().events == 21 + len(list(read_events(told.home.journal / ledger.FILE)))


def test_odd_times_go_into_a_month_that_can_be(told):
    for at in (datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)):
        told.garbage(line_of("tick", {}, at=at))
    assert told.history.compact(everything=True) == 2
    assert [name[:7] for name in names(told.home)] == ["2000-01", datetime.now(UTC).strftime("%Y-%m")]


def test_little_is_left_alone(told):
    ended(told.home, 2)
    assert told.history.compact() == 0
    old = time.time() - compaction.MIN_AGE_S - 5
    os.utime(told.home.journal / files(told.home)[0], (old, old))
    assert told.history.compact() == 1
    for _ in range(compaction.MIN_JOURNALS):
        ended(told.home, 1)
    assert told.history.compact(max_s=0.0) == 0
    assert told.history.compact() == compaction.MIN_JOURNALS
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(66,)]


def test_readers_of_before_and_writers_go_on(told):
    other = told.another()
    with other.reading() as cursor:
        name = ended(told.home, 3)
        assert told.history.compact(everything=True) == 0, "its lines cannot be in the index yet"
        assert cursor.execute("SELECT count(*) FROM events").fetchone() == (0,)
    assert other.sql_rows("SELECT count(*) FROM events")[1] == [(3,)]
    told.history.ingest(force=True)
    with other.reading() as cursor:
        assert told.history.compact(everything=True) == 1 and name not in files(told.home)
        assert cursor.execute("SELECT count(*) FROM events WHERE kind = 'tick'").fetchone() == (3,)
    assert other.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(3,)]


def test_a_flipped_bit_in_a_segment_is_found_named_and_not_believed(told, chance):
    told.event("kept", number=1)
    told.history.ingest(force=True)
    ended(told.home, 2000)
    assert told.history.compact(everything=True)
    (name,) = names(told.home)
    path = told.home.segments / name
    good = path.read_bytes()
    for _ in range(20):
        path.write_bytes(good)
        flip(path, chance.randrange(len(good)), chance.randrange(8))
        assert not segments.is_whole(told.home.segments, segments.parse_name(name))
    rebuilt = told.history.rebuild()
    assert rebuilt.damaged_segments == (name,)
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(0,)]
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'kept'")[1] == [(1,)]
    (lost,) = told.lost
    assert lost.name == name and "2,000 events from 2026-01-24 12:00:00" in str(lost)
    assert any(name in one.sentence and one.state == "problem" for one in told.history.inspect())
    assert list(told.home.path.glob("history.broken-*.duckdb")), "the old index knew these events"
    told.history.ingest(force=True)
    assert len(told.lost) == 1, "told once"
    path.write_bytes(good)  # out of a backup
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(2000,)]
    assert told.history.ingest(force=True)
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(2000,)]
    assert all(one.state == "ok" for one in told.history.inspect())


def test_a_missing_segment_is_named_by_the_ledger(told):
    ended(told.home, 3)
    told.history.compact(everything=True)
    (name,) = names(told.home)
    (told.home.segments / name).rename(told.home.path / name)
    assert any(name in one.sentence and "is gone" in one.sentence for one in told.history.inspect())
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(3,)], "the index knows them"
    rebuilt = told.history.rebuild()
    assert rebuilt.missing_segments == (name,) and "3 events" in str(told.lost[0])
    (told.home.path / name).rename(told.home.segments / name)
    told.history.ingest(force=True)
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(3,)]


def test_damaged_segment_is_not_merged_and_not_removed(told):
    ended(told.home, 3)
    told.history.compact(everything=True)
    spoiled = told.home.segments / names(told.home)[0]
    flip(spoiled, 100)
    for _ in range(3):
        ended(told.home, 3)
        told.history.compact(everything=True)
        assert spoiled.exists() and len(names(told.home)) == 2


def test_an_older_index_that_is_put_back_learns_what_it_missed(told):
    told.event("tick")
    told.history.ingest(force=True)
    told.history.close()
    older = told.home.history.read_bytes()
    ended(told.home, 5)
    told.history.compact(everything=True)
    told.history.close()
    told.home.history.write_bytes(older)
    assert told.another().sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(6,)]
    assert told.rebuilt == []


def test_segment_that_the_index_has_not_heard_of_is_folded_once(told, monkeypatch):
    for _ in range(2):
        ended(told.home, 4)
    monkeypatch.setattr(compaction.holdings, "note", lambda *a, **k: None)
    told.history.compact(everything=True)
    monkeypatch.undo()
    assert told.another().sql_rows("SELECT count(*), count(DISTINCT event_id) FROM events WHERE kind = 'tick'")[1] == [
        (8, 8)
    ]


def test_history_of_segments_is_read_although_the_index_is_held(told):
    told.seed()
    ended(told.home, 5)
    told.journal.close()
    before = everything(told.history)
    told.history.compact(everything=True)
    told.event("late")
    told.history.close()
    script = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print(flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script, str(told.home.history)], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        one = told.another()
        for _ in range(2):
            found = everything(one)
            assert [row for row in found["events"] if row[1] == "late"]
            found["events"] = [row for row in found["events"] if row[1] != "late"]
            assert found == before
        assert told.history.compact(everything=True) == 0
    finally:
        holder.kill()
        holder.communicate()
    assert len(everything(one)["events"]) == len(before["events"]) + 1


def test_full_disk_stops_a_compaction_and_loses_nothing(small_disk):
    home = Home(small_disk / "home")
    home.make()
    told = Told(home)
    for _ in range(3):
        journal = Journal(home.journal)
        for number in range(300):
            journal.append("tick", {"number": number, "text": os.urandom(60).hex()})
        journal.close()
    told.history.ingest(force=True)
    filler = fill_up(small_disk)
    with pytest.raises(HomeError, match="full"):
        told.history.compact(everything=True)
    assert len(files(home)) == 3 and names(home) == [] and not list(home.segments.glob(".new*"))
    assert told.another().sql_rows("SELECT count(*) FROM events")[1] == [(900,)]
    filler.unlink()
    assert told.history.compact(everything=True) == 3
    assert told.another().sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(900,)]
    told.history.close()


def test_long_lines_are_read_a_few_at_a_time(told, monkeypatch):
    for number in range(400):
        told.event("tick", number=number, text="x" * 3000)
    told.journal.close()
    told.history.compact(everything=True)
    monkeypatch.setattr(segments, "_PORTION_BYTES", 50_000)
    (segment,) = segments.present(told.home.segments)
    with duckdb.connect() as connection:
        portions = list(segments.read_lines(connection, told.home.segments, segment))
    assert max(map(len, portions)) < 30 and sum(map(len, portions)) == 400
    assert [line.offset for portion in portions for line in portion] == list(range(400))
    assert told.history.rebuild().events == 401


def test_a_journal_that_goes_hides_no_other(told):
    """A listing meets names whose files are gone by then; those beside them are there all the same."""
    told.event("tick")
    done = threading.Event()

    def come_and_go():
        while not done.is_set():
            paths = [told.home.journal / f"gone-{number}.jsonl" for number in range(50)]
            for path in paths:
                path.touch()
            for path in paths:
                path.unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(500):
            assert told.journal.path.name in journals.sizes(told.home.journal)
    finally:
        done.set()
        thread.join()


def test_ledger_tells_what_is_in_a_segment(told):
    ended(told.home, 3)
    told.history.compact(everything=True)
    ((data,),) = told.history.sql_rows(f"SELECT data FROM events WHERE kind = '{ledger.SEGMENT_SEALED}'")[1]
    facts = json.loads(data)
    path = told.home.segments / facts["segment"]
    assert facts["events"] == 3 and facts["journals"] == 1 and facts["bytes"] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_full_disk_stops_a_rebuild_and_leaves_the_old_index(small_disk):
    home = Home(small_disk / "home")
    home.make()
    told = Told(home)
    for number in range(200):
        told.event("tick", number=number, text=os.urandom(60).hex())
    assert told.history.ingest(force=True)
    told.history.close()
    before = home.history.read_bytes()
    filler = fill_up(small_disk)
    with pytest.raises(HomeError, match=r"the disk that holds it is full|No space left"):
        told.history.rebuild()
    assert home.history.read_bytes() == before and not list(home.path.glob("history.new-*"))
    assert told.another().sql_rows("SELECT count(*) FROM events")[1] == [(200,)]
    filler.unlink()
    assert told.history.rebuild().events == 200
    told.history.close()


def test_segment_of_a_newer_format_is_named_and_left_alone(told, monkeypatch):
    monkeypatch.setattr(segments, "FORMAT", "2")
    ended(told.home, 3)
    told.history.compact(everything=True)
    monkeypatch.undo()
    (newer,) = names(told.home)
    for _ in range(2):
        ended(told.home, 3)
        told.history.compact(everything=True)
    assert newer in names(told.home) and len(names(told.home)) == 2, "the two of ours are merged"
    assert told.history.rebuild().damaged_segments == (newer,)
    assert "is of format 2, and this backup-ops knows 1: update it" in str(told.lost[0])


def test_segment_that_is_damaged_while_it_is_merged_is_named_and_not_merged(told, monkeypatch):
    for _ in range(2):
        ended(told.home, 300)
        if not names(told.home):
            told.history.compact(everything=True)
    spoiled, seal = [], segments.seal

    def seal_late(cursor, folder, month, select, **more):
        if "read_parquet" in select and not spoiled:
            spoiled.append(folder / names(told.home)[0])
            flip(spoiled[0], 200)
        return seal(cursor, folder, month, select, **more)

    monkeypatch.setattr(segments, "seal", seal_late)
    told.history.compact(everything=True)
    monkeypatch.undo()
    assert spoiled and spoiled[0].exists() and len(names(told.home)) == 2
    assert told.history.rebuild().damaged_segments == (spoiled[0].name,)
    assert told.history.sql_rows("SELECT count(*) FROM events WHERE kind = 'tick'")[1] == [(300,)]
    assert told.rejected == []
