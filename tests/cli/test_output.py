"""What people and programs see: widths, colours, pipes that close, terminals that cannot say everything."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from backup_ops.cli.cells import printable
from backup_ops.cli.jsontext import json_text

LONG = "a-job-with-a-very-long-name-that-somebody-found-quite-descriptive"[:64]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(shell, *words, columns=80, env=None):
    """Exit code and what a terminal of that width would have been sent."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = shell.environment | {"TERM": "xterm-256color"} | (env or {})
    with subprocess.Popen(
        [shell.python, "-m", "backup_ops", *words], stdin=follower, stdout=follower, stderr=follower, env=environment
    ) as process:
        os.close(follower)
        sent = b""
        try:
            while chunk := os.read(leader, 1 << 16):
                sent += chunk
        except OSError:  # EIO: the last process that had the terminal is gone
            pass
        code = process.wait(timeout=60)
    os.close(leader)
    return code, sent.decode().replace("\r\n", "\n")


@pytest.fixture
def past(shell, place):
    place.fill()
    place.write_jobs(f"{LONG}: {{source: {place.folder}/gone, repository: mirror}}\n")
    shell("run", "photos", LONG)
    return place


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["status", "runs", "errors", "jobs"])
def test_tables_fit_the_terminal_and_cut_no_name(shell, past, command, columns):
    code, sent = in_terminal(shell, command, columns=columns)
    assert code == 0
    lines = ESCAPE.sub("", sent).splitlines()
    assert max(map(len, lines)) <= columns, sent
    assert "…" not in sent
    job_at = next(line for line in lines if "JOB" in line).index("JOB")
    rows = [line for line in lines if not re.match(r" {4}\S", line)]  # without what stands below them
    names = "".join(re.split(r"\s{2,}", line[job_at:] + "  ")[0] for line in rows)
    assert LONG in names


def test_pipe_gets_one_line_a_row_however_long(shell, past):
    lines = shell("jobs").stdout.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(LONG)


def test_colours_are_for_terminals_that_want_them(shell, past):
    assert "\x1b[3" in in_terminal(shell, "runs")[1]
    assert "\x1b" not in in_terminal(shell, "runs", env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in in_terminal(shell, "runs", env={"TERM": "dumb"})[1]
    assert "\x1b" not in shell("runs").stdout


def test_bar_of_a_run_leaves_only_the_verdict_on_the_terminal(shell, place):
    place.fill(4, 150_000)
    place.write_jobs()
    text = (place.home / "jobs.yaml").read_text().replace("mirror}", "mirror, limits: {bandwidth: 200K}}")
    (place.home / "jobs.yaml").write_text(text)
    code, sent = in_terminal(shell, "run", "photos")
    assert code == 0
    assert "copying" in sent
    last = sent.rpartition("\x1b[2K")[2]
    assert ESCAPE.sub("", last).strip().startswith("photos: saved 586 KiB (4 new) in ")
    assert len(ESCAPE.sub("", last).strip().splitlines()) <= 2


def test_terminal_shows_the_newest_fifty_and_says_so(shell, filled):
    import backup_ops as bo

    with bo.open(filled.home) as ops:
        for number in range(60):
            ops.record_error(f"error number {number}")
    _, sent = in_terminal(shell, "errors", columns=200)
    assert sent.count("error number") == 50
    assert "These are the newest 50." in sent
    assert shell("errors").stdout.count("error number") == 60
    assert in_terminal(shell, "errors", "--limit", "55", columns=200)[1].count("error number") == 55
    assert len(shell.data("errors")) == 60


def test_reader_that_stops_early_is_no_error(shell, filled):
    for number in range(300):
        (filled.source / f"file-with-a-long-name-{number:060}").write_text("x")
    shell("run", "photos")
    for options in ([], ["--json"]):
        process = shell.start("ls", "photos", "latest", *options)
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(timeout=30) == 0


def test_run_tells_its_outcome_to_a_shell_that_does_not_read(shell, place):
    place.write_jobs()  # an empty source: it fails
    reader, writer = os.pipe()
    os.close(reader)
    command = [shell.python, "-m", "backup_ops", "run", "photos"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=shell.environment, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_full_disk_behind_stdout_is_named(shell, filled):
    with open("/dev/full", "w") as full:
        command = [shell.python, "-m", "backup_ops", "jobs"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=shell.environment, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == "backup-ops: stdout could not be written: No space left on device.\n"


def test_terminal_of_a_poor_encoding_gets_escapes(shell, filled):
    (filled.source / "ünï→.txt").write_text("x")
    shell("run", "photos")
    done = shell("ls", "photos", "latest", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "\\xfcn\\xef\\u2192.txt" in done.stdout


def test_module_and_command_are_the_same(shell):
    assert shell("--version").stdout.startswith("backup-ops 0.")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"), ("naïve – 日本", "naïve – 日本"), ("a\tb", r"a\tb"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"), ("\udcff", r"\xff"), ("\ud800", r"\ud800"), ("👩\u200d🚀", "👩\u200d🚀"),
        ("\x9b31m", r"\x9b31m"), ("a\u2028b", r"a\u2028b"), ("", ""),
    ],
)  # fmt: skip
def test_printable_text_steers_no_terminal(text, shown):
    assert printable(text) == shown


def test_json_of_text_that_is_not_utf8_keeps_its_bytes():
    assert json_text({"path": "a\udcff"}) == '{"path": "a\\\\xff", "path_base64": "Yf8="}'
    assert json_text({"n": float("inf"), "t": (1, float("nan"))}) == '{"n": null, "t": [1, null]}'
    json_text({"path": "\ud800\udcff"}).encode("utf-8")
