"""Facts as JSON: times RFC 3339 in UTC with microseconds; text that is no UTF-8 in words, its exact bytes beside it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from backup_ops.event import format_at


def json_text(fields: Mapping[str, Any], *, indent: int | None = None) -> str:
    """An object, always valid JSON and valid UTF-8. A text `path` that is not UTF-8 brings a `path_base64`."""
    return json.dumps(_object(fields), ensure_ascii=False, allow_nan=False, indent=indent)


def _object(fields: Mapping[Any, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in fields.items():
        name = _text(str(key))
        plain[name] = _value(value)
        if isinstance(value, str) and plain[name] != value:
            exact = value.encode("utf-8", "surrogateescape" if _came_from_bytes(value) else "surrogatepass")
            plain[f"{name}_base64"] = base64.b64encode(exact).decode("ascii")
    return plain


def _value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**63 else float(value)
    if isinstance(value, datetime):
        return format_at(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return _text(str(value))


def _text(text: str) -> str:
    return text.encode("utf-8", "surrogateescape" if _came_from_bytes(text) else "surrogatepass").decode(
        "utf-8", "backslashreplace"
    )


def _came_from_bytes(text: str) -> bool:
    """Whether every surrogate stands for an undecodable byte, as file names have them."""
    return all(not "\ud800" <= character <= "\udfff" or "\udc80" <= character <= "\udcff" for character in text)
