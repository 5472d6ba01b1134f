"""Signals that reach a foreground `run`: SIGINT cancels, SIGTERM and SIGHUP leave the run alone."""

import os
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import goes_on, is_running
from tests.conftest import processes_of, wait_until


@pytest.fixture
def foreground(shell, slow):
    process = shell.start("run", "slow")
    wait_until(lambda: is_running(shell, "slow"))
    yield process
    if process.poll() is None:
        process.kill()


def outcomes(shell):
    return [row["outcome"] for row in shell.data("runs") if row["finished_at"]]


def test_ctrl_c_cancels_the_run_and_exits_130(shell, foreground, slow):
    os.killpg(foreground.pid, signal.SIGINT)
    said, heard = foreground.communicate(timeout=30)
    assert foreground.returncode == 130
    assert said.startswith("slow: cancelled by ")
    assert heard.startswith("cancelling slow; Ctrl-C again leaves at once")
    assert outcomes(shell) == ["cancelled"]
    wait_until(lambda: not processes_of(slow.home))


def test_second_ctrl_c_leaves_at_once_and_the_run_still_ends(shell, foreground):
    os.killpg(foreground.pid, signal.SIGINT)
    time.sleep(0.15)
    os.killpg(foreground.pid, signal.SIGINT)
    foreground.communicate(timeout=30)
    assert foreground.returncode == 130
    wait_until(lambda: outcomes(shell) == ["cancelled"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_ending_the_command_leaves_the_run_alone(shell, foreground, number, code):
    os.killpg(foreground.pid, number)
    said, heard = foreground.communicate(timeout=30)
    assert (foreground.returncode, said) == (code, "")
    (running,) = is_running(shell, "slow")
    assert goes_on(shell, "slow")
    if number != signal.SIGKILL:
        assert heard == (
            f"slow: run {running['run_id']} goes on without this command ({number.name}). "
            "`backup-ops status` shows it.\n"
        )
    shell("cancel", "slow")
    wait_until(lambda: outcomes(shell) == ["cancelled"])


def test_hang_up_that_is_ignored_stays_ignored(shell, slow):
    process = subprocess.Popen(
        ["nohup", shell.python, "-m", "backup_ops", "run", "slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True, env=shell.environment, process_group=0,
    )  # fmt: skip
    wait_until(lambda: is_running(shell, "slow"))
    os.killpg(process.pid, signal.SIGHUP)
    assert goes_on(shell, "slow")
    assert process.poll() is None
    shell("cancel", "slow")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("slow: cancelled by ")
