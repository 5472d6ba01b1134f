"""The door of a running Panel server: lets one-time links in, keeps foreign hosts and foreign sessions out.

`panel serve` gives a script no hook of its own: the script runs once for each session, long after the server was made.
Tornado, on which it stands, takes further handlers at any time (`Application.add_handlers`), so the first session adds
ours to the server that is running it, and `serve` adds the same ones before it starts.
"""

from __future__ import annotations

import gc
import html
import time
import weakref
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from bokeh.server.contexts import ApplicationContext
from bokeh.server.server import Server
from bokeh.server.tornado import BokehTornado
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler

from backup_ops.dashboard.rights import COOKIE_DAYS, Rights

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_SAY_AGAIN_AFTER_S = 60.0
_FOREIGN_HOST = r"(?!(?:localhost|127\.0\.0\.1|\[::1\])$).*$"

_with_door: weakref.WeakSet[BokehTornado] = weakref.WeakSet()


def server_of(context: ApplicationContext) -> BokehTornado:
    """The server that serves this application. It has no public way from the one to the other, so it is looked for."""
    return next(
        server
        for server in gc.get_objects()
        if isinstance(server, BokehTornado) and context in server.applications.values()
    )


def port_of(server: BokehTornado) -> int:
    """The port it listens at. Looked for as the server is; what a request says of the port may be anything."""
    found = (thing for thing in gc.get_objects() if isinstance(thing, Server) and thing._tornado is server)
    return next((int(thing.port) for thing in found if thing.port), 80)


def has_door(server: BokehTornado) -> bool:
    return server in _with_door


def open_door(server: BokehTornado, path: str, port: int, rights: Rights, announce: Callable[[], None]) -> None:
    """Adds the handlers: `path?token=…` is a one-time link; refused are any host but this machine's own names, and
    requests that choose their session.

    `announce` is called when a link was used, to print the next one, and when one was refused. Once per server; later
    calls do nothing.
    """
    if server in _with_door:
        return
    _with_door.add(server)
    server.add_handlers(_FOREIGN_HOST, [(r".*", _Refuse)])
    facts = {"rights": rights, "announce": announce, "say_again": _Seldom(announce), "path": path}
    server.add_handlers(
        r".*$", [Rule(_ChosenSession(path), _RefuseSession, {"path": path}), Rule(_Link(path), _LetIn, facts)]
    )
    # Bokeh lets scripts of `localhost` speak to it; the same machine by number is no foreigner.
    server.websocket_origins.update(f"{host}:{port}" for host in LOCAL_HOSTS)


def is_this_machine(address: str | None) -> bool:
    """Whether a request came over the loopback interface."""
    try:
        return address is not None and ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def is_local_name(host_name: str) -> bool:
    return host_name in LOCAL_HOSTS


def chooses_session(arguments: Iterable[str], headers: Iterable[str]) -> bool:
    """Whether a request says itself which session it wants, or asks for a script that another page would hold.

    Bokeh grants that to anybody. Whoever knows the session of an operator's page has the operator's rights, so a page
    has rights only in a session whose name this server made up and told nobody but the page. `bokeh-` begins all that
    Bokeh can be told in an address; the page's own addresses have none.
    """
    return any(name.lower().startswith("bokeh-") for name in arguments) or any(
        name.lower() == "bokeh-session-id" for name in headers
    )


class _Seldom:
    """Calls at most once a minute: whoever guesses at links must not fill the terminal."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._called_at: float | None = None

    def __call__(self) -> None:
        now = time.monotonic()
        if self._called_at is None or now - self._called_at >= _SAY_AGAIN_AFTER_S:
            self._called_at = now
            self._call()


class _ChosenSession(Matcher):
    """A request for the page, or for what lies below it, that chooses its session."""

    def __init__(self, path: str) -> None:
        self._page = path.rstrip("/")

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        is_ours = request.path in (self._page, self._page or "/") or request.path.startswith(f"{self._page}/")
        return {} if is_ours and chooses_session(request.arguments, request.headers) else None


class _Link(Matcher):
    """A request for the page with a token."""

    def __init__(self, path: str) -> None:
        self._paths = {path, path.rstrip("/") or "/"}

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return {} if request.path in self._paths and "token" in request.query_arguments else None


class _LetIn(RequestHandler):
    def initialize(
        self, rights: Rights, announce: Callable[[], None], say_again: Callable[[], None], path: str
    ) -> None:
        self._rights, self._announce, self._say_again, self._path = rights, announce, say_again, path

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
            if is_this_machine(self.request.remote_ip):
                self._say_again()  # another server of this home may have used up the one that stands there


class _RefuseSession(RequestHandler):
    def initialize(self, path: str) -> None:
        self._path = path

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Cache-Control", "no-store")
        _say(
            self,
            "This address chooses the session of the page, so that others could use it too.",
            "Whoever gave it to you may have wanted to operate with your right.",
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
