"""Sealed JSON: a small file that carries the sha256 of its own content, so that no flipped bit is ever believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL_KEY = "seal_sha256"


class Damaged(Exception):
    """The bytes are not what was sealed. The text tells in what way."""


def seal(content: dict[str, Any]) -> bytes:
    """One line of JSON: sorted keys, no spaces, ASCII only, `seal_sha256` over the same line without that key."""
    line = _canonical(content)
    return _canonical(content | {SEAL_KEY: hashlib.sha256(line).hexdigest()}) + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """The content. Raises Damaged unless every byte is as `seal` wrote it."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise Damaged(f"it is not JSON ({error})") from None
    if not isinstance(content, dict) or SEAL_KEY not in content:
        raise Damaged(f"it has no '{SEAL_KEY}'")
    # Writing it again and comparing all bytes also finds damage that JSON does not see, in white space for one.
    body = {name: value for name, value in content.items() if name != SEAL_KEY}
    if seal(body) != data:
        raise Damaged(f"its content does not match its '{SEAL_KEY}'")
    return body


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode(
        "ascii"
    )
