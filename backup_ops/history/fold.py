"""Folding: a journal's line becomes the rows it stands for, or says why it gives none. Pure.

Every complete line that is not empty comes out once: as a row that users see (in `errors`, or in `events` and perhaps
in the table of its kind), or as Undecodable with the reason. What cannot be a value of its column does not fail the
line: the column is NULL and the value stays visible, in `data` of the event or in `details` of the error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from backup_ops import event
from backup_ops.event import Undecodable
from backup_ops.failure import COMPONENTS, SEVERITIES
from backup_ops.history.journals import Line
from backup_ops.history.schema import ANOMALIES, DRILLS, ERRORS, RESOLUTIONS, RUNS, SNAPSHOTS, Kind, Table
from backup_ops.run import OUTCOMES

Row = dict[str, Any]

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_RESERVED = frozenset(("v", "id", "kind", "at"))
_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL in JSON, which is not an escaped backslash before u0000."""

_MAX_COUNT = 1 << 63


class Fact(NamedTuple):
    """An event as rows, each a line of JSON for the table of that name. `crc` tells it from another with its id."""

    event_id: str
    crc: int
    rows: tuple[tuple[str, bytes], ...]
    line: Line


def fold(line: Line) -> Fact:
    """Raises Undecodable with the reason when the line gives no row."""
    if line.clipped_from:
        raise Undecodable(f"{line.clipped_from:,} bytes long, more than an event can be; its beginning is kept here")
    fields = event.decode(line.data)
    version = fields.get("v")
    if type(version) is not int or version < 1:
        raise Undecodable("has no event version")
    if version > event.EVENT_VERSION:
        raise Undecodable(
            f"event version {version} is newer than this backup-ops, which knows {event.EVENT_VERSION}; update it"
        )
    said_at = _moment(fields["at"])
    if said_at is None:
        raise Undecodable(f"'at' is no time: {_shortened(fields['at'])}")
    crc = int(line.data[8:16], 16)
    try:
        rows = _as_json(_rows(fields, said_at, crc))
    except Undecodable:
        raise
    except (ValueError, RecursionError):
        # A line that `event.encode` did not write: NaN, NUL, lone surrogates or endless nesting, put into words here.
        fields = event.decode(event.encode(fields["kind"], _free(fields), event_id=fields["id"], at=_ANY_TIME))
        rows = _as_json(_rows(fields, said_at, crc))
    return Fact(fields["id"], crc, rows, line)


def shown(data: bytes) -> str:
    """The bytes as text that every reader can show, and that gives the bytes back.

    What is not UTF-8, and NUL, is written `\\xNN`; so is the backslash, in lines that hold `\\x` of their own.
    """
    try:
        text = data.decode("utf-8")
        if "\x00" not in text and "\\x" not in text:
            return text
    except UnicodeDecodeError:
        pass
    return data.replace(b"\\", b"\\x5c").replace(b"\x00", b"\\x00").decode("utf-8", "backslashreplace")


def _as_json(rows: Iterable[tuple[str, Row]]) -> tuple[tuple[str, bytes], ...]:
    texts = []
    for table, row in rows:
        text = _ENCODE(row)
        if "\\u0000" in text and _NUL.search(text):
            raise ValueError("DuckDB takes no NUL in a text")
        texts.append((table, text.encode("utf-8")))
    return tuple(texts)


def _free(fields: Row) -> Row:
    return {name: value for name, value in fields.items() if name not in _RESERVED}


def _rows(fields: Row, said_at: str, crc: int) -> Iterable[tuple[str, Row]]:
    kind = fields["kind"]
    if kind == event.ERROR_RECORDED:
        return (("errors", _error(fields, said_at, crc)),)
    seen: Row = {"event_id": fields["id"], "kind": kind, "occurred_at": said_at, "crc": crc}
    for name in ("job", "run_id", "host"):
        if name in fields:
            seen[name] = _text(fields[name])
    seen["data"] = _free(fields)
    special = _SPECIAL.get(kind)
    if special is None:
        return (("events", seen),)
    table, row = special(fields)
    row["event_id"], row["noted_at"] = fields["id"], said_at
    return (("events", seen), (table, row))


def _error(fields: Row, said_at: str, crc: int) -> Row:
    _require(fields, "severity", "error_type", "message")
    left = _free(fields)
    row: Row = {"error_id": fields["id"], "occurred_at": said_at, "crc": crc}
    for name, cast in _ERROR_CASTS:
        given = left.pop(name, None)
        row[name] = value = cast(given)
        if value is None and given is not None:
            left[name] = given
    if row["severity"].upper() in SEVERITIES:
        row["severity"] = row["severity"].upper()
    component = row["component"] or "other"
    row["component"] = component.lower() if component.lower() in COMPONENTS else component
    if left.get("resolved") is False:
        del left["resolved"]
    left = {name: value for name, value in left.items() if value is not None}
    if left:
        row["details"] = "\n".join(filter(None, (row["details"], json.dumps(left, ensure_ascii=False))))
    return row


