"""Each complete line becomes rows, or a reason; nothing falls between."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import NOON, line_of

from backup_ops.event import Undecodable
from backup_ops.history.fold import fold, shown
from backup_ops.history.journals import Line
from backup_ops.run import OUTCOMES


def folded(data: bytes) -> dict[str, dict]:
    return {table: json.loads(row) for table, row in fold(Line("a.jsonl", 0, data)).rows}


def reason_of(data: bytes) -> str:
    with pytest.raises(Undecodable) as caught:
        fold(Line("a.jsonl", 0, data))
    return str(caught.value)


def sealed(payload: bytes) -> bytes:
    """A line with a valid checksum around bytes that `encode` would not write."""
    return b'{"crc":"%08x",%s' % (zlib.crc32(payload), payload)


def plain(**fields) -> bytes:
    body = {"v": 1, "id": "019", "kind": "tick", "at": "2026-11-24T12:00:00.000000Z"} | fields
    body = {name: value for name, value in body.items() if value is not ...}
    return sealed(json.dumps(body)[1:].encode())


def error(**fields) -> dict:
    known = {"severity": "HIGH", "component": "storage", "error_type": "timeout", "message": "m"}
    return folded(line_of("error_recorded", known | fields))["errors"]


def test_unknown_kind_is_an_event_with_all_its_fields():
    rows = folded(line_of("hook_ran", {"job": "photos", "run_id": "r", "host": "h", "code": 7}, event_id="019"))
    assert list(rows) == ["events"]
    row = rows["events"]
    assert (row["event_id"], row["kind"], row["job"], row["run_id"], row["host"]) == (
        "019",
        "hook_ran",
        "photos",
        "r",
        "h",
    )
    assert row["occurred_at"] == "2026-01-24T12:00:00"
    assert row["data"] == {"job": "photos", "run_id": "r", "host": "h", "code": 7}


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("run_queued", "queued"), ("run_started", "running"), *(("run_finished", outcome) for outcome in OUTCOMES)],
)
def test_run_is_a_row_and_an_event(kind, outcome):
    rows = folded(line_of(kind, {"run_id": "r", "job": "photos", "outcome": outcome, "samples": [[1, 2]]}))
    assert set(rows) == {"events", "runs"}
    assert rows["runs"]["outcome"] == outcome
    assert rows["runs"]["job_uid"] == "photos"
    assert "samples" not in rows["runs"] and rows["events"]["data"]["samples"] == [[1, 2]]


def test_started_run_is_running_whatever_its_row_says():
    assert (
        folded(line_of("run_started", {"run_id": "r", "job": "j", "outcome": "queued"}))["runs"]["outcome"] == "running"
    )


def test_error_knows_known_words_in_any_case_and_keeps_others():
    row = error(severity="high", component="Storage")
    assert (row["severity"], row["component"]) == ("HIGH", "storage")
    row = error(severity="Urgent", component="Kitchen")
    assert (row["severity"], row["component"]) == ("Urgent", "Kitchen")
    assert error(component=None)["component"] == "other"


def test_what_has_no_column_in_errors_stays_visible_in_details():
    row = error(details="at 02:00", exit_code=3, transient="perhaps", remedy=None)
    assert row["transient"] is None
    text, _, extra = row["details"].partition("\n")
    assert text == "at 02:00"
    assert json.loads(extra) == {"exit_code": 3, "transient": "perhaps"}
    assert error(resolved=False)["details"] is None


def test_value_that_does_not_fit_its_column_is_missing_there_and_stays_in_data():
    fields = {"run_id": "r", "job": "j", "outcome": "failed", "bytes_total": 1 << 70, "exit_code": True,
              "duration_s": "long", "started_at": "yesterday", "files_total": 3.0, "reason": {"why": 1}}  # fmt: skip
    rows = folded(line_of("run_finished", fields))
    run = rows["runs"]
    assert [run[name] for name in ("bytes_total", "exit_code", "duration_s", "started_at")] == [None] * 4
    assert run["files_total"] == 3
    assert run["reason"] == '{"why": 1}'
    assert rows["events"]["data"]["bytes_total"] == 1 << 70


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("2026-11-24T12:00:00.000123Z", "2026-11-24T12:00:00.000123"),
        ("2026-11-24T14:00:00+02:00", "2026-11-24T12:00:00"),
        ("2026-11-24 12:00", "2026-11-24T12:00:00"),
        ("2026-11-24", "2026-11-24T00:00:00"),
        ("0001-01-01T00:00:00+14:00", None),
        ("soon", None),
    ],
)
def test_times_become_utc_without_a_zone(written, stored):
    rows = folded(line_of("run_started", {"run_id": "r", "job": "j", "started_at": written}))
    assert rows["runs"]["started_at"] == stored


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "does not begin with a checksum"),
        (b"\xff\xfe\x00", "does not begin with a checksum"),
        (plain()[:-3] + b'5"}', "checksum does not match"),
        (sealed(b"not json"), "not JSON"),
        (sealed(b'"v":1' + b',"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "not JSON"),
        (plain(id=...), "has no 'id'"),
        (plain(kind=5), "has no 'kind'"),
        (plain(at=""), "has no 'at'"),
        (plain(at="soon"), "'at' is no time: 'soon'"),
        (plain(v=...), "has no event version"),
        (plain(v=True), "has no event version"),
        (plain(v="1"), "has no event version"),
        (plain(v=2), "event version 2 is newer than this backup-ops, which knows 1; update it"),
        (plain(kind="run_finished", run_id="r", job="j", outcome="exploded"), "'outcome' is 'exploded', none of"),
        (plain(kind="run_finished", run_id="r", job="j", outcome=["failed"]), "'outcome' is ['failed'], none of"),
        (plain(kind="run_started", run_id=5, job="j"), "'run_id' must be text, not 5"),
        (plain(kind="run_queued", run_id="r", job=""), "'job' is empty"),
        (plain(kind="error_recorded", severity="HIGH", error_type="x"), "'message' must be text, not None"),
        (plain(kind="error_recorded", severity=3, error_type="x", message=""), "'severity' must be text, not 3"),
        (plain(kind="error_resolved"), "names neither 'error_id' nor 'fingerprint'"),
        (plain(kind="error_resolved", error_id="e", resolved="yes"), "'resolved' must be true or false, not 'yes'"),
        (plain(kind="snapshot_created", job="j"), "'snapshot_id' must be text, not None"),
    ],
)
def test_line_that_gives_no_row_says_why(line, reason):
    assert reason in reason_of(line)


def test_line_too_long_to_be_an_event_says_how_long():
    with pytest.raises(Undecodable, match="9,000,000 bytes long"):
        fold(Line("a.jsonl", 0, b"x" * 100, clipped_from=9_000_000))


@pytest.mark.parametrize(
    ("payload", "shows"),
    [
        (b'"odd":NaN', "nan"),
        (b'"odd":-Infinity', "-inf"),
        (b'"odd":1e999', "inf"),
        (b'"odd":"\\ud800x"', "\\ud800x"),
        (b'"odd":"a\\u0000b"', "a\\x00b"),
    ],
)
def test_what_encode_would_not_write_is_put_into_words(payload, shows):
    rows = folded(sealed(b'"v":1,"id":"019","kind":"tick","at":"2026-11-24T12:00:00Z",' + payload + b"}"))
    assert rows["events"]["data"]["odd"] == shows
    assert rows["events"]["event_id"] == "019" and rows["events"]["occurred_at"] == "2026-11-24T12:00:00"


def test_odd_bytes_of_an_error_stay_exact_beside_their_words():
    row = error(message=b"caf\xe9")
    assert row["message"] == "caf\\xe9"
    assert json.loads(row["details"]) == {"message_base64": "Y2Fm6Q=="}


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"\\", b"x", b"41", b"\x00", b"\xff", "é".encode()])).map(b"".join)
)
def test_shown_text_gives_the_bytes_back(data):
    text = shown(data)
    assert "\x00" not in text
    back = text.encode("utf-8")
    parts = back.split(b"\\x")
    assert parts[0] + b"".join(bytes([int(part[:2], 16)]) + part[2:] for part in parts[1:]) == data


@given(
    st.dictionaries(
        st.text(max_size=10),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=5,
    ),
    st.sampled_from(["tick", "run_finished", "run_started", "error_recorded", "error_resolved", "snapshot_created"]),
)
def test_whatever_encode_writes_is_rows_or_a_reason(fields, kind):
    needed = {"run_id": "r", "job": "j", "outcome": "failed", "severity": "LOW", "error_type": "t", "message": ""}
    line = Line("a.jsonl", 0, line_of(kind, needed | fields, at=NOON))
    try:
        fact = fold(line)
    except Undecodable as error:
        reason = str(error)
    else:
        reason = ""
        assert fact.rows and all(json.loads(row) for _, row in fact.rows)
    assert reason or fact
