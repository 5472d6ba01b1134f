"""`serve` and `demo`: the dashboard over a home, and a home worth looking at."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from argparse import Namespace

from backup_ops.cli.cells import counted
from backup_ops.cli.shell import Shell
from backup_ops.errors import UsageError
from backup_ops.home import HOME_VARIABLE
from backup_ops.quantity import format_bytes

PORT = 5006


def serve(shell: Shell, arguments: Namespace) -> int:
    shell.open_home()
    return _serve(shell, arguments.address, PORT if arguments.port is None else arguments.port)


def _serve(shell: Shell, address: str, port: int, *, opens_browser: bool = False) -> int:
    try:
        from backup_ops.dashboard import serve as serve_dashboard
    except ImportError as error:
        if (error.name or "").startswith("backup_ops"):
            raise
        raise UsageError(
            f"the dashboard is not installed: there is no package '{error.name}'.",
            hint="Install it: pip install 'backup-ops[dashboard]'",
        ) from None
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        serve_dashboard(shell.ops, address=address, port=port, show=opens_browser)
    shell.notice("The dashboard is closed; runs go on.")
    return 0


def demo(shell: Shell, arguments: Namespace) -> int:
    from backup_ops.demo import build, default_home

    is_named = arguments.home is not None or os.environ.get(HOME_VARIABLE)
    place = shell.home.path if is_named else default_home()

    def report(line: str) -> None:
        if shell.as_json:
            shell.notice(line)
        else:
            shell.say(line)
            shell.flush()  # it takes a minute: whoever watches through a pipe sees each line as it comes

    made = build(place, report)
    if shell.as_json:
        shell.say_object(
            {"home": str(made.home), "files": made.files, "bytes": made.bytes, "runs": len(made.runs)},
        )
    else:
        shell.say(f"\nThe demo is in {made.home}: {counted(made.files, 'file')}, {format_bytes(made.bytes)}.")
        shell.say(f"To question it from another terminal:\n\n    export {HOME_VARIABLE}={made.home}\n")
    shell.flush()
    if arguments.no_serve:
        return 0
    shell.move_to(made.home)
    port = arguments.port
    if port is None:
        port = PORT if _is_free(arguments.address, PORT) else 0
        if not port:
            shell.notice(f"Port {PORT} is taken; the dashboard gets a free one.")
    return _serve(shell, arguments.address, port, opens_browser=shell.stdout_is_terminal and _has_display())


def _is_free(address: str, port: int) -> bool:
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError:
        return False
    return True


def _has_display() -> bool:
    """Without one a text browser would take over the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
