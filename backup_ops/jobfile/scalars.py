"""How one value is read from a YAML scalar: its type, unit and form. What cannot be read is refused in a sentence."""

from __future__ import annotations

import math
import os
import re
import zoneinfo
from collections.abc import Callable
from functools import lru_cache

from ruamel.yaml.nodes import Node, ScalarNode

from backup_ops.jobfile.place import Place, quoted, shown, tag_of
from backup_ops.quantity import parse_bytes, parse_duration_s

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,15})?")
_WHOLE = re.compile(r"[-+]?\d{1,15}")
# Longer than any duration or size a person writes; the patterns that read them take quadratic time on nonsense.
_LONGEST_QUANTITY = 64
_LONGEST_DURATION_S = 100 * 366 * 86400
_LARGEST_BYTES = 2**63 - 1

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_CRON_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 7, _WEEKDAYS),
)


def text(node: Node, place: Place) -> str:
    """Text, or a number as it is written. No NUL and no half of a surrogate pair: no path and no file can hold them."""
    if not isinstance(node, ScalarNode):
        raise place.refused(node, f"must be text, not {shown(node)}.")
    tag = tag_of(node)
    if tag == "null":
        raise place.refused(node, "has no value.", "Write one, or remove the line.")
    if tag not in ("str", "int", "float"):
        raise place.refused(node, f"must be text, and YAML reads {shown(node)} as {tag}.", "Put it in quotes.")
    value = str(node.value)
    if not value.strip():
        raise place.refused(node, "is empty.", "Write a value, or remove the line.")
    if re.search("[\0\ud800-\udfff]", value):
        raise place.refused(node, f"{quoted(value)} holds a character that no path can hold.", "Remove it.")
    return value


def line(node: Node, place: Place) -> str:
    """Text without line breaks or other control characters."""
    value = text(node, place)
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise place.refused(node, f"{quoted(value)} holds a line break or another control character.", "Remove it.")
    return value


def path(node: Node, place: Place) -> str:
    """A full path with `~` expanded, as the system would spell it. Links are not followed: nothing is touched."""
    written = text(node, place)
    value = os.path.expanduser(written)
    if not value.startswith("/"):
        if written.startswith("~"):
            user = written[1:].split("/")[0]
            raise place.refused(
                node, f"{quoted(written)} names the home folder of {quoted(user)}, whom nobody here knows."
            )
        tail = re.sub(r"^(\./)+", "", written)
        raise place.refused(
            node,
            f"{quoted(written)} is a relative path, and a run starts in no folder of yours.",
            f"Write the whole path, such as {os.path.expanduser('~')}/{tail}."
            if len(tail) < 80 and tail.isprintable()
            else "",
        )
    return "/" + os.path.normpath(value).lstrip("/")


def file_name(node: Node, place: Place) -> str:
    value = line(node, place)
    if "/" in value or value in (".", ".."):
        raise place.refused(
            node, f"{quoted(value)} is a path.", "Write the name of the file alone, such as orders.dump."
        )
    if len(value.encode()) > 255:
        raise place.refused(node, "is longer than the 255 bytes a file name can have.")
    return value


def boolean(node: Node, place: Place) -> bool:
    value = str(node.value).lower()
    if tag_of(node) != "bool" or value not in ("true", "false"):
        raise place.refused(node, f"must be true or false, not {shown(node)}.")
    return value == "true"


def integer(node: Node, place: Place) -> int:
    if isinstance(node, ScalarNode) and tag_of(node) == "int" and _WHOLE.fullmatch(str(node.value)):
        return int(node.value)
    if isinstance(node, ScalarNode) and tag_of(node) == "str" and _WHOLE.fullmatch(str(node.value)):
        raise place.refused(node, f"must be a whole number, and {shown(node)} is text.", "Write it without quotes.")
    raise place.refused(node, f"must be a whole number, not {shown(node)}.")


