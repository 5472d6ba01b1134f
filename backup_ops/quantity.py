"""Durations and sizes as people write and read them: `90s`, `2h`, `1d 12h`; `20M`, `5G`, `1.5 GiB`."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?B)?\s*", re.IGNORECASE)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def parse_duration_s(text: str | float) -> float:
    """Seconds. A bare number is seconds. Raises ValueError, naming the text."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"'{text}' is not a duration: it is negative")
        return float(text)
    parts = list(_DURATION.finditer(str(text)))
    if not parts or "".join(part[0] for part in parts).strip() != str(text).strip():
        raise ValueError(f"'{text}' is not a duration; write it like 90s, 15m, 2h, 7d")
    return sum(float(part[1]) * _SECONDS[part[2].lower()] for part in parts)


def parse_bytes(text: str | int) -> int:
    """Bytes, binary units (1K = 1024). A bare number is bytes. Raises ValueError, naming the text."""
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"'{text}' is not a size: it is negative")
        return text
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise ValueError(f"'{text}' is not a size; write it like 500K, 20M, 5G")
    return int(float(match[1]) * 1024 ** ("", "K", "M", "G", "T", "P").index(match[2].upper()))


def format_bytes(count: float | None) -> str:
    """At most three figures: `0 B`, `4.2 MiB`, `302 GiB`."""
    if count is None:
        return "?"
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    figures = (
        f"{value:.0f}"
        if unit == 0 or abs(value) >= 99.95
        else f"{value:.1f}"
        if abs(value) >= 9.995
        else f"{value:.2f}"
    )
    if "." in figures:
        figures = figures.rstrip("0").rstrip(".")
    return f"{figures} {_UNITS[unit]}"


def format_duration(seconds: float | None) -> str:
    """Two parts at most: `0.4 s`, `31 min 8 s`, `1 d 12 h`."""
    if seconds is None:
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = round(seconds)
    days, hours, minutes, rest = total // 86400, total // 3600 % 24, total // 60 % 60, total % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(index for index, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def format_count(count: int | None) -> str:
    """`81,204`."""
    return "?" if count is None else f"{count:,}"
