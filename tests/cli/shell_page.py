"""The generated parts of docs/shell.md, made from the parser. `python tests/cli/shell_page.py` writes them anew."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from backup_ops.cli.parser import COMMANDS, build_parser

PAGE = Path(__file__).resolve().parents[2] / "docs" / "shell.md"
_BLOCK = re.compile(r"(<!-- made from the parser: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
GLOBAL = "global options"


def parsers() -> dict[str, argparse.ArgumentParser]:
    choices = next(
        action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
    ).choices
    return {command.name: choices[command.name] for command in COMMANDS}


def block_of(name: str) -> str:
    """What stands between the marks of `name`: a command, or the global options."""
    some = parsers()
    if name == GLOBAL:
        return _table(action for action in next(iter(some.values()))._actions if _is_global(action))
    actions = [action for action in some[name]._actions if not _is_global(action)]
    usage = " ".join(
        ["backup-ops", name, *filter(None, map(_usage, sorted(actions, key=lambda a: bool(a.option_strings))))]
    )
    summary = next(command.summary for command in COMMANDS if command.name == name)
    return f"{summary[:1].upper()}{summary[1:]}.\n\n```text\n{usage}\n```\n" + (
        f"\n{_table(actions)}" if actions else ""
    )


def made_anew(text: str) -> str:
    return _BLOCK.sub(lambda block: f"{block[1]}{block_of(block[2])}{block[3]}", text)


def names_in(text: str) -> list[str]:
    return [block[2] for block in _BLOCK.finditer(text)]


def _is_global(action: argparse.Action) -> bool:
    return bool({"--home", "--json", "--quiet", "--verbose", "--version", "--help"} & set(action.option_strings))


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        word = str(action.metavar)
        return {"+": f"{word}…", "*": f"[{word}…]", "?": f"[{word}]"}.get(str(action.nargs), word)
    word = action.option_strings[-1] + (f" {action.metavar}" if action.metavar else "")
    return word if action.required else f"[{word}]"


def _table(actions) -> str:
    rows = ["| | |", "|---|---|"]
    for action in actions:
        names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar}`"
        if action.option_strings and action.metavar:
            names = names[:-1] + f" {action.metavar}`"
        rows.append(f"| {names} | {action.help} |".replace("JOB|RUN", "JOB\\|RUN"))
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(made_anew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