def number(node: Node, place: Place) -> float:
    if isinstance(node, ScalarNode) and tag_of(node) in ("int", "float"):
        if _NUMBER.fullmatch(str(node.value).lstrip("-+")):
            return float(node.value)
    elif isinstance(node, ScalarNode) and _NUMBER.fullmatch(str(node.value).rstrip("% ")):
        raise place.refused(
            node, f"must be a number, and {shown(node)} is text.", f"Write {str(node.value).rstrip('% ')}."
        )
    raise place.refused(node, f"must be a number, not {shown(node)}.")


def duration(node: Node, place: Place) -> float:
    """Seconds."""
    try:
        return _quantity(node, _LONGEST_DURATION_S, parse_duration_s)
    except ValueError:
        raise place.refused(
            node, f"must be a duration, not {shown(node)}.", "Write it like 90s, 15m, 2h, 7d."
        ) from None
    except OverflowError:
        raise place.refused(
            node, f"{shown(node)} is longer than 100 years.", "Write a duration like 90s, 15m, 2h, 7d."
        ) from None


def size(node: Node, place: Place) -> int:
    """Bytes."""
    try:
        return int(_quantity(node, _LARGEST_BYTES, parse_bytes))
    except ValueError:
        raise place.refused(node, f"must be a size, not {shown(node)}.", "Write it like 500K, 20M, 5G.") from None
    except OverflowError:
        raise place.refused(node, f"{shown(node)} is larger than 8 EiB.", "Write a size like 500K, 20M, 5G.") from None


def _quantity(node: Node, largest: int, parse: Callable[[str], float]) -> float:
    written = str(node.value) if isinstance(node, ScalarNode) and tag_of(node) in ("str", "int", "float") else ""
    if len(written) > _LONGEST_QUANTITY:
        raise ValueError
    value = float(written) if _NUMBER.fullmatch(written) else parse(written)
    if not math.isfinite(value) or value > largest:
        raise OverflowError
    return value


def cron(node: Node, place: Place) -> str:
    """Five cron fields, each checked by itself; that such a day exists (31 February) is the scheduler's to say."""
    value = line(node, place)
    fields = value.split()
    if len(fields) != len(_CRON_FIELDS):
        raise place.refused(
            node,
            f"{quoted(value)} has {len(fields)} fields, and cron has 5: minute hour day month weekday.",
            'Write it like "0 2 * * *".',
        )
    for written, (name, low, high, words) in zip(fields, _CRON_FIELDS, strict=True):
        for part in written.split(","):
            if not _is_cron_part(part.lower(), low, high, words):
                raise place.refused(
                    node,
                    f"{quoted(value)}: {quoted(written)} is no {name}.",
                    f"Write *, */5, or numbers from {low} to {high} such as {low},{low + 2} or {low}-{low + 4}.",
                )
    return " ".join(fields)


def _is_cron_part(part: str, low: int, high: int, words: list[str]) -> bool:
    span, _, step = part.partition("/")
    if "/" in part and not (re.fullmatch(r"\d{1,3}", step, re.ASCII) and int(step) > 0):
        return False
    if span == "*" or (span == "l" and high == 31):
        return True
    if high == 7:  # cron's 5#2 is the second Friday, 5l the last
        span = re.sub(r"(#[1-5]|(?<=\w)l)$", "", span)
    ends = [
        words.index(end) + (1 if high == 12 else 0)
        if end in words
        else int(end)
        if re.fullmatch(r"\d{1,2}", end, re.ASCII)
        else -1
        for end in span.split("-")
    ]
    return len(ends) <= 2 and all(low <= end <= high for end in ends) and ends == sorted(ends)


def timezone(node: Node, place: Place) -> str:
    value = line(node, place)
    if not _is_timezone(value):
        known = tuple(sorted(zoneinfo.available_timezones()))
        if known:  # a system without tzdata knows none, and cannot judge
            hint = place.report.suggest(value, known, "Write it like Europe/Berlin.")
            raise place.refused(node, f"{quoted(value)} is no time zone.", hint)
    return value


@lru_cache(maxsize=64)
def _is_timezone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
