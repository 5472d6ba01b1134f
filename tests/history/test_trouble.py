"""Trouble at history.duckdb that is no damage: each has its sentence, the file is left alone, and what was the matter
heals by itself when it is gone."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest
from told import EVENTS, events

from backup_ops.errors import HomeError
from backup_ops.history.trouble import meaning, meaning_of_system

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


class Asker:
    """The home's owner at a shell and in a Python process of their own: root may do everything, so it is not root."""

    def __init__(self, home) -> None:
        self.home = home
        self.prefix = []
        if os.geteuid() == 0:
            if not shutil.which("setpriv"):
                pytest.skip("there is no setpriv to become somebody without root's rights")
            for path in (home.path, *home.path.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            for folder in home.path.parents[:4]:
                with contextlib.suppress(OSError):
                    folder.chmod(folder.stat().st_mode | 0o011)
            self.prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

    def _run(self, *words, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **options.pop("env", {})}
        return subprocess.run(
            [*self.prefix, sys.executable, *words], capture_output=True, text=True, timeout=60, check=False,
            env=environment, cwd="/", **options,
        )  # fmt: skip

    def shell(self, *words):
        return self._run("-m", "backup_ops", "--home", str(self.home.path), *words)

    def python(self, *steps, before="", **options):
        """What each step said: `answer N`, or `ERROR CODE SENTENCE`. `before` is done after a first question."""
        script = textwrap.dedent("""
            import json, os, resource, sys
            from backup_ops.errors import BackupError
            from backup_ops.history import History
            from backup_ops.home import Home
            home = Home(sys.argv[1])
            history = History(home, on_rebuilt=lambda reason, was_damaged: print("rebuilt", flush=True))
            steps = {
                "ask": lambda: history.rows("error_statistics")[0]["errors"],
                "sql": lambda: history.sql_rows("SELECT count(*) FROM errors")[1][0][0],
                "ingest": lambda: history.ingest(force=True),
                "rebuild": lambda: history.rebuild() is not False,
            }
            exec(sys.argv[2])
            for step in sys.argv[3:]:
                try:
                    print("answer", steps[step](), flush=True)
                except BackupError as error:
                    print(type(error).__name__, error.exit_code, error, flush=True)
        """)
        return self._run("-c", script, str(self.home.path), before, *steps, **options)

    def lines(self, *steps, **options):
        done = self.python(*steps, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def traces(home):
    return [path.name for pattern in ("history.broken-*", "history.new-*") for path in home.path.glob(pattern)]


def heals(filled):
    """Nothing was put aside or made anew, and everything is there."""
    assert traces(filled.home) == [] and filled.rebuilt == []
    history = filled.another()
    assert events(history) == EVENTS
    assert history.ingest(force=True) is True
    assert events(history) == EVENTS
    history.close()
    assert filled.rebuilt == [] and traces(filled.home) == []


# --- rights


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_index_without_rights_is_told_and_not_replaced(filled, mode):
    home, asker = filled.home, Asker(filled.home)
    before = home.history.read_bytes()
    home.history.chmod(mode)
    ask, ingest = asker.lines("ask", "ingest")
    refused = (
        f"HomeError 2 {home.history} cannot be used: permission denied. Make it readable and writable for this user."
    )
    assert ask == (refused if mode == 0o000 else f"answer {EVENTS}")  # to be read is enough for a question
    assert ingest == refused
    home.history.chmod(0o600)
    assert home.history.read_bytes() == before and traces(home) == []
    assert asker.lines("ask", "ingest", "ask") == [f"answer {EVENTS}", "answer True", f"answer {EVENTS}"]


def test_log_without_rights_is_told_and_not_removed(filled):
    home, wal = filled.home, Path(f"{filled.home.history}.wal")
    killed = (
        "import os, signal; from backup_ops.history import ingest;"
        " ingest.reached = lambda stage: stage == 'committed' and os.kill(os.getpid(), signal.SIGKILL)"
    )
    asker = Asker(home)
    assert asker.python("ingest", before=killed).returncode == -signal.SIGKILL
    before = wal.read_bytes()
    assert before, "there is no log to take the rights from"
    wal.chmod(0o000)
    ask, ingest = asker.lines("ask", "ingest")
    assert ask == ingest and ask.startswith(f"HomeError 2 {home.history} cannot be used: permission denied.")
    assert wal.read_bytes() == before and traces(home) == []
    wal.chmod(0o600)
    assert asker.lines("ask", "ingest", "ask") == [f"answer {EVENTS}", "answer True", f"answer {EVENTS}"]


@pytest.mark.parametrize(("mode", "says"), [(0o500, "is not writable by user"), (0o000, "is not writable: Permission")])
def test_folder_without_rights_is_told_at_the_shell(filled, mode, says):
    home, asker = filled.home, Asker(filled.home)
    home.path.chmod(mode)
    try:
        done = asker.shell("errors", "--json")
    finally:
        home.path.chmod(0o700)
    assert done.returncode == 2 and f"home {home.path} {says}" in done.stderr and "Traceback" not in done.stderr
    assert traces(home) == []
    assert len(json.loads(asker.shell("errors", "--json").stdout)) == EVENTS


def test_journals_without_rights_are_told(filled):
    home, asker = filled.home, Asker(filled.home)
    home.journal.chmod(0o000)
    done = asker.shell("errors", "--json")
    home.journal.chmod(0o700)
    assert done.returncode == 2
    assert f"journal {home.journal} cannot be read: Permission denied." in done.stderr
    assert traces(home) == []
    assert len(json.loads(asker.shell("errors", "--json").stdout)) == EVENTS


# --- files, memory, disk


def test_too_many_open_files_are_told(filled):
    asker, before = Asker(filled.home), filled.home.history.read_bytes()
    told = 0
    for spare in range(6):
        limit = (
            "steps['ask'](); number = len(os.listdir('/proc/self/fd')) - 1;"
            f" resource.setrlimit(resource.RLIMIT_NOFILE, (number + {spare}, 4096))"
        )
        ask, ingest = asker.lines("ask", "ingest", before=limit)
        for line in (ask, ingest):
            sentence = "cannot be used: this process has too many files open. Close some, or raise `ulimit -n`."
            assert line.startswith("answer") or (line.startswith("HomeError 2 ") and line.endswith(sentence)), line
            told += line.endswith(sentence)
        if not ingest.startswith("answer True"):
            assert filled.home.history.read_bytes() == before
    assert told >= 4, "the limits were too high to hurt"
    heals(filled)


def test_too_little_memory_is_told(filled):
    asker, before = Asker(filled.home), filled.home.history.read_bytes()
    said = []
    for spare_mb in (1, 4, 16):
        limit = (
            "size = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE');"
            f" resource.setrlimit(resource.RLIMIT_AS, (size + ({spare_mb} << 20),) * 2)"
        )
        done = asker.python("ask", before=limit)
        # Without memory for a thread, or for its own end, a process is killed by the C library: nobody in it is asked.
        assert "Traceback" not in done.stderr, done.stderr
        said += done.stdout.splitlines()
        assert filled.home.history.read_bytes() == before
    sentence = (
        f"HomeError 2 {filled.home.history} cannot be used: no memory is left. End something else, or try again later."
    )
    assert sentence in said and set(said) <= {sentence, f"answer {EVENTS}"}, said
    heals(filled)


def test_query_that_outgrows_its_memory_is_no_trouble_of_the_file(filled):
    error = duckdb.OutOfMemoryException(
        "Out of Memory Error: failed to allocate data of size 16 MiB (1 GiB/1 GiB used)"
    )
    assert meaning(error, filled.home.history) is None


DISK_THAT_FAILS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int descriptor) {
    char link[64], path[4096];
    const char *name = getenv("FAILING");
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!name || length < 0) return 0;
    path[length] = 0;
    return strcmp(path, name) == 0;
}
#define FAILING(name, type, ...) \
    ssize_t name(int d, type b, size_t n, off64_t o) { \
        if (fails(d)) { errno = EIO; return -1; } \
        return ((ssize_t (*)(int, type, size_t, off64_t)) dlsym(RTLD_NEXT, #name))(d, b, n, o); \
    }
FAILING(pread, void *)
FAILING(pread64, void *)
FAILING(pwrite, const void *)
FAILING(pwrite64, const void *)
"""


def test_disk_that_fails_is_told(filled, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler to make a disk that fails with")
    library = tmp_path / "failing.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-D_LARGEFILE64_SOURCE", "-x", "c", "-", "-o", library, "-ldl"],
        input=DISK_THAT_FAILS, text=True, check=True, capture_output=True,
    )  # fmt: skip
    library.chmod(0o755)
    asker, before = Asker(filled.home), filled.home.history.read_bytes()
    failing = {"LD_PRELOAD": str(library), "FAILING": str(filled.home.history)}
    ask, ingest = asker.lines("ask", "ingest", env=failing)
    sentence = (
        f"{filled.home.history} cannot be used: its disk fails to read or write. Check the disk: dmesg, smartctl -a."
    )
    assert ask == ingest == f"HomeError 2 {sentence}"
    assert filled.home.history.read_bytes() == before
    heals(filled)


@pytest.mark.parametrize("number", [28, 122, 13, 30, 24, 23, 12, 5])
def test_what_the_system_says_is_read_in_duckdbs_words_and_in_its_own(filled, number):
    path = filled.home.history
    quoted = meaning(duckdb.IOException(f'IO Error: Cannot open file "{path}": {os.strerror(number)}'), path)
    direct = meaning_of_system(OSError(number, os.strerror(number), str(path)), path)
    assert isinstance(quoted, HomeError) and str(quoted) == str(direct)
    assert quoted.message.startswith(f"{path} cannot be used: ") and quoted.hint.endswith(".")
    assert meaning_of_system(OSError(2, os.strerror(2)), path) is None


# --- damage that no question meets, but the reading of the tail before it


def test_damage_met_while_the_tail_is_compared_with_the_index_is_mended(filled):
    home = filled.home
    good, mended = home.history.read_bytes(), 0
    for offset in range(12288 + 500, len(good), len(good) // 12):
        flipped = bytearray(good)
        flipped[offset] ^= 4
        home.history.write_bytes(flipped)
        filled.event("tick")  # its id is looked for in the index
        history = filled.another()
        with history.reading() as cursor:
            assert cursor.execute("SELECT 1").fetchone() == (1,)
        history.close()
        mended += len(filled.rebuilt)
        filled.rebuilt.clear()
    filled.journal.close()
    assert mended > 0


# --- something else in its place


def put_folder(path):
    path.mkdir()
    (path / "mine").write_text("mine")


MADE_ANEW = "history.duckdb is made anew from the journals."
THINGS = {
    "folder": (put_folder, "is a folder, not a file. Move it away:"),
    "pipe": (os.mkfifo, "is a pipe, not a file. Move it away:"),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "is a socket, not a file. Move it away:"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file. Move it away:"),
    "link": (
        lambda path: path.symlink_to("/unmounted/it"),
        "is a link to /unmounted/it, and that is not there. Mount what it leads to, or remove the link:",
    ),
}


@pytest.mark.parametrize("thing", THINGS)
def test_other_thing_in_its_place_is_told_and_left_there(filled, tmp_path, thing):
    home, (put, says) = filled.home, THINGS[thing]
    home.history.rename(tmp_path / "away")
    put(home.history)
    before = home.history.lstat()
    history = filled.another()
    for step in (lambda: events(history), lambda: history.ingest(force=True), history.rebuild):
        with pytest.raises(HomeError) as caught:
            step()
        assert str(caught.value) == f"{home.history} {says} {MADE_ANEW}"
    history.close()
    after = home.history.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    home.history.rename(tmp_path / "thing")
    (tmp_path / "away").rename(home.history)
    heals(filled)


def test_link_to_an_index_elsewhere_is_used(filled, tmp_path):
    filled.home.history.rename(tmp_path / "elsewhere.duckdb")
    filled.home.history.symlink_to(tmp_path / "elsewhere.duckdb")
    heals(filled)
    assert filled.home.history.is_symlink()
