"""Whatever is told: what was acknowledged is visible or rejected, exactly: in tail and index, and after a rebuild."""

import base64
import os
import re

import pytest

from backup_ops import event
from backup_ops.event import new_event_id

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))

KINDS = [
    "run_queued", "run_started", "run_finished", "error_recorded", "error_resolved", "snapshot_created",
    "snapshot_pruned", "drill_finished", "anomaly_detected", "anomaly_closed", "notification_sent", "no_such_kind",
    "", " ", "\x00", "\ud800", "DROP TABLE events; --", "ünïcode", "k" * 5000,
]  # fmt: skip
NAMES = [
    "run_id", "job", "job_uid", "outcome", "severity", "component", "error_type", "message", "details", "stack_trace",
    "transient", "bytes_total", "started_at", "duration_s", "snapshot_id", "error_id", "resolved", "created_at",
    "files", "drill_id", "anomaly_id", "observed", "crc", "v", "id", "kind", "at", "rank", "event_id", "noted_at",
    "data", "", "a\x00b", "\udcff", "'; --", "x" * 300,
]  # fmt: skip


class Liar:
    def __repr__(self):
        raise RuntimeError("no")


def value(chance, depth=0):
    """Anything a caller may hand over, mostly of the wrong type."""
    kind = chance.randrange(26 if depth < 3 else 21)
    if kind < 5:
        return chance.choice(["r1", "photos", "failed", "HIGH", "storage", "2026-01-01T00:00:00Z", True, 5, 2.5, None])
    simple = [
        lambda: chance.randbytes(chance.randrange(40)),
        lambda: bytes(range(256)),
        lambda: "\ud800" * chance.randrange(1, 4),
        lambda: "caf\udce9",
        lambda: "a\x00b",
        lambda: float("nan"),
        lambda: float("-inf"),
        lambda: chance.choice([1 << 62, 1 << 63, -(1 << 63), 1 << 64, 10**30, -(10**400), 10**5000]),
        lambda: chance.uniform(-1, 1) * 10 ** chance.randrange(-320, 300),
        lambda: "x" * chance.choice([0, 1, 100, 5_000]),
        lambda: "\\x41\\u0000 \" ' \\ \n\r\t\x1b[31m\u2028\U0001f600",
        lambda: chance.choice(["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-02-30", "infinity"]),
        lambda: Liar(),
        lambda: object(),
        lambda: {1, "two"},
        lambda: "".join(chr(chance.randrange(0x20, 0x3000)) for _ in range(20)),
    ]
    if kind < 21:
        return simple[kind - 5]()
    if kind < 23:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind < 25:
        return {chance.choice(NAMES): value(chance, depth + 1) for _ in range(chance.randrange(4))}
    nested = inner = []
    for _ in range(chance.choice([10, 100, 900, 5000])):
        inner.append([])
        inner = inner[0]
    return nested


def fields(chance):
    given = {chance.choice(NAMES): value(chance) for _ in range(chance.randrange(6))}
    if chance.random() < 0.5:  # half of them have what their kind needs, so that both ways are gone
        given |= {"run_id": f"r{chance.randrange(500)}", "job": "photos", "outcome": "failed", "severity": "LOW",
                  "error_type": "t", "message": value(chance), "error_id": "e", "drill_id": "d", "anomaly_id": "a",
                  "snapshot_id": f"s{chance.randrange(99)}", "resolved": True}  # fmt: skip
    return given


def visible(history) -> list[str]:
    _, rows = history.sql_rows("SELECT event_id FROM events UNION ALL SELECT error_id FROM errors")
    return [row[0] for row in rows]


def rejected(history) -> list[str]:
    """The id of each rejected line, found in its text."""
    rows = history.sql_rows("SELECT line FROM rejected")[1]
    return [re.search(r'"id":"([0-9a-f-]{36})"', line)[1] for (line,) in rows]


def check(history, acknowledged):
    seen, refused = visible(history), rejected(history)
    assert len(set(seen)) == len(seen) and len(set(refused)) == len(refused)
    assert set(seen).isdisjoint(refused)
    assert set(seen) | set(refused) == acknowledged
    return len(seen), len(refused)


@pytest.mark.timeout(300)
def test_ten_thousand_hostile_events_are_visible_or_rejected_exactly(told, chance):
    acknowledged = set()
    for number in range(10_000 * SCALE):
        kind = chance.choice(KINDS)
        acknowledged.add(told.journal.append(kind, fields(chance)))
        if number % 3000 == 1500:
            told.history.ingest(force=True)
    counts = check(told.history, acknowledged)
    assert min(counts) > 1000, counts
    assert told.history.ingest(force=True)
    assert check(told.history, acknowledged) == counts
    assert sum(count for count, _, _ in told.rejected) == counts[1]
    told.history.rebuild()
    assert check(told.history, acknowledged) == counts
    for name in ("runs", "errors", "snapshots", "job_cards"):
        told.history.frame(name)


