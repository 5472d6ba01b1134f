"""The page: what one session of the dashboard is made of."""

from __future__ import annotations

import atexit
import threading
from functools import partial
from pathlib import Path
from typing import Any

import panel as pn

from backup_ops.dashboard import assets, door, greeting
from backup_ops.dashboard.feed import Feed
from backup_ops.dashboard.grid import JobGrid
from backup_ops.dashboard.operator import Operator
from backup_ops.dashboard.rights import Rights, say_link
from backup_ops.errors import BackupError
from backup_ops.ops import Ops, open

_TEMPLATE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
_LOOKING = (
    "You are looking. To run or cancel jobs, open the link that stands in the terminal of this server; "
    "it lets this browser in, once."
)
_houses: dict[Path, House] = {}
_building = threading.Lock()


class House:
    """What all pages of one home share in this process: they come and go, it stays."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops
        self.rights = Rights(ops.home)
        self.feed = Feed(ops.manager)
        self.operator = Operator(ops)


def house_of(ops: Ops) -> House:
    with _building:
        known = _houses.get(ops.home.path)
        if known is not None and known.ops is ops:
            return known
        if known is not None:
            known.feed.close()
        _houses[ops.home.path] = House(ops)
        return _houses[ops.home.path]


def show(home: str | Path | None = None) -> None:
    """Makes the page for the session that a Panel server is just creating: all of a script for `panel serve`.

    The home is `home`, else $BACKUP_OPS_HOME, else the default one.
    """
    document = pn.state.curdoc
    if document is None or document.session_context is None:
        print("This is a script for Panel: panel serve dashboards/ops.py")
        return
    try:
        house = _shared(home)
    except BackupError as error:
        pn.pane.Alert(str(error), alert_type="danger").servable()
        return
    build(house, document).servable(title="backup-ops")


def build(house: House, document: Any) -> Any:
    """The page for a new session, for Panel to serve."""
    # Bokeh reconnects; its own notices do not fit the page, which says the same in its place.
    pn.config.reconnect = True
    document.config.update(reconnect_session=True, notify_connection_status=False)
    context = document.session_context
    request = context.request
    application = context.server_context.application_context
    server = door.server_of(application)
    # Under `--prefix` the application is below it, and so is every address a browser sees.
    path = f"{server.prefix}{application.url}" if application.url != "/" else f"{server.prefix}/"
    if not door.is_this_machine(request.remote_ip):
        return pn.pane.Alert(
            "This dashboard answers only to its own machine until it has a login. "
            "Serve it at 127.0.0.1 and reach it from elsewhere through a tunnel: ssh -L 5006:localhost:5006 HOST.",
            alert_type="warning",
        )
    is_local, is_chosen = door.is_local_name(request.host_name), _chooses_session(context)
    if not door.has_door(server):
        port = door.port_of(server)
        host = request.host_name if is_local else "localhost"
        announce = partial(say_link, house.rights, f"http://{host}:{port}{path}")
        door.open_door(server, path, port, house.rights, announce)
        if not greeting.has_greeted:
            announce()
        if "token" in request.arguments or is_chosen or not is_local:
            # The first thing this server was asked for is the door's business, and only now is there a door.
            # It cannot go round in circles: the next time there is one.
            pn.config.authorize_callback = lambda _: request.uri
            return pn.Spacer()
    if not is_local:
        return pn.Spacer()
    cookie = request.cookies.get(house.rights.cookie_name)

    def operate() -> dict[str, Any]:
        is_allowed = not is_chosen and house.rights.holds(cookie)
        return {"allowed": is_allowed, "reason": "" if is_allowed else _LOOKING}

    grid = JobGrid(house.ops, house.feed, house.operator, document, operate, by=f"dashboard at {request.remote_ip}")
    pn.state.on_session_destroyed(grid.close)
    grid.start_beat()
    template = pn.Template(_TEMPLATE)
    template.add_panel("bridge", grid)
    template.add_variable("host", request.host)
    template.add_variable("assets", assets.mount())
    template.add_variable("modules", assets.modules())
    template.add_variable("font_css", assets.font_css())
    return template


def _chooses_session(context: Any) -> bool:
    """Whether somebody chose the session: by this request, or by the one that gave the page its token.

    Bokeh takes its own words out of `request.arguments`; the query and the token have them still.
    """
    request = context.request
    told = context.token_payload
    return door.chooses_session(
        {*(request.query_arguments or {}), *told.get("arguments", {})},
        {*request.headers, *told.get("headers", {})},
    )


def _shared(home: str | Path | None) -> House:
    ops = open(home)
    with _building:
        known = _houses.get(ops.home.path)
    if known is not None:
        return known
    atexit.register(ops.close)
    return house_of(ops)
