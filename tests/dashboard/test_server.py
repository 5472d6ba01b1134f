"""The server as strangers meet it, and what it keeps of pages that are gone."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from backup_ops.dashboard import serve as serve_here
from backup_ops.dashboard.rights import Rights
from backup_ops.errors import UsageError
from backup_ops.home import Home


def ask(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            return error.code, error.read().decode()


async def speak(url: str, origin: str) -> int:
    """The status a browser gets that wants to speak to the server from a page of this origin; 101 is a yes."""
    token = re.search(r'"token":"([^"]+)"', ask(url)[1])[1]
    wanted = HTTPRequest(url.replace("http", "ws", 1) + "ws", headers={"Origin": origin})
    try:
        connection = await websocket_connect(wanted, subprotocols=["bokeh", token])
    except HTTPClientError as error:
        return error.code
    connection.close()
    while await connection.read_message() is not None:
        pass  # closing is a handshake: without its end the loop goes and leaves the socket open
    return 101


def in_a_thread(coroutine):
    """This thread may have a loop of its own going, Playwright's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_foreign_hosts_and_foreign_origins_are_refused(place, serve):
    place.write_jobs()
    url = serve(place.home).url
    status, said = ask(url)
    assert status == 200
    assert 'id="backup-ops"' in said
    status, said = ask(url, Host="backup.evil.example")
    assert status == 403
    assert "does not answer to the name backup.evil.example" in said
    assert ask(url + "static/js/bokeh.min.js", Host="backup.evil.example")[0] == 403
    assert in_a_thread(speak(url, url.rstrip("/"))) == 101
    assert in_a_thread(speak(url, "http://backup.evil.example")) == 403
    assert ask(url + "?token=guessed")[0] == 403


def test_no_request_chooses_its_session(place, serve):
    place.write_jobs()
    url = serve(place.home).url
    assert ask(url + "?bokeh-session-id=chosen")[0] == 403
    assert ask(url + "?bokeh-token=made.up")[0] == 403
    assert ask(url, **{"Bokeh-Session-Id": "chosen"})[0] == 403
    # Another page of this machine could read the script, and out of it the session of whoever has it open.
    assert ask(url + "autoload.js?bokeh-autoload-element=x&bokeh-session-id=chosen")[0] == 403
    assert ask(url + "autoload.js?bokeh-autoload-element=x")[0] == 403


def test_a_refused_link_is_answered_with_the_present_one_once_a_minute(place, serve):
    place.write_jobs()
    server = serve(place.home)
    used = server.link
    home = Home(place.home)
    assert Rights(home).spend(used.partition("token=")[2]), "as another server of this home would"
    for _ in range(3):
        assert ask(used)[0] == 403
    fresh = server.wait_for(rf"http://\S+\?token={re.escape(Rights(home).token())}")
    assert server.output.count(fresh) == 1


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_an_address_that_others_can_reach_is_refused(place, address):
    place.write_jobs()
    with pytest.raises(UsageError, match="can be reached from other machines"):
        serve_here(place.home, address=address)


def test_a_port_that_is_taken_is_said_so(place, serve):
    place.write_jobs()
    server = serve(place.home)
    port = server.url.rpartition(":")[2].strip("/")
    command = [sys.executable, "-m", "backup_ops", "--home", str(place.home), "serve", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in ended.stderr
    assert "--port" in ended.stderr


_COUNT = """
import asyncio, gc, json, sys, threading, time
from bokeh.client import pull_session
from bokeh.document import Document
from backup_ops import open
from backup_ops.dashboard import page, server as serving

ops = open(sys.argv[1])
server = serving.make(ops, "127.0.0.1", 0, linger_s=0.3)
url = serving.url_of(server, "127.0.0.1")
feed = page.house_of(ops).feed

def documents(at_most):
    # as many as there are once it is no more than that, or in the end
    end = time.monotonic() + 20
    while True:
        gc.collect()
        found = sum(isinstance(thing, Document) for thing in gc.get_objects())
        if found <= at_most or time.monotonic() > end:
            return found
        time.sleep(0.2)

def visit(times):
    asyncio.set_event_loop(asyncio.new_event_loop())
    for _ in range(times):
        session = pull_session(url=url)
        assert feed.listeners >= 1
        session.close()
        del session
    end = time.monotonic() + 20
    while feed.listeners and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.5)

def count():
    found = []
    for times in (3, 20):
        visiting = threading.Thread(target=visit, args=(times,))
        visiting.start()
        visiting.join()
        found.append([documents(found[0][0] if found else 2), feed.listeners])
    print(json.dumps(found), flush=True)
    server.io_loop.add_callback(server.io_loop.stop)

server.start()
threading.Thread(target=count).start()
server.io_loop.start()
"""


_REJOIN = """
import asyncio, gc, json, sys, threading
from bokeh.client import ClientSession
from bokeh.util.token import generate_jwt_token
from backup_ops import open
from backup_ops.dashboard import page, server as serving
from backup_ops.dashboard.grid import JobGrid

ops = open(sys.argv[1])
server = serving.make(ops, "127.0.0.1", 0)
rights = page.house_of(ops).rights
cookies = {rights.cookie_name: rights.grant()}

def rejoin():
    asyncio.set_event_loop(asyncio.new_event_loop())
    found = []
    for arguments, headers in (({}, {}), ({"bokeh-session-id": ["x"]}, {}), ({}, {"Bokeh-Session-Id": "x"})):
        token = generate_jwt_token(f"session{len(found)}", extra_payload={
            "cookies": cookies, "headers": headers, "arguments": arguments,
        })
        seen = {id(thing) for thing in gc.get_objects() if isinstance(thing, JobGrid)}
        url = serving.url_of(server, "127.0.0.1").replace("http", "ws") + "ws"
        session = type("Page", (ClientSession,), {"token": token})(session_id=f"session{len(found)}", websocket_url=url)
        session.pull()
        (grid,) = [thing for thing in gc.get_objects() if isinstance(thing, JobGrid) and id(thing) not in seen]
        found.append(grid._operate()["allowed"])
        session.close()
    print(json.dumps(found), flush=True)

def work():
    try:
        rejoin()
    finally:
        server.io_loop.add_callback(server.io_loop.stop)

server.start()
threading.Thread(target=work).start()
server.io_loop.start()
"""


def test_a_page_in_a_chosen_session_has_no_right_after_a_restart_either(place):
    place.write_jobs()
    command = [sys.executable, "-c", _REJOIN, str(place.home)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1:] == ["[true, false, false]"], ended.stderr


def test_pages_that_are_gone_leave_nothing_behind(place):
    place.write_jobs()
    command = [sys.executable, "-c", _COUNT, str(place.home)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    (warm, still_listening), (after, listening) = json.loads(ended.stdout.splitlines()[-1])
    assert (still_listening, listening) == (0, 0), "sessions that ended still listen to the feed"
    assert after <= warm, f"{after - warm} of 20 pages are still in memory"
