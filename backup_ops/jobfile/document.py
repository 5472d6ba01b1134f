"""The text of jobs.yaml as YAML nodes with their lines, or a sentence a person understands about why it is none."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import Node

from backup_ops.errors import ConfigInvalid, Problem

# 8 MiB hold some 30,000 jobs and take half a minute; what is larger got here by mistake.
LARGEST_BYTES = 8 * 1024 * 1024

# What YAML allows in a file; an escape such as "\0" in a quoted value is looked at where the value is read.
_NOT_TEXT = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Part of ruamel's words (its context and problem) → ours. The first that matches counts.
_SENTENCES: tuple[tuple[str, str, str], ...] = (
    (r"character '\\t'", "a tab stands where YAML wants spaces", "Indent with spaces."),
    (
        r"character '[%@`|>&*!]'",
        "a value starts with a character that means something to YAML",
        "Put the value in quotes.",
    ),
    (
        r"scanning an alias|undefined alias",
        "a value starts with *, which means an alias to YAML",
        'Put it in quotes: "*.tmp".',
    ),
    (r"scanning an anchor", "a value starts with &, which means an anchor to YAML", "Put it in quotes."),
    (r"tag", "a value starts with !, which means a tag to YAML", "Put it in quotes."),
    (r"quoted scalar.*end of stream", "a quote is opened and never closed", "Close it."),
    (r"quoted scalar.*document separator", "a quote is opened and not closed before `---`", "Close it."),
    (r"escape", r"a value in double quotes holds a \ that YAML cannot read", r"Use single quotes, or write \\."),
    (
        r"flow sequence.*",
        "a [ is opened and never closed, or a comma is missing after an item",
        "Write [one, two], and quote an item that starts with a sign such as ! or *.",
    ),
    (
        r"flow mapping.*",
        "a { is opened and never closed, or a comma is missing after a value",
        "Write {key: value, key: value}.",
    ),
    (
        r"mapping values are not allowed",
        "a `:` stands where none can",
        "Put a value that holds `: ` in quotes, and look at the indentation.",
    ),
    (
        r"could not find expected ':'",
        "a line is neither `name: value` nor part of the value above it",
        "Add the `:`, or indent the line.",
    ),
    (
        r"block collection",
        "an item is indented differently from the items above it",
        "Indent every `-` of a list alike.",
    ),
    (
        r"block mapping",
        "a line is indented differently from the lines above it",
        "Indent the settings of one thing alike.",
    ),
    (r"single document|document start", "a second document starts here", "Remove the `---`: the file is one document."),
    (r"block scalar", "a `|` or `>` is followed by something that does not belong there", "Put the value in quotes."),
    (
        r"directive",
        "a line starts with %, which means a directive to YAML",
        "Put the value in quotes, or remove the line.",
    ),
)


def read_bytes(path: Path) -> bytes:
    """The bytes of the file. Raises ConfigInvalid when it is missing, no file, not readable or far too large."""
    try:
        # Not blocking: a FIFO in the place of the file must not hang every command.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _invalid(path.name, 0, f"{path} is not a file.", "Put a jobs.yaml there.")
            if status.st_size > LARGEST_BYTES:
                raise _invalid(
                    path.name,
                    0,
                    f"{path} is {status.st_size:,} bytes long, and {LARGEST_BYTES:,} are read.",
                    "Is it another file?",
                )
            return file.read()
    except FileNotFoundError:
        raise _invalid(path.name, 0, f"there is no {path}.", "Write a first one with `backup-ops init`.") from None
    except IsADirectoryError:
        raise _invalid(path.name, 0, f"{path} is a folder, not a file.", "Put a jobs.yaml there.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _invalid(path.name, 0, f"{path} cannot be read: {reason}.", "Look at its owner and mode.") from None


def compose(data: bytes, file: str) -> Node | None:
    """The root node; None when nothing but comments is in it. Raises ConfigInvalid, never anything else."""
    text = _decoded(data, file)
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        raise _broken(error, file) from None
    except RecursionError:
        raise _invalid(
            file, 0, "lists or mappings are nested too deeply to be a jobs.yaml.", "Write it flatter."
        ) from None
    except Exception as error:  # ruamel lets its own slips through as ValueError, AssertionError, AttributeError …
        raise _invalid(
            file, 0, f"this is no YAML ({type(error).__name__}: {error}).", "Compare it with docs/jobs-yaml.md."
        ) from None
    assert root is None or isinstance(root, Node)
    return root


def _decoded(data: bytes, file: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _invalid(file, 1, "the file is UTF-16.", "Save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _invalid(file, line, f"byte {data[error.start]:#04x} is not UTF-8.", "Save the file as UTF-8.") from None
    odd = _NOT_TEXT.search(text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        name = "a NUL byte" if odd[0] == "\0" else f"the control character U+{ord(odd[0]):04X}"
        raise _invalid(file, line, f"{name} stands in the file.", "Remove it: jobs.yaml is text.")
    return text


def _broken(error: MarkedYAMLError, file: str) -> ConfigInvalid:
    words = f"{error.context or ''} {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    opened = error.context_mark
    unknown = ("", f"this is no YAML: {words.strip()}", "Compare it with docs/jobs-yaml.md.")
    _, sentence, hint = next((row for row in _SENTENCES if re.search(row[0], words, re.DOTALL)), unknown)
    line = 0 if mark is None else int(mark.line) + 1
    if mark is not None:
        sentence += f" (column {int(mark.column) + 1}"
        if opened is not None and opened.line != mark.line:
            sentence += f"; it begins in line {int(opened.line) + 1}"
        sentence += ")"
    return _invalid(file, line, f"{sentence}.", hint)


def _invalid(file: str, line: int, message: str, hint: str) -> ConfigInvalid:
    return ConfigInvalid([Problem(file, line, message, hint)])
