"""A served home and a real browser. The server is a process of its own, as it is for those who use it."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOCAL = re.compile(r"^(http|ws)://(127\.0\.0\.1|localhost)[:/]|^(blob|data):")

expect.set_options(timeout=20_000)  # two cores may be busy with other tests


class Server:
    """A dashboard process; `output` is what it printed so far."""

    def __init__(self, command: list[str], ready: str, home: Path, *packages: Path) -> None:
        self._command, self._ready, self._home = command, ready, home
        self._packages = os.pathsep.join(map(str, (*packages, ROOT)))
        self.output = ""
        self.start()

    def start(self) -> None:
        environment = os.environ | {
            "BACKUP_OPS_HOME": str(self._home),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": self._packages,
        }
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self.wait_for(self._ready)

    def _read(self, stream) -> None:
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str, timeout_s: float = 60.0) -> str:
        """The newest match in the output; waits for lines that have not been looked at yet."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=0.1)
                if line is None:
                    pytest.fail(f"the server ended:\n{self.output}")
                self.output += line
                continue
            except queue.Empty:
                pass
            found = re.findall(pattern, self.output)
            if found:
                return found[-1]
            if time.monotonic() > end:
                pytest.fail(f"no {pattern!r} in:\n{self.output}")

    @property
    def link(self) -> str:
        return self.wait_for(r"http://\S+\?token=\S+")

    @property
    def url(self) -> str:
        return self.link.partition("?")[0]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def serve():
    """Serves a home at a free port, or at the one given."""
    servers = []

    def start(home: Path, port: int = 0) -> Server:
        command = [sys.executable, "-m", "backup_ops", "--home", str(home), "serve", "--port", str(port)]
        servers.append(Server(command, r"\?token=", home))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def chromium():
    """One browser for a file: Playwright keeps a loop running in this thread, which files without it must not meet."""
    if CHROMIUM is None:
        pytest.skip("no chromium; install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_browser(chromium):
    """A browser of its own (no cookies); every request it makes must stay on this machine, no script may fail."""
    contexts: list[BrowserContext] = []
    foreign: list[str] = []
    failures: list[str] = []

    def new(**settings) -> BrowserContext:
        context = chromium.new_context(**({"viewport": {"width": 1440, "height": 900}} | settings))
        context.set_default_timeout(20_000)
        context.on("request", lambda request: None if LOCAL.match(request.url) else foreign.append(request.url))
        context.on("weberror", lambda error: failures.append(str(error.error)))
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()
    assert not foreign, "the page asked another host"
    assert not failures, "a script failed"


@pytest.fixture
def operate(open_browser):
    """A page of the server in a browser that was let in by the one-time link."""

    def enter(server: Server, fragment: str = "", **settings) -> Page:
        page = open_browser(**settings).new_page()
        page.goto(server.link)
        if fragment:
            page.goto(server.url + fragment)
        page.wait_for_selector("[data-connection=live]")
        return page

    return enter
