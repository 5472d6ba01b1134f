"""`serve` and `demo`, as commands; what they serve and make is tested elsewhere."""

import os
import re
import signal
import socket
import subprocess
import urllib.request

import pytest

from tests.cli.conftest import goes_on, is_running, listing
from tests.conftest import wait_until


@pytest.fixture
def served(shell, slow):
    process = shell.start("serve", "--port", "0")
    said = ""
    while "?token=" not in said:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        said += line
    yield process, said
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=30)


def test_dashboard_answers_and_ctrl_c_closes_it_while_runs_go_on(shell, served):
    process, said = served
    url, link = re.findall(r"http://127\.0\.0\.1:\d+/\S*", said)
    assert re.fullmatch(rf"{url}\?token=\S+", link)
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.status == 200
    shell("run", "slow", "--detach")
    wait_until(lambda: is_running(shell, "slow"))
    os.killpg(process.pid, signal.SIGINT)
    _, heard = process.communicate(timeout=30)
    assert process.returncode == 0
    assert heard == "The dashboard is closed; runs go on.\n"
    assert goes_on(shell, "slow")
    shell("cancel", "slow")


def test_port_that_is_taken_is_named(shell, filled):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = shell("serve", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"backup-ops: port {port} of 127.0.0.1 cannot be used")
    assert "--port" in done.stderr


def test_address_that_others_reach_is_refused(shell, filled):
    done = shell("serve", "--address", "0.0.0.0", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("backup-ops: 0.0.0.0 can be reached from other machines")


def test_dashboard_that_is_not_installed_says_how_to_install_it(shell, filled):
    script = "import sys; sys.modules['panel'] = None; from backup_ops.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run(
        [shell.python, "-c", script], capture_output=True, text=True, env=shell.environment, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == (
        "backup-ops: the dashboard is not installed: there is no package 'panel'. "
        "Install it: pip install 'backup-ops[dashboard]'\n"
    )


def test_demo_is_made_in_no_home_that_holds_other_things(shell, filled):
    before = listing(filled.folder)
    done = shell("demo", "--no-serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{filled.home} holds other things than a demo" in done.stderr
    assert listing(filled.folder) == before
