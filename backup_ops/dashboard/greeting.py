"""The greeting of `panel serve dashboards/ops.py`: the one-time link, printed while the server starts.

Panel runs a script once for each session, so the script cannot speak before the first page is opened. But whenever
`panel serve` starts, it loads the plugins of its entry point group `panel.io.rest`; this module is one of them.
It has no routes to give, loading it is the point, and it stays silent unless this command line serves our script.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backup_ops.dashboard.rights import Rights, say_link
from backup_ops.errors import BackupError
from backup_ops.home import Home

_OUR_SCRIPT = "from backup_ops.dashboard import show"

has_greeted = False


def routes(files: Sequence[str], endpoint: str) -> list[Any]:
    """What Panel asks a plugin of this group for."""
    return []


def greet(arguments: Sequence[str]) -> None:
    """Prints the link when `arguments` are a command line that serves our script, else does nothing. Never raises."""
    global has_greeted
    script = next((path for path in arguments[1:] if path.endswith(".py") and _is_ours(Path(path))), None)
    if script is None or "serve" not in arguments:
        return
    try:
        home = Home.locate()
        home.make()
        rights = Rights(home)
        prefix = _option(arguments, "--prefix", "").strip("/")
        path = f"{prefix}/{Path(script).stem}" if prefix else Path(script).stem
        say_link(rights, f"http://localhost:{_option(arguments, '--port', '5006')}/{path}")
    except (BackupError, OSError):
        return  # the page says it, to whoever opens it
    has_greeted = True


def _is_ours(path: Path) -> bool:
    try:
        return _OUR_SCRIPT in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _option(arguments: Sequence[str], name: str, default: str) -> str:
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return default


greet(sys.argv)
