"""The door of a running Panel server: lets one-time links in, keeps foreign hosts out.

`panel serve` gives a script no hook of its own: the script runs once for each session, long after the server was made.
Tornado, on which it stands, takes further handlers at any time (`Application.add_handlers`), so the first session adds
ours to the server that is running it, and `serve` adds the same ones before it starts.
"""

from __future__ import annotations

import gc
import html
import weakref
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from bokeh.server.contexts import ApplicationContext
from bokeh.server.tornado import BokehTornado
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler

from backup_ops.dashboard.rights import COOKIE_DAYS, Rights

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_FOREIGN_HOST = r"(?!(?:localhost|127\.0\.0\.1|\[::1\])$).*$"

_with_door: weakref.WeakSet[BokehTornado] = weakref.WeakSet()


def server_of(context: ApplicationContext) -> BokehTornado:
    """The server that serves this application. It has no public way from the one to the other, so it is looked for."""
    return next(
        server
        for server in gc.get_objects()
        if isinstance(server, BokehTornado) and context in server.applications.values()
    )


def has_door(server: BokehTornado) -> bool:
    return server in _with_door


def open_door(server: BokehTornado, path: str, port: int, rights: Rights, announce: Callable[[], None]) -> None:
    """Adds the handlers: `path?token=…` is a one-time link, any host but this machine's own names is refused.

    `announce` is called when a link was used, to print the next one. Once per server; later calls do nothing.
    """
    if server in _with_door:
        return
    _with_door.add(server)
    facts = {"rights": rights, "announce": announce, "path": path}
    server.add_handlers(r".*$", [Rule(_Link(path), _LetIn, facts)])
    server.add_handlers(_FOREIGN_HOST, [(r".*", _Refuse)])
    # Bokeh lets scripts of `localhost` speak to it; the same machine by number is no foreigner.
    server.websocket_origins.update(f"{host}:{port}" for host in LOCAL_HOSTS)


def is_this_machine(address: str | None) -> bool:
    """Whether a request came over the loopback interface."""
    try:
        return address is not None and ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


class _Link(Matcher):
    """A request for the page with a token."""

    def __init__(self, path: str) -> None:
        self._paths = {path, path.rstrip("/") or "/"}

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return {} if request.path in self._paths and "token" in request.query_arguments else None


class _LetIn(RequestHandler):
    def initialize(self, rights: Rights, announce: Callable[[], None], path: str) -> None:
        self._rights, self._announce, self._path = rights, announce, path

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        rights = self._rights
        if is_this_machine(self.request.remote_ip) and rights.spend(self.get_query_argument("token")):
            self.set_cookie(
                rights.cookie_name, rights.grant(), httponly=True, samesite="Lax", path="/", expires_days=COOKIE_DAYS
            )
            self.redirect(self._path)
            self._announce()
        elif rights.holds(self.get_cookie(rights.cookie_name)):
            self.redirect(self._path)  # the browser that used the link opens it once more
        else:
            self.set_status(403)
            _say(
                self,
                "This link has been used, or it is not of this server.",
                "A fresh one stands in the terminal of the server.",
                self._path,
            )


class _Refuse(RequestHandler):
    def prepare(self) -> None:
        self.set_status(403)
        host = self.request.host_name
        _say(
            self,
            f"This server does not answer to the name {host}.",
            "Open it as http://localhost or http://127.0.0.1, with the same port.",
            None,
        )


def _say(handler: RequestHandler, what: str, hint: str, path: str | None) -> None:
    link = f'<p><a href="{html.escape(path)}">Look without the right to operate</a></p>' if path else ""
    handler.finish(
        "<!doctype html><meta charset=utf-8><title>backup-ops</title>"
        f"<body style='font:15px/24px system-ui;margin:48px'><h1 style='font-size:22px'>{html.escape(what)}</h1>"
        f"<p>{html.escape(hint)}</p>{link}"
    )
