"""Patterns of what is left out, in the manner of .gitignore, applied to what our scan finds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence


class Exclude:
    """Which paths below a source are left out. A folder that is left out takes all below it along.

    A pattern without `/` means any file or folder of that name, at any depth: `*.tmp`, `node_modules`. With a `/` at
    the start or inside it means the path from the source's root: `/cache`, `var/*.log`. With `/` at the end it means
    folders only. `*` and `?` stop at `/`, `**` does not, `[a-z]` and `[!a-z]` are sets, `\\` takes the next character
    literally. A pattern that spells the source's full path (`/srv/photos/cache` for source `/srv/photos`) is taken from
    there on.
    """

    def __init__(self, patterns: Sequence[str], root: str = "") -> None:
        names: list[str] = []
        paths: list[str] = []
        folder_names: list[str] = []
        folder_paths: list[str] = []
        for pattern in patterns:
            only_folders = pattern.endswith("/")
            body = pattern.rstrip("/")
            if root and body.startswith(f"{root}/"):
                body = body[len(root) :]
            if not body:
                continue
            expression = _expression(body.lstrip("/"))
            if "/" in body:
                (folder_paths if only_folders else paths).append(expression)
            else:
                (folder_names if only_folders else names).append(expression)
        self._names, self._paths = _compile(names), _compile(paths)
        self._folder_names, self._folder_paths = _compile(folder_names), _compile(folder_paths)
        self._is_used = bool(names or paths or folder_names or folder_paths)

    def matches(self, path: bytes, is_folder: bool) -> bool:
        """`path` is relative to the source's root."""
        if not self._is_used:
            return False
        text = os.fsdecode(path)
        name = text.rpartition("/")[2]
        if _matches(self._names, name) or _matches(self._paths, text):
            return True
        return is_folder and (_matches(self._folder_names, name) or _matches(self._folder_paths, text))


def _compile(expressions: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{expression})" for expression in expressions), re.DOTALL) if expressions else None


def _matches(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is not None and pattern.fullmatch(text) is not None


def _expression(pattern: str) -> str:
    parts: list[str] = []
    index = 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character == "*":
            if pattern.startswith("*/", index) and (index == 1 or pattern[index - 2] == "/"):
                parts.append("(?:.*/)?")  # '**/x' is also 'x' itself
                index += 2
            elif pattern.startswith("*", index):
                parts.append(".*")
                index += 1
            else:
                parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "\\" and index < len(pattern):
            parts.append(re.escape(pattern[index]))
            index += 1
        elif character == "[" and (end := _end_of_set(pattern, index)):
            parts.append(_set(pattern[index:end]))
            index = end + 1
        else:
            parts.append(re.escape(character))
    return "".join(parts)


def _end_of_set(pattern: str, start: int) -> int:
    first = start + 1 if pattern.startswith(("!", "^"), start) else start
    return max(0, pattern.find("]", first + 1))


def _set(content: str) -> str:
    negated = content[0] in "!^"
    inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", content[1:] if negated else content)
    expression = f"[{'^/' if negated else ''}{inside}]"
    try:
        re.compile(expression)
    except re.error:  # a range from high to low holds nothing; such brackets are meant as they stand
        return re.escape(f"[{content}]")
    return expression
