from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from bench_of_engines import CHILD_ENVIRONMENT

from backup_ops.engines.process import NotStarted, Tool, allowed_environment


def python(script: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(script)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_lines_are_bytes_and_nothing_is_lost() -> None:
    out: list[bytes] = []
    err: list[bytes] = []
    script = r"""
    import sys
    sys.stdout.buffer.write(b"\xff\xfe one\n\ntwo\r\nno end")
    sys.stderr.buffer.write(b"\x00 said\n" * 3)
    """
    ended = Tool(python(script), on_stdout=out.append, on_stderr=err.append).run()
    assert out == [b"\xff\xfe one", b"", b"two\r", b"no end"]
    assert err == [b"\x00 said"] * 3
    assert (ended.exit_code, ended.stopped) == (0, None)
    assert ended.stderr_tail == b"\n".join(err)


def test_much_input_and_much_output_at_once_do_not_block() -> None:
    out: list[bytes] = []
    script = """
    import sys
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(line)
        sys.stderr.buffer.write(line)
    """
    sent = b"".join(b"%07d\n" % number for number in range(200_000))
    Tool(python(script), stdin=sent, on_stdout=out.append).run()
    assert b"\n".join(out) + b"\n" == sent


def test_a_tool_that_does_not_read_its_input_is_no_error() -> None:
    assert Tool(python("raise SystemExit(7)"), stdin=b"x" * 1_000_000).run().exit_code == 7


def test_a_program_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)  # without setpriv in front, which would start
    with pytest.raises(NotStarted, match="No such file"):
        Tool(["/no/such/program"]).run()


@pytest.mark.parametrize(
    ("ignored", "exit_code"),
    [((), -signal.SIGINT), ((signal.SIGINT,), -signal.SIGTERM), ((signal.SIGINT, signal.SIGTERM), -signal.SIGKILL)],
)
def test_cancel_goes_from_polite_to_final(ignored: tuple[signal.Signals, ...], exit_code: int) -> None:
    cancel = threading.Event()
    script = f"""
    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in {[int(number) for number in ignored]}:
        signal.signal(number, signal.SIG_IGN)
    print("ready")
    time.sleep(60)
    """
    tool = Tool(python(script), on_stdout=lambda _: cancel.set(), cancel=cancel, grace_s=(0.3, 0.3))
    ended = tool.run()
    assert (ended.exit_code, ended.stopped) == (exit_code, "cancelled")


def test_deadline_ends_it_as_timeout() -> None:
    started = time.monotonic()
    ended = Tool(python("import time; time.sleep(60)"), deadline_at=started + 0.3, grace_s=(2, 1)).run()
    assert ended.stopped == "timeout"
    assert time.monotonic() - started < 5


def test_the_whole_group_is_ended(tmp_path: Path) -> None:
    cancel = threading.Event()
    pids: list[int] = []

    def take(line: bytes) -> None:
        pids.append(int(line))
        cancel.set()

    script = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid)
    time.sleep(60)
    """
    Tool(python(script), on_stdout=take, cancel=cancel, grace_s=(2, 1)).run()
    assert wait_for(lambda: not is_alive(pids[0]))


def test_a_child_that_keeps_the_pipes_open_does_not_keep_us() -> None:
    pids: list[int] = []
    script = """
    import subprocess, sys
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
    """
    started = time.monotonic()
    ended = Tool(python(script), on_stdout=lambda line: pids.append(int(line))).run()
    assert ended.exit_code == 0
    assert time.monotonic() - started < 15
    assert wait_for(lambda: not is_alive(pids[0]))


def test_exception_of_a_callback_ends_the_tool_and_comes_out() -> None:
    pids: list[int | None] = []

    def refuse(_: bytes) -> None:
        raise RuntimeError("no")

    script = "import time; print('x'); time.sleep(60)"
    with pytest.raises(RuntimeError, match="no"):
        Tool(python(script), on_stdout=refuse, on_tool=pids.append, grace_s=(2, 1)).run()
    assert pids[0] is not None
    assert pids[-1] is None
    assert not is_alive(pids[0])


def test_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RCLONE_DRY_RUN", "RESTIC_PASSWORD", "SECRET_OF_ANOTHER_JOB", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    out: list[bytes] = []
    Tool(["env"], environment=allowed_environment({"RCLONE_CONFIG": "/dev/null"}), on_stdout=out.append).run()
    names = {line.partition(b"=")[0].decode() for line in out}
    assert {"PATH", "LC_ALL", "RCLONE_CONFIG"} <= names
    assert not names & {"RCLONE_DRY_RUN", "RESTIC_PASSWORD", "SECRET_OF_ANOTHER_JOB", "LD_PRELOAD_X"}


def test_files_it_makes_are_for_this_user_only(tmp_path: Path) -> None:
    made = tmp_path / "made"
    Tool(["touch", str(made)]).run()
    assert made.stat().st_mode & 0o777 == 0o600


def test_low_priority_is_nice() -> None:
    out: list[bytes] = []
    Tool(["nice"], is_low_priority=True, on_stdout=out.append).run()
    assert int(out[0]) >= os.nice(0) + 10


def test_an_interrupt_at_our_terminal_ends_the_tool() -> None:
    pids: list[int | None] = []
    timer = threading.Timer(0.4, signal.raise_signal, (signal.SIGINT,))
    script = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(60)"
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        Tool(python(script), on_tool=pids.append, grace_s=(2, 1)).run()
    assert pids[0] is not None
    assert not is_alive(pids[0])


def test_kill_minus_nine_of_us_leaves_no_tool() -> None:
    script = """
    from backup_ops.engines.process import Tool
    Tool(["sleep", "60"], on_tool=lambda pid: print(pid, flush=True)).run()
    """
    parent = subprocess.Popen(python(script), stdout=subprocess.PIPE, env=CHILD_ENVIRONMENT)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        # setpriv is there first, and then is `sleep`.
        assert wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not is_alive(pid), within_s=3)
