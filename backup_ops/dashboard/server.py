"""Serving the dashboard from Python and from `backup-ops serve`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn

from backup_ops.dashboard import assets, door, page
from backup_ops.dashboard.rights import say_link
from backup_ops.errors import UsageError
from backup_ops.ops import Ops, open

_COMES_BACK_WITHIN_S = 12 * 3600
"""A page that lost its server for longer (a laptop asleep) is loaded anew instead of reconnected."""


def serve(
    ops_or_home: Ops | str | os.PathLike[str] | None = None,
    *,
    address: str = "127.0.0.1",
    port: int = 5006,
    show: bool = False,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serves the dashboard at `/` until it is interrupted, and prints the one-time link that lets a browser operate.

    Port 0 takes a free one. `started` is called with the URL once the server answers. Raises UsageError for an address
    that other machines can reach, or a port that is taken.
    """
    ops = ops_or_home if isinstance(ops_or_home, Ops) else open(ops_or_home)
    server = make(ops, address, port)
    url = url_of(server, address)
    print(f"The dashboard is at {url}", flush=True)
    rights = page.house_of(ops).rights
    say_link(rights, url)
    if started is not None:
        server.io_loop.add_callback(started, url)
    if show:
        server.io_loop.add_callback(server.show, "/" if rights.is_for_looking else f"/?token={rights.token()}")
    server.start()
    try:
        server.io_loop.start()
    finally:
        server.stop()


def make(ops: Ops, address: str, port: int, *, linger_s: float = 10.0) -> Any:
    """A Bokeh server with the dashboard at `/`, not yet started. A page that is gone is forgotten after `linger_s`."""
    _refuse_wide(address)
    house = page.house_of(ops)
    assets.mount()
    try:
        server = pn.io.server.get_server(
            {"/": lambda: page.build(house, pn.state.curdoc)},
            address=address,
            port=port,
            location=False,
            title="backup-ops",
            unused_session_lifetime_milliseconds=round(linger_s * 1000),
            check_unused_sessions_milliseconds=round(linger_s * 1000),
            session_token_expiration=_COMES_BACK_WITHIN_S,
        )
    except OSError as error:
        raise UsageError(
            f"port {port} of {address} cannot be used: {error.strerror or error}.",
            hint="Another server may hold it; name a free one with --port.",
        ) from None
    announce = partial(say_link, house.rights, url_of(server, address))
    # The attribute is Bokeh's own and Panel reads it too; there is no public way from a server to its handlers.
    door.open_door(server._tornado, "/", server.port or port, house.rights, announce)
    return server


def url_of(server: Any, address: str) -> str:
    return f"http://{f'[{address}]' if ':' in address else address}:{server.port}/"


def _refuse_wide(address: str) -> None:
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(address, None)}
    except OSError as error:
        raise UsageError(f"'{address}' is not an address: {error.strerror or error}.", hint="Use 127.0.0.1.") from None
    if not all(door.is_this_machine(str(each)) for each in found):
        raise UsageError(
            f"{address} can be reached from other machines, and the dashboard has no login yet.",
            hint="Serve at 127.0.0.1 and reach it through a tunnel: ssh -L 5006:localhost:5006 HOST.",
        )