def test_one_megabyte_texts_come_through(told):
    acknowledged = {told.error("x" * (1 << 20)), told.error(b"\xff" * (1 << 20))}
    acknowledged.add(told.event("tick", text="é" * 3_000_000))
    check(told.history, acknowledged)
    assert told.history.ingest(force=True)
    check(told.history, acknowledged)
    lengths = told.history.sql_rows("SELECT length(message) FROM errors ORDER BY 1")[1]
    assert lengths[0] == (1 << 20,) and lengths[1][0] > 1 << 20


def test_odd_text_of_an_error_is_readable_and_its_bytes_exact(told):
    told.error(b"caf\xe9 \x00 \xff")
    (row,) = told.history.rows("errors")
    assert row["message"] == "caf\\xe9 \\x00 \\xff"
    assert base64.b64decode(re.search(r'"message_base64": "([^"]+)"', row["details"])[1]) == b"caf\xe9 \x00 \xff"


@pytest.mark.timeout(300)
def test_raw_garbage_is_rejected_line_by_line_and_good_lines_among_it_are_kept(told, chance):
    told.history.ingest(force=True)
    good, bad = set(), 0
    for number in range(20 * SCALE):
        lines = []
        for _ in range(100):
            event_id = new_event_id(told_at := event.parse_at("2026-01-24T12:00:00Z"))
            line = event.encode("tick", {"n": value(chance)}, event_id=event_id, at=told_at).rstrip(b"\n")
            how = chance.randrange(6)
            if how == 0:
                good.add(event_id)
                lines.append(line)
                continue
            bad += 1
            damaged = bytearray(line)
            if how == 1:
                damaged = bytearray(chance.randbytes(chance.randrange(1, 200)))
            elif how == 2:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            elif how == 3:
                damaged = damaged[: chance.randrange(1, len(damaged))]
            elif how == 4:
                damaged = damaged + b" "
            else:
                damaged = bytearray(b"\xef\xbb\xbf") + damaged
            lines.append(bytes(damaged).replace(b"\n", b"?"))
        told.garbage(*lines, name=f"{number}.jsonl")
        if number % 7 == 3:
            told.history.ingest(force=True)
    for _ in range(2):
        assert set(visible(told.history)) == good
        assert told.history.sql_rows("SELECT count(*) FROM rejected")[1] == [(bad,)]
        assert told.history.ingest(force=True)
    assert sum(count for count, _, _ in told.rejected) == bad


def test_binary_file_among_the_journals_is_no_trouble(told, chance):
    data = chance.randbytes(4 << 20)
    told.event("tick")
    (told.home.journal / "core.jsonl").write_bytes(data)
    lines = [line for line in data.split(b"\n")[:-1] if line]
    assert told.history.sql_rows("SELECT count(*) FROM rejected")[1] == [(len(lines),)]
    assert len(visible(told.history)) == 1


def test_line_that_only_duckdb_cannot_read_is_rejected_and_does_not_stop_the_others(told, monkeypatch):
    """Such a line is not known; a number that JSON allows and the column does not stands in for it."""
    from backup_ops.history import fold

    good = [told.event("tick", n=number) for number in range(50)]
    told.event("run_started", run_id="r", job="j", attempts=7)
    good += [told.event("tick", n=number) for number in range(50)]
    casts = tuple((name, (lambda v: 1 << 70) if name == "attempts" else cast) for name, cast in fold._RUN_CASTS)
    monkeypatch.setattr(fold, "_RUN_CASTS", casts)
    assert set(visible(told.history)) == set(good)
    assert told.history.ingest(force=True)
    assert set(visible(told.history)) == set(good)
    ((reason,),) = told.history.sql_rows("SELECT reason FROM rejected")[1]
    assert reason.startswith("DuckDB cannot read it: ")


def test_line_that_nobody_thought_of_is_rejected_and_does_not_stop_the_others(told, monkeypatch):
    from backup_ops.history import fold, intake

    def forgetful(line):
        if b'"kind":"odd"' in line.data:
            raise KeyError("nobody thought of it")
        return fold.fold(line)

    monkeypatch.setattr(intake, "fold", forgetful)
    good = {told.event("tick"), told.event("tick")}
    told.event("odd")
    assert told.history.ingest(force=True)
    assert set(visible(told.history)) == good
    assert told.rejected[0][:2] == (1, "it cannot be folded: KeyError: 'nobody thought of it'")
