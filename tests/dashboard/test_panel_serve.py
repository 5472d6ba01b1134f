"""`panel serve dashboards/ops.py`: the same page at /ops, with rights, though the script runs once for each session."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect

from backup_ops.dashboard.rights import Rights
from backup_ops.home import Home
from tests.dashboard.conftest import ROOT, Server

pytestmark = pytest.mark.ui


@pytest.fixture
def panel_with(place, tmp_path):
    """Starts the server with further options; gives it and its port.

    The entry point of pyproject.toml is there as `pip install` would put it, unless nothing is to be `installed`.
    """
    servers = []

    def start(*options: str, installed: bool = True) -> tuple[Server, int]:
        facts = tmp_path / "installed" / "backup_ops-0.dist-info"
        facts.mkdir(parents=True)
        if installed:
            (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: backup-ops\nVersion: 0\n")
            plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["panel.io.rest"]
            (facts / "entry_points.txt").write_text(
                "\n".join(["[panel.io.rest]", *(f"{name} = {value}" for name, value in plugins.items())])
            )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        panel_here = shutil.which("panel", path=str(Path(sys.executable).parent)) or "panel"
        command = [panel_here, "serve", str(ROOT / "dashboards" / "ops.py"), "--port", str(port), *options]
        servers.append(Server(command, "Bokeh app running", place.home, facts.parent))
        return servers[-1], port

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def panel(panel_with):
    return panel_with()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_link_is_printed_and_lets_in_and_runs(place, panel, open_browser, host):
    server, port = panel
    place.fill()
    place.write_jobs()
    link = server.wait_for(r"http://\S+/ops\?token=\S+")
    assert link.startswith(f"http://localhost:{port}/"), "the link stands in the terminal before anybody came"
    looking = open_browser().new_page()
    looking.goto(f"http://{host}:{port}/ops")
    expect(looking.get_by_label("Run photos")).to_be_disabled()
    page = open_browser().new_page()
    page.goto(link.replace("localhost", host))
    expect(page).to_have_url(re.compile(f":{port}/ops$"))
    page.get_by_label("Run photos").dblclick()
    done = page.locator("article[data-job=photos]")
    expect(done).to_have_attribute("data-outcome", "succeeded")
    expect(looking.locator("article[data-job=photos]")).to_have_attribute("data-outcome", "succeeded")
    page.goto(f"http://{host}:{port}/ops#/jobs/photos")
    expect(done).to_have_attribute("data-open", "true")


def test_the_link_works_as_the_first_thing_that_is_asked(place, panel, open_browser):
    _, port = panel
    place.write_jobs()
    home = Home(place.home)
    home.open()
    token = Rights(home).token()
    page = open_browser().new_page()
    page.goto(f"http://localhost:{port}/ops?token={token}")
    expect(page.get_by_label("Run photos")).to_be_enabled()
    assert "token" not in page.url
    assert Rights(home).token() != token, "the token was not used up"


def test_a_chosen_session_as_the_first_thing_that_is_asked_gives_no_right(place, panel, open_browser):
    _, port = panel
    place.write_jobs()
    home = Home(place.home)
    home.open()
    rights = Rights(home)
    url = f"http://localhost:{port}/ops"
    victim = open_browser()
    victim.add_cookies([{"name": rights.cookie_name, "value": rights.grant(), "url": url}])
    pages = [victim.new_page(), open_browser().new_page()]
    for page in pages:
        assert page.goto(f"{url}?bokeh-session-id=attackerchosen0123456789").status == 403
    pages[0].goto(url)
    expect(pages[0].get_by_label("Run photos")).to_be_enabled()


def test_the_first_host_that_is_named_is_not_believed(place, panel_with):
    server, port = panel_with(installed=False)
    place.write_jobs()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/ops", headers={"Host": "backup.evil.example:1"})
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(asked, timeout=30)
    refused.value.close()
    assert server.wait_for(r"http://\S+\?token=\S+").startswith(f"http://localhost:{port}/ops?token=")


def test_the_link_works_below_a_prefix(place, panel_with, open_browser):
    server, port = panel_with("--prefix", "/backup")
    place.write_jobs()
    page = open_browser().new_page()
    page.goto(server.wait_for(r"http://\S+\?token=\S+"))  # also the first thing that is asked
    expect(page).to_have_url(f"http://localhost:{port}/backup/ops")
    expect(page.get_by_label("Run photos")).to_be_enabled()


def test_a_home_that_cannot_be_used_is_said_on_the_page(place, panel, open_browser):
    _, port = panel
    shutil.rmtree(place.home)
    place.home.write_text("a file")
    page = open_browser().new_page()
    page.goto(f"http://localhost:{port}/ops")
    expect(page.get_by_text("is a file, not a folder.")).to_be_visible()
