"""Values of more than one part: lists, commands, secrets by reference, addresses of repositories."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from backup_ops.address import program_in, secret_in
from backup_ops.job import REPOSITORY_ENGINES, SECRET_KINDS, SecretReference, name_problem
from backup_ops.jobfile import scalars
from backup_ops.jobfile.names import names_of
from backup_ops.jobfile.place import Place, Refused, quoted, shown

T = TypeVar("T")
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
_SECRET_HINT = "Refer to it: {env: NAME}, {file: /PATH}, {command: [PROGRAM, ARGUMENT]} or {keyring: SERVICE/USER}."


def list_of(
    read: Callable[[Node, Place], T], *, alone: bool = False, at_least: int = 0
) -> Callable[[Node, Place], list[T]]:
    """Reads a list, going on after an item that is refused; `alone`: one item may stand without a list."""

    def read_list(node: Node, place: Place) -> list[T]:
        if not isinstance(node, SequenceNode):
            if alone and isinstance(node, ScalarNode):
                return [read(node, place)]
            raise place.refused(node, f"must be a list, not {shown(node)}.", "Write [one, two].")
        if len(node.value) < at_least:
            raise place.refused(node, "is an empty list.", "Write what belongs in it, or remove the line.")
        items, is_whole = [], True
        for item in node.value:
            try:
                items.append(read(item, place))
            except Refused:
                is_whole = False
        if not is_whole:
            raise Refused
        return items

    return read_list


def words(node: Node, place: Place) -> list[str]:
    """A program and its arguments. There is no shell, so one line of text is refused rather than split in some way."""
    if isinstance(node, ScalarNode):
        written = ", ".join(str(node.value).split()[:6])
        hint = f"Write [{written}]." if written.isprintable() and len(written) < 80 else "Write [PROGRAM, ARGUMENT]."
        raise place.refused(node, f"must be a list of words, not {shown(node)}: no shell reads it.", hint)
    return list_of(_argument, at_least=1)(node, place)


def _argument(node: Node, place: Place) -> str:
    if isinstance(node, ScalarNode) and not str(node.value) and node.style:
        return ""  # an empty argument in quotes is meant
    return scalars.text(node, place)


def choice(options: tuple[str, ...], otherwise: Callable[[str], str]) -> Callable[[Node, Place], str]:
    def read(node: Node, place: Place) -> str:
        value = scalars.line(node, place)
        if value not in options:
            # difflib takes cases for different letters.
            meant = next((option for option in options if option.lower() == value.lower()), value)
            hint = place.report.suggest(meant, options, otherwise(value))
            raise place.refused(node, f"{quoted(value)} is none of {', '.join(options)}.", hint)
        return value

    return read


def no_such_engine(value: str) -> str:
    return f"Back up with {value} by a job with `command`." if name_problem(value) == "" else ""


def reference(node: Node, place: Place) -> SecretReference:
    """A secret by reference. No message shows the value: a password written by mistake must not reach a log."""
    if not isinstance(node, MappingNode):
        raise place.refused(node, "is written in the file, where everybody who reads it sees it.", _SECRET_HINT)
    entries = [(kind, value) for key, value in node.value for kind in SECRET_KINDS if key.value == kind]
    if len(entries) != 1 or len(node.value) != 1:
        raise place.refused(node, f"must name one of {', '.join(SECRET_KINDS)}, and nothing else.", _SECRET_HINT)
    kind, written = entries[0]
    inner = place.inside(kind)
    if kind == "command":
        return SecretReference("command", tuple(words(written, inner)))
    if kind == "file":
        return SecretReference("file", scalars.path(written, inner))
    value = scalars.line(written, inner)
    if kind == "env":
        if not re.match(VARIABLE_PATTERN, value):
            raise inner.refused(
                written, "is not the name of an environment variable.", "Write a name such as MIRROR_PASSWORD."
            )
        return SecretReference("env", value)
    if not all(value.partition("/")):
        raise inner.refused(written, "must be SERVICE/USER.", "Write it like backup-ops/vault.")
    return SecretReference("keyring", value)


def url(node: Node, place: Place) -> str:
    """A folder's full path, or an address as the tool reads it."""
    value = scalars.line(node, place)
    secret = secret_in(value)
    if secret is not None:
        what = "a password" if secret.startswith("pass") else f"a secret ({secret})"
        if secret == program_in(value):
            what = f"a command line ({secret}), which everybody who lists processes reads"
        raise place.refused(
            node,
            f"holds {what}.",
            "Leave it out of the address; the tool finds it in its environment or its own configuration.",
        )
    local = re.match(r":?local:(?=[/~.])", value)
    if value.startswith("file:"):
        raise place.refused(node, f"{quoted(value)} is the address of a file.", f"Write /{value[5:].lstrip('/')}.")
    if local or ":" not in value or value.startswith(("/", "~", ".")):
        prefix = local[0] if local else ""
        inner = ScalarNode(node.tag, value[len(prefix) :], node.start_mark, node.end_mark)
        return prefix + scalars.path(inner, place)
    return value


def tools(node: Node, place: Place) -> dict[str, str]:
    """Full paths of the programs engines drive."""
    if not isinstance(node, MappingNode):
        raise place.refused(node, f"must be names and paths, not {shown(node)}.", "Write {rclone: /usr/bin/rclone}.")
    entries = names_of(node, place, REPOSITORY_ENGINES)
    paths = {}
    for name, entry in entries.items():
        try:
            paths[name] = _tool(entry.value, place.inside(name))
        except Refused:
            continue
    return paths


def _tool(node: Node, place: Place) -> str:
    if isinstance(node, ScalarNode) and "/" not in str(node.value):
        raise place.refused(node, f"must be a full path, not {shown(node)}.", "Write it like /usr/bin/rclone.")
    return scalars.path(node, place)


def named(node: Node, place: Place) -> str:
    """A name that stands elsewhere, in one spelling of ü: editors and shells of different systems write two."""
    return unicodedata.normalize("NFC", scalars.line(node, place))


def uid(node: Node, place: Place) -> str:
    value = named(node, place)
    problem = name_problem(value)
    if problem:
        raise place.refused(
            node, f"{quoted(value)} cannot be used: it {problem}.", "Use letters, digits, `.`, `_` and `-`."
        )
    return value
