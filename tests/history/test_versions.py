"""One home used in turn by this version, a newer one and an older DuckDB: nobody destroys what another one made."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from told import Told, line_of

from backup_ops.event import EVENT_VERSION
from backup_ops.history import schema

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))
ROUNDS = max(5, SCALE // 2)
ROOT = Path(__file__).resolve().parents[2]
VERSION = schema.SCHEMA_VERSION

OLDEST_DUCKDB = "1.5.0"
"""The oldest that can write the format of STORAGE_VERSION."""
TOO_OLD_DUCKDB = "1.4.5"
PIP_TAKES_AT_MOST_S = 60

pytestmark = pytest.mark.timeout(180 + 16 * SCALE)
"""Whichever test asks for a wheel first waits for pip."""

VISIT = """
import json, os, signal, sys
import duckdb
from backup_ops.errors import BackupError
from backup_ops.history import History, ingest
from backup_ops.home import Home
from backup_ops.journal import Journal

home, how = Home(sys.argv[1]), sys.argv[2]
event_id = Journal(home.journal).append("tick", {"by": sys.argv[3]})
rebuilt = []
history = History(home, on_rebuilt=lambda reason, _: rebuilt.append(reason), on_rejected=lambda *_: None)

def tell(**said):
    print(json.dumps({"event_id": event_id, "duckdb": duckdb.__version__, "rebuilt": rebuilt, **said}), flush=True)

try:
    with history.reading() as cursor:
        seen = cursor.execute("SELECT event_id FROM events WHERE kind = 'tick'").fetchall()
        rejected = cursor.execute("SELECT reason FROM rejected").fetchall()
    tell(seen=[row[0] for row in seen], rejected=[row[0] for row in rejected])
    if how == "dies":  # what it has committed is still in the write-ahead log
        ingest.reached = lambda stage: stage == "committed" and os.kill(os.getpid(), signal.SIGKILL)
    history.ingest(force=True)
    history.close()
except BackupError as error:
    tell(refused=str(error), exit_code=error.exit_code)
