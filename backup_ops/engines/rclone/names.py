"""What a file is called inside a run folder.

Most names are kept. A name that rclone would spell otherwise (control characters, which it shows as pictures), that no
list of lines can carry (a newline), or that other storage cannot hold (bytes that are not UTF-8) is stored in a
spelling that is plain on every remote: such bytes become %XX. Where two paths could be one for the storage (case, é in
two spellings), and where it refuses a name, the path becomes `%~/` and a hash. The manifest holds the true name; the
stored one only finds the content.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

HASHED = "%~"
"""The folder of hashed paths."""

RESTORE_STAGING = b".backup-ops-restore-"
"""How the folder begins in which a restore keeps what it has not put in its place yet."""

MAX_NAME_BYTES = 255
"""What a name may have on any file system we know."""

# Control characters; % itself, so that no two names share a spelling; the signs rclone writes control characters with
# (U+2400 to U+2426), its quoting sign U+201B, and the full-width forms it gives to / and dots. With those left as they
# are, rclone 1.75 takes two different names for one and silently stores one of the files only.
_ODD = re.compile("[\x00-\x1f\x7f%\u201b\u2400-\u2426\uff00-\uffef]")

# How odd bytes and characters are displayed.
_SHOWN = re.compile(rb"(\\x[0-9a-f]{2}|\\[nrt])")


def stored_paths(paths: Iterable[bytes], max_name_bytes: int = MAX_NAME_BYTES) -> dict[bytes, str]:
    """Where each path goes below one run's folder. No two meet, also on storage that ignores case.

    A path with a longer name in it goes by its hash: where names are encrypted less is left of what storage takes.
    """
    stored: dict[bytes, str] = {}
    taken: set[str] = set()
    for path in paths:
        spelled = spelled_path(path)
        # Upper case first: some disks compare that, and there ı and i are one; casefold makes ß and SS one.
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", spelled).upper().casefold())
        is_too_long = any(len(name) > max_name_bytes for name in spelled.encode().split(b"/"))
        stored[path] = hashed_path(path) if folded in taken or is_too_long else spelled
        taken.add(folded)
    return stored


def spelled_path(path: bytes) -> str:
    """Equal to `path` unless a name in it is odd. Different paths stay different."""
    return "/".join(_stored_name(name) for name in path.split(b"/"))


def hashed_path(path: bytes) -> str:
    """Short, and made of what every storage can hold. A path spelled in full never begins with `%~`."""
    return f"{HASHED}/{hashlib.sha256(path).hexdigest()[:40]}"


def _stored_name(name: bytes) -> str:
    try:
        text = name.decode("utf-8")
        if not _ODD.search(text):
            return text
        encoded = _ODD.sub(lambda match: _percent(match[0].encode()), text)
    except UnicodeDecodeError:
        # Which of the bytes are text cannot be told, so only ASCII stays.
        encoded = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x25 else f"%{byte:02X}" for byte in name)
    if len(encoded.encode()) <= MAX_NAME_BYTES:
        return encoded
    # '%~' never comes out of the spelling above, so a shortened name cannot meet a whole one.
    readable = "".join(character for character in encoded[:80] if character.isascii())
    return f"{readable}%~{hashlib.sha256(name).hexdigest()[:32]}"


def _percent(character: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in character)


def display(path: bytes) -> str:
    """The path as people read it: what is not UTF-8 as \\xNN, what would move the cursor as Python spells it."""
    text = path.decode("utf-8", "backslashreplace")
    return re.sub("[\x00-\x1f\x7f-\x9f]", lambda match: match[0].encode("unicode_escape").decode(), text)


def spellings(typed: bytes) -> tuple[bytes, ...]:
    """What a path that somebody typed may mean: itself, or what is displayed that way."""
    found = [typed]
    for encoding in ("latin-1", "utf-8"):  # the byte of that number, or the character
        parts = _SHOWN.split(typed)
        parts[1::2] = [part.decode("unicode_escape").encode(encoding) for part in parts[1::2]]
        found.append(b"".join(parts))
    return tuple(dict.fromkeys(found))
