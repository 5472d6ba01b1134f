"""The kinds of values jobs.yaml holds: how each is read, and how the JSON Schema and the reference page say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.nodes import Node

from backup_ops.job import NAME_PATTERN, REPOSITORY_ENGINES, SEVERITIES
from backup_ops.jobfile import compounds, scalars
from backup_ops.jobfile.place import Place
from backup_ops.quantity import format_bytes, format_duration

_STRING = {"type": "string", "minLength": 1}
_WORD = {"type": ["string", "number"]}  # a number is read as it is written


@dataclass(frozen=True)
class Kind:
    read: Callable[[Node, Place], Any]
    schema: dict[str, Any]
    written: str
    show: Callable[[Any], str] = str


def _show_duration(seconds: float) -> str:
    return format_duration(seconds) if seconds else "0 s"


def _show_list(values: list[Any]) -> str:
    return "[" + ", ".join(map(str, values)) + "]"


_SECRET_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {
        "env": {"type": "string", "pattern": compounds.VARIABLE_PATTERN},
        "file": {"type": "string", "pattern": "^[/~]"},
        "command": {"type": "array", "items": _WORD, "minItems": 1},
        "keyring": {"type": "string", "pattern": "^[^/]+/.+$"},
    },
}
_PATH_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[/~]"}
_WORDS_SCHEMA: dict[str, Any] = {"type": "array", "items": _WORD, "minItems": 1}


def _one_or_list(item: dict[str, Any], at_least: int = 0) -> dict[str, Any]:
    return {"oneOf": [item, {"type": "array", "items": item, "minItems": at_least}]}


INTEGER = Kind(scalars.integer, {"type": "integer"}, "whole number")
NUMBER = Kind(scalars.number, {"type": "number"}, "number", lambda value: f"{value:g}")
BOOLEAN = Kind(scalars.boolean, {"type": "boolean"}, "`true` or `false`", lambda value: str(value).lower())
DURATION = Kind(
    scalars.duration,
    {"type": ["string", "number"], "minLength": 1},
    "duration",
    _show_duration,
)
SIZE = Kind(scalars.size, {"type": ["string", "number"], "minLength": 1}, "size", format_bytes)
CRON = Kind(scalars.cron, _STRING, 'cron: `"0 2 * * *"`')
TIMEZONE = Kind(scalars.timezone, _STRING, "time zone: `Europe/Berlin`")
PATHS = Kind(
    compounds.list_of(scalars.path, alone=True, at_least=1),
    _one_or_list(_PATH_SCHEMA, 1),
    "full path, or a list of them",
    _show_list,
)
PATTERNS = Kind(
    compounds.list_of(scalars.line, alone=True),
    _one_or_list({**_WORD, "minLength": 1}),
    'pattern, or a list: `["*.tmp"]`',
    _show_list,
)
FILE_NAME = Kind(scalars.file_name, {**_WORD, "pattern": "^[^/]+$"}, "file name")
WORDS = Kind(compounds.words, _WORDS_SCHEMA, "list of words: `[pg_dump, orders]`", _show_list)
COMMANDS = Kind(
    compounds.list_of(compounds.words),
    {"type": "array", "items": _WORDS_SCHEMA},
    "list of commands: `[[/usr/bin/true]]`",
    _show_list,
)
URL = Kind(compounds.url, _STRING, "full path or address")
SECRET = Kind(
    compounds.reference, _SECRET_SCHEMA, "`{env: NAME}`, `{file: PATH}`, `{command: […]}` or `{keyring: SERVICE/USER}`"
)
TOOLS = Kind(
    compounds.tools,
    {
        "type": "object",
        "additionalProperties": False,
        "properties": dict.fromkeys(REPOSITORY_ENGINES, _PATH_SCHEMA),
    },
    "`{rclone: PATH}`",
    lambda value: "{}" if not value else str(value),
)
UID = Kind(compounds.uid, {**_WORD, "pattern": NAME_PATTERN}, "name")
REPOSITORY_NAME = Kind(compounds.named, _WORD, "name of a repository")
ENGINE = Kind(
    compounds.choice(REPOSITORY_ENGINES, compounds.no_such_engine),
    {"enum": list(REPOSITORY_ENGINES)},
    "`rclone` or `restic`",
)
SEVERITY = Kind(
    compounds.choice(SEVERITIES, lambda value: ""),
    {"enum": list(SEVERITIES)},
    ", ".join(f"`{name}`" for name in SEVERITIES),
)
