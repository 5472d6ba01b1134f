"""While four runs go on, a notebook kernel, the dashboard and the shell ask and submit: no error, and nobody waits for
the others to see what they did. Then two of them are killed, and the runs go on."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from jupyter_client.manager import start_new_kernel
from playwright.sync_api import expect, sync_playwright

import backup_ops as bo
from tests.conftest import wait_until

CHROMIUM = "/usr/bin/chromium"

pytestmark = [
    pytest.mark.ui,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not os.path.exists(CHROMIUM), reason="install Debian's package chromium"),
]


@pytest.fixture
def busy_place(place):
    names = [f"slow{number}" for number in range(4)]
    for name in names:
        place.fill(6, 400_000, folder=place.folder / name)
    place.fill()
    place.write_jobs(
        "".join(
            f"{name}: {{source: {place.folder / name}, repository: r-{name}, limits: {{bandwidth: 180K}}}}\n"
            for name in names
        ),
        settings="{max_running: 6}",
        repositories="".join(f"r-{name}: {{engine: rclone, url: {place.folder}/r-{name}}}\n" for name in names),
    )
    return place


def shell(place, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "backup_ops", "--home", str(place.home), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextlib.contextmanager
def dashboard(place):
    server = subprocess.Popen(
        [sys.executable, "-m", "backup_ops", "--home", str(place.home), "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    link = ""
    for line in server.stdout:
        if "?token=" in line:
            link = line.strip()
            break
    reader = threading.Thread(target=server.stdout.read, daemon=True)
    reader.start()
    try:
        yield server, link
    finally:
        server.kill()
        server.wait()
        reader.join()
        server.stdout.close()


@contextlib.contextmanager
def notebook():
    manager, client = start_new_kernel(kernel_name="python3")

    def execute(code):
        said = []

        def hook(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                said.append(content["text"])
            elif message["msg_type"] == "error":
                said.append("\n".join(content["traceback"]))

        reply = client.execute_interactive(code, output_hook=hook, timeout=60)["content"]
        assert reply["status"] == "ok", "".join(said)
        return "".join(said)

    try:
        yield manager, execute
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_shell_notebook_and_dashboard_at_once(busy_place):
    place = busy_place
    with dashboard(place) as (server, link), notebook() as (kernel, execute), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(link)
        for number in range(4):
            expect(page.locator(f'article[data-job="slow{number}"]')).to_have_attribute(
                "data-outcome", "none", timeout=30_000
            )

        # The shell starts two, the notebook one, the dashboard one.
        for name in ("slow0", "slow1"):
            assert shell(place, "run", "--detach", name).returncode == 0
        execute(f"import backup_ops as bo; ops = bo.open({str(place.home)!r}); handle = ops.submit('slow2')")
        page.get_by_role("button", name="Run slow3").dblclick()
        for number in range(4):
            expect(page.locator(f'article[data-job="slow{number}"]')).to_have_attribute(
                "data-outcome", "running", timeout=20_000
            )

        # Each records and reads; what one has written the others see in their next question.
        unseen = []
        started = time.monotonic()
        for number in range(8):
            mine = execute(f"print(ops.record_error('from the notebook {number}', severity='LOW'))").strip()
            seen = json.loads(shell(place, "errors", "--json").stdout)
            unseen += [mine] if mine not in {row["error_id"] for row in seen} else []
            count = int(execute("print(len(ops.errors(severity='LOW')))"))
            unseen += [f"{count} in the notebook"] if count != number + 1 else []
            rows = json.loads(
                shell(place, "sql", "--json", "SELECT count(*) AS n FROM errors WHERE severity = 'LOW'").stdout
            )
            unseen += [f"{rows} in SQL"] if rows[0]["n"] != number + 1 else []
        assert unseen == []
        print(f"24 questions while four runs went on: {time.monotonic() - started:.1f} s")
        assert execute("print(handle.state)").strip() in ("running", "succeeded")

        # kill -9 of the kernel and of the server: the runs do not notice.
        kernel.provisioner.process.kill()
        server.kill()
        with bo.open(place.home) as ops:
            wait_until(lambda: not list(ops.home.queue.glob("*.json")), 90, "the four runs")
            rows = ops.runs()
            assert (
                sorted(rows[rows.job.str.startswith("slow")].outcome) == ["succeeded"] * 4
            )  # a double click was one run
            errors = ops.errors()
            assert list(errors[errors.severity != "LOW"].message) == []
        browser.close()