"""


@dataclass(frozen=True)
class Version:
    """An environment: the code in `source`, with the DuckDB of the tests unless `wheel` holds another."""

    name: str
    source: Path = ROOT
    wheel: Path | None = None

    def visit(self, home, how="stays"):
        """What it saw. It writes an event, asks for all of them and folds them in; "dies": it is killed after that."""
        path = os.pathsep.join(str(folder) for folder in (self.wheel, self.source) if folder)
        done = subprocess.run(
            [sys.executable, "-P", "-c", VISIT, str(home.path), how, self.name],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode in (0, -9) and done.stdout and not done.stderr, f"{self.name}: {done.stderr}"
        said = {}
        for line in done.stdout.splitlines():
            said |= json.loads(line)
        return said


@pytest.fixture(scope="session")
def newer(tmp_path_factory):
    """The same code with one table column more, a schema version and an event version later."""
    source = tmp_path_factory.mktemp("newer")
    shutil.copytree(ROOT / "backup_ops", source / "backup_ops", ignore=shutil.ignore_patterns("__pycache__"))

    def edit(name, *changes):
        path = source / "backup_ops" / name
        text = path.read_text(encoding="utf-8")
        for pattern, new in changes:
            text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
            assert count == 1, f"{pattern} is {count} times in {name}"
        path.write_text(text, encoding="utf-8")

    edit(
        "history/schema.py",
        (rf"^SCHEMA_VERSION = {VERSION}$", f"SCHEMA_VERSION = {VERSION + 1}"),
        (r"(Table\(\s*\"events\", _columns\(\s*\"event_id, )", r"\1colour, "),
    )
    edit("event.py", (rf"^EVENT_VERSION = {EVENT_VERSION}$", f"EVENT_VERSION = {EVENT_VERSION + 1}"))
    return Version("newer", source)


def wheel_of(version, config, tmp_path_factory):
    """A folder with that DuckDB. It is kept in pytest's cache: a second run of the tests downloads nothing."""
    cache = getattr(config, "cache", None)
    folder = Path(cache.mkdir("wheels")) if cache else tmp_path_factory.mktemp("wheels")
    target = folder / f"duckdb-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    if target.is_dir():
        return target
    beside = tmp_path_factory.mktemp("wheel") / "installed"
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                "--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "15", "--target", str(beside),
                f"duckdb=={version}",
            ],
            capture_output=True,
            text=True,
            timeout=PIP_TAKES_AT_MOST_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"duckdb {version} cannot be installed here: pip took more than {PIP_TAKES_AT_MOST_S} s")
    if done.returncode:
        pytest.skip(f"duckdb {version} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    if not target.exists():
        staged = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(beside, staged)
        staged.rename(target)
    return target


@pytest.fixture(scope="session")
def wheels(request, tmp_path_factory):
    """A folder for each DuckDB that is asked for; all are there, or the tests that need one are skipped."""
    return {version: wheel_of(version, request.config, tmp_path_factory) for version in (OLDEST_DUCKDB, TOO_OLD_DUCKDB)}


@pytest.fixture(scope="session")
def older_duckdb(wheels):
    return Version("older duckdb", wheel=wheels[OLDEST_DUCKDB])


@pytest.fixture(scope="session")
def too_old_duckdb(wheels):
    return Version("too old duckdb", wheel=wheels[TOO_OLD_DUCKDB])


class Watch:
    """What lies in a home after each visit: the index's version and identity, and what was put aside."""

    def __init__(self, home):
        self.home = home
        self.written = []
        self.replaced = 0
        self.inode = None
        self.version = 0

    def look(self):
        assert not list(self.home.path.glob("history.broken-*")), "an index was taken for damaged"
        assert not list(self.home.path.glob("history.new-*"))
        if not self.home.history.exists():
            return
        connection = duckdb.connect()
        connection.execute(f"ATTACH '{self.home.history}' AS h (READ_ONLY)")
        (version,) = connection.execute("SELECT value FROM h.meta WHERE key = 'schema_version'").fetchone()
        connection.close()
        assert int(version) >= self.version, "a newer index was replaced by an older one"
        self.version = int(version)
        inode = self.home.history.stat().st_ino
        self.replaced += self.inode not in (None, inode)
        self.inode = inode

    def visit(self, version, how="stays"):
        said = version.visit(self.home, how)
        self.written.append(said["event_id"])
        self.look()
        return said

    def visit_and_see_all(self, version, how="stays"):
        said = self.visit(version, how)
        assert "refused" not in said, said
        assert sorted(said["seen"]) == sorted(self.written)
        return said


THIS = Version("this")


def test_older_and_newer_version_alternate(home, newer, chance):
    watch = Watch(home)
    watch.visit_and_see_all(THIS)
    with ThreadPoolExecutor() as pool:
        first = list(pool.map(lambda _: newer.visit(home), range(3)))
    watch.written += [said["event_id"] for said in first]
    watch.look()
    assert [reason for said in first for reason in said["rebuilt"]] == [
        f"{home.history} was of version {VERSION}, this backup-ops has {VERSION + 1}"
    ]
    assert watch.replaced == 1 and watch.version == VERSION + 1
    for _ in range(ROUNDS):
        said = watch.visit(THIS)
        assert said["refused"] == (
            f"{home.history} was written by a newer backup-ops: its tables are version {VERSION + 1}, here {VERSION}."
            " Use the newer environment, or update backup-ops here. The file is left as it is."
        )
        assert said["exit_code"] == 2 and said["rebuilt"] == []
        assert watch.visit_and_see_all(newer, chance.choice(["stays", "dies"]))["rebuilt"] == []
    assert watch.replaced == 1


def test_older_duckdb_shares_the_home(home, older_duckdb, chance):
    watch = Watch(home)
    assert watch.visit_and_see_all(older_duckdb)["duckdb"] == OLDEST_DUCKDB  # it makes the index, this one goes on
    for _ in range(ROUNDS):
        for version in (THIS, older_duckdb):
            said = watch.visit_and_see_all(version, chance.choice(["stays", "dies"]))
            assert said["rebuilt"] == []
    assert watch.replaced == 0
    watch.visit_and_see_all(older_duckdb)  # leaves no log behind
    home.history.unlink()
    watch.visit_and_see_all(THIS)  # now this one makes it, and the other goes on
    inode = home.history.stat().st_ino
    assert watch.visit_and_see_all(older_duckdb)["rebuilt"] == [] and home.history.stat().st_ino == inode


def test_too_old_duckdb_is_told_and_still_appends(home, too_old_duckdb):
    watch = Watch(home)
    watch.visit_and_see_all(THIS)
    for _ in range(max(1, ROUNDS // 5)):
        said = watch.visit(too_old_duckdb)
        assert said["refused"] == (
            f"{home.history} was written by a newer DuckDB than this one ({TOO_OLD_DUCKDB})."
            " Use the newer environment, or update duckdb here. The file is left as it is."
        )
        assert said["exit_code"] == 2
        assert watch.visit_and_see_all(THIS)["rebuilt"] == []
    assert watch.replaced == 0


def test_too_old_duckdb_makes_no_index(home, too_old_duckdb):
    watch = Watch(home)
    for _ in range(2):
        said = watch.visit(too_old_duckdb)
        assert sorted(said["seen"]) == sorted(watch.written)  # out of the journals
        assert f"cannot be made by this DuckDB ({TOO_OLD_DUCKDB})" in said["refused"] and said["exit_code"] == 2
        assert not home.history.exists()
    watch.visit_and_see_all(THIS)


def test_everybody_in_turn(home, newer, older_duckdb, chance):
    watch = Watch(home)
    versions = [THIS, newer, older_duckdb, Version("newer, older duckdb", newer.source, older_duckdb.wheel)]
    for _ in range(max(1, ROUNDS // 5)):
        for version in chance.sample(versions, len(versions)):
            said = watch.visit(version, chance.choice(["stays", "dies"]))
            if version.source == newer.source or watch.version == VERSION:
                assert "refused" not in said and sorted(said["seen"]) == sorted(watch.written)
            else:
                assert "written by a newer backup-ops" in said["refused"]
    assert watch.replaced <= 1 and watch.version == VERSION + 1


def test_newer_events_are_set_aside_until_the_update_and_older_ones_are_read_by_both(home, newer):
    told = Told(home)
    now, then = (f'"v":{version},'.encode() for version in (EVENT_VERSION, EVENT_VERSION + 1))
    late = line_of("tick", {"by": "hand"}).replace(now, then)
    told.garbage(checked(late))
    told.journal.close()
    told.history.close()
    watch = Watch(home)
    watch.written.append(told.event("tick"))
    said = watch.visit_and_see_all(THIS)
    sentence = (
        f"event version {EVENT_VERSION + 1} is newer than this backup-ops, which knows {EVENT_VERSION}; update it"
    )
    assert said["rejected"] == [sentence]
    assert watch.visit_and_see_all(THIS)["rejected"] == [sentence]  # also once it is folded in
    said = watch.visit(newer)
    assert len(said["seen"]) == len(watch.written) + 1 and said["rejected"] == []
    told.journal.close()


def checked(line):
    """The line with the checksum that its bytes have now."""
    payload = line[len(b'{"crc":"00000000",') :]
    return b'{"crc":"%08x",%s' % (zlib.crc32(payload), payload)
