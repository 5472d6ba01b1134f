"""The names of a YAML mapping: each once, each known, each with the line it stands in."""

from __future__ import annotations

from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from backup_ops.jobfile.place import Place, line_of, quoted, shown, tag_of


@dataclass(frozen=True)
class Entry:
    name: str
    key: Node
    value: Node

    @property
    def line(self) -> int:
        return line_of(self.key)


def names_of(
    node: MappingNode, place: Place, known: tuple[str, ...] | None = None, misspelled: set[str] | None = None
) -> dict[str, Entry]:
    """The entries by name, in the order of the file. Reports what is written twice, or is none of `known`.

    `misspelled` receives the names that unknown ones were probably meant to be: that these are missing is no news.
    """
    entries: dict[str, Entry] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or tag_of(key) not in ("str", "int", "float", "bool", "timestamp"):
            if tag_of(key) == "merge":
                place.problem(
                    key, "cannot take `<<`.", "Write the settings out, or reuse one value by an alias: `*name`."
                )
            else:
                place.problem(key, f"has {shown(key)} where the name of a setting belongs.", "Write NAME: value.")
            continue
        name = str(key.value)
        if known is not None and name not in known:
            meant = place.report.closest(name, known)
            if misspelled is not None and meant:
                misspelled.add(meant)
            hint = f"Did you mean '{meant}'?" if meant else f"It has {', '.join(known)}."
            place.problem(key, f"has no setting {quoted(name)}.", hint)
        elif name in entries:
            place.problem(
                key, f"has {quoted(name)} twice, here and in line {entries[name].line}.", "Remove one of them."
            )
        else:
            entries[name] = Entry(name, key, value)
    return entries
