"""An event: one fact in the past tense, one line in a journal.

A line is UTF-8 JSON that begins with its own checksum, so that a damaged line is never taken for a fact:

    {"crc":"1c291ca3","v":1,"id":"019…","kind":"run_started","at":"2026-11-24T02:00:00.000123Z","run_id":…}

`crc` is the CRC-32 of every byte after `"crc":"…",` up to the newline, eight lower-case hex digits.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

EVENT_VERSION = 1

RUN_QUEUED, RUN_STARTED, RUN_FINISHED = "run_queued", "run_started", "run_finished"
CANCEL_REQUESTED = "cancel_requested"
ERROR_RECORDED, ERROR_RESOLVED = "error_recorded", "error_resolved"
SNAPSHOT_CREATED = "snapshot_created"
REPOSITORY_VERIFIED, REPOSITORY_TAKEN_OVER = "repository_verified", "repository_taken_over"
LEFTOVERS_REMOVED = "leftovers_removed"
"""Kinds with a table of their own are run_* (runs), error_* (errors) and snapshot_* (snapshots); all but the
recorded errors are in the table `events` too, unknown kinds included."""

MAX_TEXT_CHARS = 1 << 20
MAX_LINE_BYTES = 8 << 20
_CLIPPED_TEXT_CHARS = 1 << 14
_PREFIX_BYTES = len('{"crc":"00000000",')
_ODD = re.compile("[\x00\ud800-\udfff]")
_RESERVED = ("crc", "v", "id", "kind", "at")


class Undecodable(ValueError):
    """A line that gives no event; the text is the reason."""


def encode(kind: str, fields: Mapping[str, Any], *, event_id: str, at: datetime) -> bytes:
    """One line, newline included. Never raises for what is in `fields`: what JSON cannot say is written in words.

    Bytes and lone surrogates become `\\xNN` (exact bytes beside them as `NAME_base64`), NaN and infinities their
    names, texts over 1 MiB are clipped with a note, other objects their repr. A field called crc, v, id, kind or at
    gets a trailing underscore.
    """
    body: dict[str, Any] = {"v": EVENT_VERSION, "id": event_id, "kind": kind, "at": format_at(at)}
    for name, value in fields.items():
        key = name if isinstance(name, str) else _repr(name)
        body[key + "_" if key in _RESERVED else key] = value
    text = _dump_plain(body)
    if text is None:
        text = json.dumps(_in_words(body), allow_nan=False, separators=(",", ":"))
    if len(text) > MAX_LINE_BYTES:
        text = json.dumps(_in_words(body, max_chars=_CLIPPED_TEXT_CHARS), allow_nan=False, separators=(",", ":"))
    if len(text) > MAX_LINE_BYTES:
        # Not one long text but very many values: the head is kept, as text, so that the fact itself is not lost.
        kept = {name: body[name] for name in ("v", "id", "kind", "at")}
        kept["clipped"] = text[:_CLIPPED_TEXT_CHARS]
        text = json.dumps(kept, allow_nan=False, separators=(",", ":"))
    payload = text[1:].encode("ascii")
    return b'{"crc":"%08x",%s\n' % (zlib.crc32(payload), payload)


def decode(line: bytes) -> dict[str, Any]:
    """The fields of a line (crc left out). Raises Undecodable with the reason: damaged, not JSON, no kind."""
    line = line.rstrip(b"\n")
    if not line.startswith(b'{"crc":"') or line[16:_PREFIX_BYTES] != b'",':
        raise Undecodable("does not begin with a checksum")
    payload = line[_PREFIX_BYTES:]
    if line[8:16] != b"%08x" % zlib.crc32(payload):
        raise Undecodable("checksum does not match: the line is damaged")
    try:
        fields = json.loads(
            "{" + payload.decode("utf-8", "surrogatepass")
        )  # as json does, which looks for UTF-16 first
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Undecodable("not a JSON object")
    for name in ("id", "kind", "at"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise Undecodable(f"has no '{name}'")
    return fields


def format_at(moment: datetime) -> str:
    """RFC 3339, UTC, microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_at(text: str | None) -> datetime | None:
    """The inverse of `format_at`; None stays None. Raises ValueError."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def new_event_id(at: datetime) -> str:
    """A UUIDv7 (RFC 9562): ids sort by time, so that the store finds doubles by looking at recent rows only."""
    value = int(at.timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value & (1 << 128) - 1:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _dump_plain(body: dict[str, Any]) -> str | None:
    """The fast way, or None when something needs words. ASCII output: surrogates and NUL are visible as escapes."""
    try:
        text = json.dumps(body, allow_nan=False, separators=(",", ":"), default=_plain_object)
    except Exception:  # foreign objects may raise anything from their methods; words are found for them
        return None
    if "\\ud" in text or "\\u0000" in text or len(text) > MAX_TEXT_CHARS:
        return None
    return text


def _plain_object(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_at(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError


def in_words(value: object) -> str:
    """The object as a text that can be stored and shown, whatever its methods do."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception as error:  # a foreign __str__ may raise anything
        return f"<{type(value).__name__}: its str raised {type(error).__name__}>"


