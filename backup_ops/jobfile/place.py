"""Where a value stands in jobs.yaml, and the list of what is wrong with the file."""

from __future__ import annotations

from dataclasses import dataclass, field

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from backup_ops.errors import Problem, did_you_mean


class Refused(Exception):
    """The value cannot be used; the reason is in the report already."""


@dataclass
class Report:
    """The problems found so far; reading goes on after each, so that a person sees all of them at once."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    _closest: dict[tuple[str, tuple[str, ...]], str | None] = field(default_factory=dict)

    def add(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, line, message, hint))

    def closest(self, word: str, known: tuple[str, ...]) -> str | None:
        """The known word that was probably meant. Remembered: a thousand jobs may share one misspelled repository."""
        key = (word, known)
        if key not in self._closest:
            sentence = did_you_mean(*key)
            self._closest[key] = next((name for name in known if f"'{name}'" in sentence), None)
        return self._closest[key]

    def suggest(self, word: str, known: tuple[str, ...], otherwise: str = "") -> str:
        """`Did you mean 'x'?`, else `otherwise`."""
        meant = self.closest(word, known)
        return f"Did you mean '{meant}'?" if meant else otherwise


@dataclass(frozen=True)
class Place:
    """`subject` is whose setting it is (`job 'photos'`), `path` the setting below it (`limits.timeout`)."""

    report: Report
    subject: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.path}" if self.subject and self.path else self.subject or self.path or "the file"

    def inside(self, key: str) -> Place:
        return Place(self.report, self.subject, f"{self.path}.{key}" if self.path else key)

    def problem(self, at: Node | int, words: str, hint: str = "") -> None:
        self.report.add(at if isinstance(at, int) else line_of(at), f"{self} {words}", hint)

    def refused(self, at: Node | int, words: str, hint: str = "") -> Refused:
        """The problem is reported; what is left is to raise this."""
        self.problem(at, words, hint)
        return Refused()


def line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1


def shown(node: Node) -> str:
    """A value as a message shows it: one line, not longer than a line."""
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "settings of its own" if node.value else "{}"
    text = str(node.value)
    if is_nothing(node):
        return "nothing"
    return quoted(text)


def quoted(text: str) -> str:
    """The text in single quotes, shortened, with what cannot be printed spelled out."""
    short = text if len(text) <= 80 else f"{text[:60]}…"
    return "'" + "".join(letter if letter.isprintable() else _spelled(letter) for letter in short) + "'"


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and tag_of(node) == "null"


def tag_of(node: Node) -> str:
    """`str`, `int`, `float`, `bool`, `null`, `map`, `seq` … or the whole of a tag the person wrote."""
    return str(node.tag).removeprefix("tag:yaml.org,2002:")