def _queued(fields: Row) -> tuple[str, Row]:
    return "runs", _run(fields, "queued", rank=0)


def _started(fields: Row) -> tuple[str, Row]:
    return "runs", _run(fields, "running", rank=0)


def _finished(fields: Row) -> tuple[str, Row]:
    outcome = fields.get("outcome")
    if outcome not in OUTCOMES:
        raise Undecodable(f"'outcome' is {_shortened(outcome)}, none of {', '.join(OUTCOMES)}")
    # A host out of reach is a guess; whoever knows how the run ended is right, earlier or later.
    return "runs", _run(fields, outcome, rank=1 if outcome == "lost" else 2)


def _run(fields: Row, outcome: str, *, rank: int) -> Row:
    _require(fields, "run_id", "job")
    row = _cast(fields, _RUN_CASTS)
    row["job_uid"] = row.get("job_uid") or row["job"]
    row["outcome"], row["rank"] = outcome, rank
    return row


def _resolved(fields: Row) -> tuple[str, Row]:
    resolved = fields.get("resolved", True)
    if not isinstance(resolved, bool):
        raise Undecodable(f"'resolved' must be true or false, not {_shortened(resolved)}")
    for name in ("error_id", "fingerprint"):
        if fields.get(name) is not None:
            _require(fields, name)
            row = _cast(fields, _RESOLUTION_CASTS)
            row["resolved"], row["rank"], row["subject"] = resolved, 0, f"{name} {fields[name]}"
            return "resolutions", row
    raise Undecodable("names neither 'error_id' nor 'fingerprint'")


def _keyed(table: Table, defaults: Row) -> Callable[[Row], tuple[str, Row]]:
    casts = _casts(table)

    def row_of(fields: Row) -> tuple[str, Row]:
        assert table.key
        _require(fields, table.key)
        row = _cast(fields, casts)
        for name, value in defaults.items():
            if row.get(name) is None:
                row[name] = _moment(fields["at"]) if value == "at" else value
        return table.name, row

    return row_of


def _require(fields: Row, *names: str) -> None:
    for name in names:
        value = fields.get(name)
        if not isinstance(value, str):
            raise Undecodable(f"'{name}' must be text, not {_shortened(value)}")
        if not value and name != "message":
            raise Undecodable(f"'{name}' is empty")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -_MAX_COUNT <= value < _MAX_COUNT else None


def _number(value: Any) -> float | None:
    if type(value) is not int and type(value) is not float:
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _moment(value: Any) -> str | None:
    """The time as UTC without a zone, the way DuckDB's TIMESTAMP reads it; a time without a zone is taken for UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is UTC:
            return moment.isoformat()[: -len("+00:00")]
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat()


Cast = Callable[[Any], Any]
_CASTS: dict[Kind, Cast] = {"text": _text, "count": _count, "number": _number, "moment": _moment, "truth": _truth}


def _casts(table: Table, *left_out: str) -> tuple[tuple[str, Cast], ...]:
    internal = ("event_id", "noted_at", "rank", "crc", *left_out)
    return tuple((column.name, _CASTS[column.kind]) for column in table.columns if column.name not in internal)


def _cast(fields: Row, casts: tuple[tuple[str, Cast], ...]) -> Row:
    """What is not given is left out, and becomes NULL: half of a run's columns are empty in each of its events."""
    return {name: cast(fields[name]) for name, cast in casts if fields.get(name) is not None}


_RUN_CASTS = _casts(RUNS)
_RESOLUTION_CASTS = _casts(RESOLUTIONS, "subject", "resolved")
_ERROR_CASTS = _casts(ERRORS, "error_id", "occurred_at")

_SPECIAL: dict[str, Callable[[Row], tuple[str, Row]]] = {
    event.RUN_QUEUED: _queued,
    event.RUN_STARTED: _started,
    event.RUN_FINISHED: _finished,
    event.ERROR_RESOLVED: _resolved,
    event.SNAPSHOT_CREATED: _keyed(SNAPSHOTS, {"created_at": "at"}),
    "snapshot_kept": _keyed(SNAPSHOTS, {}),
    "snapshot_pruned": _keyed(SNAPSHOTS, {"pruned_at": "at"}),
    "drill_finished": _keyed(DRILLS, {}),
    "anomaly_detected": _keyed(ANOMALIES, {"detected_at": "at", "state": "open"}),
    "anomaly_closed": _keyed(ANOMALIES, {"state": "closed"}),
}
"""The kinds that have a table besides `events`. Notifications have none yet: their table is empty."""
