"""Facts as short texts for people: what stands in the cells of tables and in one-line answers."""

from __future__ import annotations

import os
import stat
import unicodedata
from datetime import UTC, datetime

_FORMATS = ("\u2028", "\u2029", "\ufeff")


def printable(text: str, *, keep: str = "") -> str:
    r"""Text that cannot steer a terminal: control characters, direction marks and undecodable bytes become `\xNN`.

    >>> printable("a\x1b[2Jb\udcff\n")
    'a\\x1b[2Jb\\xff\\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or _is_harmless(character) else _escaped(character) for character in text
    )


def _is_harmless(character: str) -> bool:
    # Cf: joiners are needed in many scripts and in emoji; what turns the direction of text round is not among them.
    category = unicodedata.category(character)
    if category == "Cf":
        return character in "\u200c\u200d\u00ad"
    return category not in ("Cc", "Cs", "Co", "Cn") and character not in _FORMATS


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as Python spells it in file names
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def when(moment: datetime | None) -> str:
    """Local time to the minute."""
    return "" if moment is None else f"{aware(moment).astimezone():%Y-%m-%d %H:%M}"


def aware(moment: datetime) -> datetime:
    """The history's times are UTC without a zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def counted(count: int | None, noun: str, plural: str | None = None) -> str:
    """`1 file`, `1,204 files`."""
    return f"{count or 0:,} {noun if count == 1 else plural or noun + 's'}"


def mode(bits: int, kind: str) -> str:
    """`drwxr-x---`, as ls writes it."""
    kinds = {"folder": stat.S_IFDIR, "symlink": stat.S_IFLNK, "other": stat.S_IFIFO}
    return stat.filemode(kinds.get(kind, stat.S_IFREG) | stat.S_IMODE(bits))


def sentence(text: str) -> str:
    """With the full stop it may lack."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def short_path(path: str) -> str:
    """With `~` for the user's home folder."""
    folder = os.path.expanduser("~")
    return f"~{path[len(folder) :]}" if folder not in ("/", "~") and path.startswith(folder + "/") else path
