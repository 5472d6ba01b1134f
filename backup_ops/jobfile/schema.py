"""The JSON Schema of jobs.yaml, made from the layout and the parameters; editors complete and check by it."""

from __future__ import annotations

from typing import Any

import param

from backup_ops.job import NAME_PATTERN, Setting
from backup_ops.jobfile import layout
from backup_ops.jobfile.layout import Key, Section


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Refuses what `load` refuses by form; it cannot see what only the whole file shows."""
    job = _section(layout.JOB)
    job["oneOf"] = [
        {"required": ["source", "repository"]},
        {"required": ["command"]},
        {"required": ["heartbeat"], "properties": {"heartbeat": {"const": True}}},
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jobs.yaml of backup-ops",
        "type": "object",
        "additionalProperties": False,
        "required": ["version"],
        "properties": {
            "version": {"const": 1, "description": "Version of the format."},
            "settings": _or_nothing(_section(layout.SETTINGS)),
            "repositories": _or_nothing(_by_name("repository", _section(layout.REPOSITORY))),
            "jobs": _or_nothing(_by_name("job", job)),
            "notify": _or_nothing({"type": "array", "items": _section(layout.NOTIFY)}),
        },
    }


def _by_name(noun: str, section: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"By the name of the {noun}.",
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": section,
    }


def _or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _section(section: Section) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _key(section.setting, key) for key in section.keys},
    }
    if section.required:
        schema["required"] = list(section.required)
    return schema


def _key(setting: type[Setting], key: Key) -> dict[str, Any]:
    if isinstance(key.kind, Section) and key.kind.is_group:
        return _section(key.kind)
    parameter = setting.param[key.attribute]
    described = {"description": parameter.doc}
    if isinstance(key.kind, Section):
        return {**_section(key.kind), **described}
    schema = {**key.kind.schema, **described}
    if isinstance(parameter, param.Number) and parameter.bounds and schema["type"] in ("integer", "number"):
        low, high = parameter.bounds
        if low is not None:
            schema["minimum" if parameter.inclusive_bounds[0] else "exclusiveMinimum"] = low
        if high is not None:
            schema["maximum"] = high
    return schema
