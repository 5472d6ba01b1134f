"""YAML nodes into settings, by the layout. Goes on after each problem and leaves out what it cannot use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import param
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from backup_ops.jobfile.layout import Key, Section
from backup_ops.jobfile.names import Entry, names_of
from backup_ops.jobfile.place import Place, Refused, is_nothing, quoted, shown


@dataclass
class Facts:
    """What was read of a section: `values` by attribute, `entries` by name, also of what was refused.

    `at` is the line of the key the section stands under; a problem of the whole section is there.
    """

    at: int
    values: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    misspelled: set[str] = field(default_factory=set)

    def line(self, name: str) -> int:
        return self.entries[name].line if name in self.entries else self.at


def read_section(section: Section, entry: Entry, place: Place) -> Facts:
    """Raises Refused when the node is no mapping; every other problem is reported and left out of the facts."""
    if not isinstance(entry.value, MappingNode):
        hint = f"Settings: {', '.join(section.names)}."
        raise place.refused(entry.key, f"must hold settings, and holds {shown(entry.value)}.", hint)
    facts = Facts(entry.line)
    facts.entries = names_of(entry.value, place, section.names, facts.misspelled)
    for key in section.keys:
        found = facts.entries.get(key.name)
        if found is None:
            continue
        inner = place.inside(key.name)
        if is_nothing(found.value):
            inner.problem(found.line, "has no value.", "Write one, or remove the line.")
            continue
        try:
            if isinstance(key.kind, Section):
                below = read_section(key.kind, found, inner)
                if key.kind.is_group:
                    facts.values.update(below.values)
                else:
                    _check_section(below, inner)
                    facts.values[key.attribute] = built(key.kind, below, inner)
            else:
                value = key.kind.read(found.value, inner)
                _check_bounds(section, key, value, found.value, inner)
                facts.values[key.attribute] = value
        except Refused:
            continue
    for name in section.required:
        if name not in facts.entries and name not in facts.misspelled:
            place.problem(facts.at, f"has no {quoted(name)}.", f"Write {name}: {_example(section, name)}.")
    return facts


def built(section: Section, facts: Facts, place: Place, **more: Any) -> Any:
    """The object of the section's class. Raises Refused, reported, when a value is one the class does not take."""
    try:
        return section.setting(**facts.values, **more)
    except (ValueError, TypeError) as error:
        raise place.refused(facts.at, f"cannot be used: {error}") from None


def _check_section(facts: Facts, place: Place) -> None:
    """What the settings of one section say together."""
    name = place.path.rpartition(".")[2]
    values, at = facts.values, facts.at
    if name == "schedule":
        given = [key for key in ("cron", "every") if key in facts.entries]
        if len(given) != 1 and not facts.misspelled & {"cron", "every"}:
            has = "has both cron and every" if given else "has neither cron nor every"
            place.problem(at, f"{has}.", 'Write one of them: cron: "0 2 * * *", or every: 6h.')
        elif given == ["every"] and "timezone" in facts.entries:
            place.problem(
                facts.line("timezone"), "has a timezone, and every: needs none.", "Remove it, or write cron:."
            )
    if name == "retention" and len(values) == len(facts.entries) and not any(values.values()) and not facts.misspelled:
        place.problem(at, "keeps no snapshot at all.", "Write how many are kept, such as {last: 3, daily: 7}.")
    if name == "retry" and values.get("max_delay_s", 900.0) < values.get("delay_s", 60.0):
        line = facts.line("max_delay" if "max_delay" in facts.entries else "delay")
        place.problem(
            line, "has a max_delay shorter than its delay.", "Write max_delay: too, as long as delay or longer."
        )


def _check_bounds(section: Section, key: Key, value: Any, node: Node, place: Place) -> None:
    parameter = section.setting.param[key.attribute]
    bounds = getattr(parameter, "bounds", None)
    if not isinstance(parameter, param.Number) or bounds is None or isinstance(key.kind, Section):
        return
    low, high = bounds
    takes_low = parameter.inclusive_bounds[0]
    if low is not None and (value < low or (value == low and not takes_low)):
        least = key.kind.show(low)
        raise place.refused(node, f"must be {'at least' if takes_low else 'more than'} {least}, not {_written(node)}.")
    if high is not None and value > high:
        raise place.refused(node, f"must be at most {key.kind.show(high)}, not {_written(node)}.")


def _written(node: Node) -> str:
    return str(node.value) if isinstance(node, ScalarNode) and str(node.value).isprintable() else shown(node)


def _example(section: Section, name: str) -> str:
    kind = next(key.kind for key in section.keys if key.name == name)
    return "" if isinstance(kind, Section) else kind.written.replace("`", "")