def _in_words(value: Any, *, max_chars: int = MAX_TEXT_CHARS, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _text_in_words(value, max_chars)[0]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 4096 else hex(value)[:max_chars]  # Python refuses to print longer ones
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value[:max_chars]).decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    if isinstance(value, datetime):
        return _text_in_words(_repr(value), max_chars)[0] if value.tzinfo is None else _at_in_words(value)
    if depth >= 16:
        return _text_in_words(_repr(value), max_chars)[0]
    if isinstance(value, Mapping):
        words: dict[str, Any] = {}
        for name, item in value.items():
            key = _text_in_words(name if isinstance(name, str) else _repr(name), max_chars)[0]
            while key in words:  # two names that only differ in what cannot be written
                key += "_"
            words[key] = _in_words(item, max_chars=max_chars, depth=depth + 1)
            exact = _exact_bytes(item)
            if exact is not None:
                exact_key = key + "_base64"
                while exact_key in words:
                    exact_key += "_"
                words[exact_key] = base64.b64encode(exact[:max_chars]).decode("ascii")
        return words
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_in_words(item, max_chars=max_chars, depth=depth + 1) for item in value]
    if isinstance(value, os.PathLike):
        return _in_words(_path(value), max_chars=max_chars, depth=depth + 1)
    return _text_in_words(_repr(value), max_chars)[0]


def _path(value: os.PathLike[Any]) -> Any:
    try:
        return os.fspath(value)
    except Exception as error:  # a foreign __fspath__
        return f"<{type(value).__name__}: its path raised {type(error).__name__}>"


def _at_in_words(value: datetime) -> str:
    try:
        return format_at(value)
    except (OverflowError, ValueError):  # the edge of the calendar, moved over it by its zone
        return value.isoformat()


def _exact_bytes(value: Any) -> bytes | None:
    """The bytes behind a text that UTF-8 cannot carry, else None."""
    if isinstance(value, os.PathLike):
        value = _path(value)
    if isinstance(value, (bytes, bytearray)):
        try:
            bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return bytes(value)
        return bytes(value) if 0 in value else None
    if isinstance(value, str) and _text_in_words(value, MAX_TEXT_CHARS)[1]:
        return value.encode("utf-8", "surrogateescape" if _is_escaped(value) else "surrogatepass")
    return None


def _is_escaped(text: str) -> bool:
    return all(0xDC80 <= ord(char) <= 0xDCFF for char in text if 0xD800 <= ord(char) <= 0xDFFF)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that UTF-8 could not carry (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code else "\\x00"


def _text_in_words(text: str, max_chars: int) -> tuple[str, bool]:
    """The text that every reader can show, and whether characters had to be written out."""
    note = ""
    if len(text) > max_chars:
        note = f" … (clipped: {len(text):,} characters, {max_chars:,} kept)"
        text = text[:max_chars]
    text, odd = _ODD.subn(_spelled, text)
    return text + note, odd > 0


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # a foreign __repr__ may raise anything; the event is still a fact
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
