"""What is wrong with history.duckdb is told apart: damage is mended from the journals, all else is left alone."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import threading

import duckdb
import pytest

from backup_ops.errors import HistoryDamaged, HistoryNewer, HomeError, QueryRefused
from backup_ops.history import History, schema
from backup_ops.history.trouble import meaning


def events(history) -> int:
    return history.sql_rows("SELECT count(*) FROM events")[1][0][0]


def broken(home) -> list[str]:
    return sorted(path.name for path in home.path.glob("history.broken-*"))


def fill(told, count=3000):
    for number in range(count):
        told.event("tick", number=number, text=f"{number:x}" * 20)
    assert told.history.ingest(force=True)
    told.history.close()


def spoil(path, how, chance):
    size = path.stat().st_size
    if how == "deleted":
        path.unlink()
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"hello " * 1000)
    elif how == "sqlite":
        path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    elif how == "truncated":
        os.truncate(path, size * 2 // 3)
    elif how == "header":
        flip(path, 8192 + 8 + chance.randrange(24))
    elif how == "foreign":
        path.unlink()
        duckdb.connect(str(path)).execute("CREATE TABLE mine AS SELECT 1").close()
    elif how == "flipped":
        for offset in range(12288 + 100, size, 4096):
            flip(path, offset)


@contextlib.contextmanager
def read_only(folder):
    done = subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("only root can mount a folder read-only")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def spoil_data(path):
    """One bit in a block that is read only when the events' data is: attaching and small questions go well."""
    good = path.read_bytes()
    for offset in range(12288 + 5000, len(good), 262144):
        flip(path, offset)
        with duckdb.connect() as connection:
            try:
                connection.execute(f"ATTACH '{path}' AS x (READ_ONLY)")
                connection.execute("SELECT * FROM x.meta, x.offsets").fetchall()
            except duckdb.Error:
                path.write_bytes(good)
                continue
            try:
                connection.execute("SELECT max(data) FROM x.events").fetchall()
            except duckdb.Error:
                return
        path.write_bytes(good)
    raise AssertionError("no such block")


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 4]))


@pytest.mark.parametrize("how", ["deleted", "emptied", "text", "sqlite", "truncated", "header", "foreign", "flipped"])
@pytest.mark.parametrize("first", ["question", "sandbox", "ingest", "export"])
def test_index_is_mended_from_the_journals_by_whatever_meets_the_damage(told, tmp_path, chance, how, first):
    fill(told)
    expected = told.history.frame("error_statistics")
    told.history.close()
    spoil(told.home.history, how, chance)
    told.event("tick")
    if first == "question":
        assert told.history.frame("error_statistics").equals(expected)
    elif first == "sandbox":
        assert events(told.history) == 3001
    elif first == "ingest":
        told.history.ingest(force=True)
    else:
        assert told.history.export(tmp_path / "x.csv", "errors") == 0
    assert events(told.history) == 3001
    assert told.history.sql_rows("SELECT count(DISTINCT data->>'number') FROM events")[1] == [(3000,)]
    kept = [name for name in broken(told.home) if name.endswith(".duckdb")]
    assert len(kept) == (0 if how in ("deleted", "emptied") else 1)
    assert len(told.rebuilt) == len(kept)
    assert not list(told.home.path.glob("history.new-*"))
    assert stat.S_IMODE(told.home.history.stat().st_mode) == 0o600


def test_damage_met_inside_a_reading_block_is_told_and_mended(told):
    fill(told)
    spoil_data(told.home.history)
    with pytest.raises(HistoryDamaged, match=r"is damaged: .*checksum"), told.history.reading() as cursor:
        cursor.execute("SELECT max(data) FROM events").fetchall()
    with told.history.reading() as cursor:
        assert cursor.execute("SELECT count(data) FROM events").fetchone() == (3000,)
    assert len(told.rebuilt) == 1 and "checksum" in told.rebuilt[0]


@pytest.mark.parametrize("ask", ["sandbox", "export"])
def test_damage_met_by_a_query_is_mended_before_its_answer(told, tmp_path, ask):
    fill(told)
    spoil_data(told.home.history)
    if ask == "sandbox":
        assert told.history.sql_rows("SELECT count(DISTINCT data) FROM events")[1] == [(3000,)]
    else:
        told.history.export(tmp_path / "x.csv", "runs")
        assert len(told.history.sql("SELECT data FROM events")) == 3000
    assert len(told.rebuilt) == 1


def test_damage_is_mended_once_by_many(told, chance):
    fill(told)
    spoil(told.home.history, "truncated", chance)
    histories = [told.another() for _ in range(6)]
    answers = []
    threads = [threading.Thread(target=lambda one=one: answers.append(events(one))) for one in histories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [3000] * 6 and len(broken(told.home)) == 1 and len(told.rebuilt) == 1


def test_only_the_last_damaged_files_are_kept(told, chance):
    fill(told, 10)
    for _ in range(5):
        spoil(told.home.history, "text", chance)
        assert events(told.history) == 10
    assert len(broken(told.home)) == 3


def test_bit_flips_are_never_read_as_facts(told, chance):
    fill(told, 500)
    good = told.home.history.read_bytes()
    expected = told.history.sql_rows("SELECT count(*), sum(hash(data)) FROM events")
    told.history.close()
    for _ in range(20):
        told.home.history.write_bytes(good)
        flip(told.home.history, chance.randrange(len(good)))
        assert told.another().sql_rows("SELECT count(*), sum(hash(data)) FROM events") == expected


def test_users_words_are_not_taken_for_damage(told):
    fill(told, 10)
    for words in ("Corrupt database file", "Failure while replaying WAL", "Could not set lock", "Permission denied"):
        with pytest.raises(QueryRefused, match=words):
            told.history.sql(f"SELECT error('{words}')")
    with pytest.raises(duckdb.Error), told.history.reading() as cursor:
        cursor.execute("SELECT error('Corrupt database file: checksum')")
    assert told.rebuilt == [] and broken(told.home) == []


@pytest.mark.parametrize("step", ["ask", "sandbox", "ingest"])
def test_newer_tables_are_refused_and_left_alone(told, step):
    fill(told, 10)
    with duckdb.connect(str(told.home.history)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    before = told.home.history.read_bytes()
    told.event("tick")
    with pytest.raises(HistoryNewer, match=r"written by a newer backup-ops: its tables are version 99, here 2\."):
        {"ask": lambda: told.history.rows("runs"), "sandbox": lambda: told.history.sql("SELECT 1"),
         "ingest": lambda: told.history.ingest(force=True)}[step]()  # fmt: skip
    assert told.home.history.read_bytes() == before and broken(told.home) == []


def test_newer_format_is_told_from_damage(home):
    error = duckdb.IOException(
        "Trying to read a database file with version number 69, but we can only read versions between 64 and 68."
    )
    assert isinstance(meaning(error, home.history), HistoryNewer)


def test_older_tables_are_rebuilt_and_not_kept(told, monkeypatch):
    fill(told, 10)
    monkeypatch.setattr("backup_ops.history.instance.SCHEMA_VERSION", 3)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 3)
    assert events(told.history) == 10
    assert broken(told.home) == []
    assert len(told.rebuilt) == 1 and told.rebuilt[0].endswith("was of version 2, this backup-ops has 3")
    with told.history.reading() as cursor:
        assert cursor.execute("SELECT value FROM h.meta").fetchone() == ("3",)


def test_format_is_one_that_older_duckdb_can_read(told):
    fill(told, 10)
    with told.history.reading() as cursor:
        tags = cursor.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'h'").fetchone()
    assert tags[0]["storage_version"].startswith("v1.5.0")


def test_rebuild_on_request_makes_the_same_again(told):
    told.seed()
    told.garbage(b"bad line")
    before = {name: told.history.rows(name) for name in ("runs", "errors", "snapshots", "job_cards")}
    told.history.rebuild()
    assert told.rebuilt == [], "whoever asked for it need not be told"
    assert {name: told.history.rows(name) for name in before} == before
    assert len(told.history.sql_rows("SELECT * FROM rejected")[1]) == 1


def test_restored_home_whose_journals_are_older_than_its_index_is_put_right(told):
    fill(told, 100)
    index = told.home.history.read_bytes()
    (journal,) = told.home.journal.iterdir()
    early = journal.read_bytes()[:5000]
    told.journal.close()
    journal.write_bytes(early)
    told.home.history.write_bytes(index)
    assert events(told.history) == 100
    told.event("tick")
    assert events(told.history) == 101 and told.history.ingest(force=True) and events(told.history) == 101


def test_unreadable_file_is_no_damage(told):
    fill(told, 10)
    script = """
import sys
from backup_ops.home import Home
from backup_ops.history import History
History(Home(sys.argv[1])).rows("runs")
"""
    told.home.history.chmod(0o000)
    told.home.path.chmod(0o755)
    command = [sys.executable, "-c", script, str(told.home.path)]
    if os.geteuid() == 0:
        for path in [*told.home.path.parents[:4], told.home.path, *told.home.path.rglob("*")]:
            if path != told.home.history:
                path.chmod(path.stat().st_mode | 0o055)
        command = ["setpriv", "--reuid=65534", "--clear-groups", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.getcwd())
    assert f"{told.home.history} cannot be used: permission denied." in done.stderr, done.stderr
    assert broken(told.home) == []


def test_full_disk_loses_nothing_and_heals_by_itself(small_disk, tmp_path):
    from told import Told

    from backup_ops.home import Home

    home = Home(small_disk / "home")
    home.make()
    shutil.rmtree(home.journal)
    home.journal.symlink_to(tmp_path / "journal")  # the journals' disk has room
    (tmp_path / "journal").mkdir()
    told = Told(home)
    told.event("tick")
    assert told.history.ingest(force=True)
    (small_disk / "ballast").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    for number in range(2000):
        told.event("tick", text=os.urandom(200).hex(), number=number)
    with pytest.raises(HomeError, match=r"history\.duckdb cannot be used: the disk that holds it is full\."):
        told.history.ingest(force=True)
    assert events(told.history) == 2001
    (small_disk / "ballast").unlink()
    assert told.history.ingest(force=True)
    assert events(told.history) == 2001 and told.rebuilt == []
    told.history.close()
    told.journal.close()


def test_index_that_cannot_be_made_on_a_full_disk_is_not_missed(small_disk, tmp_path):
    from told import Told

    from backup_ops.home import Home

    home = Home(small_disk / "home")
    home.make()
    told = Told(home)
    told.event("tick")
    (small_disk / "ballast").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    assert events(told.history) == 1
    assert [path.name for path in home.path.glob("history*")] == []
    (small_disk / "ballast").unlink()
    assert events(told.history) == 1 and home.history.exists()
    told.history.close()
    told.journal.close()


def test_read_only_home_is_read(told):
    told.seed()
    before = told.history.rows("runs")
    told.history.close()
    with read_only(told.home.path):
        history = History(told.home)
        assert history.rows("runs") == before
        assert len(history.sql("SELECT * FROM errors")) == 5
        assert history.ingest(force=True) is False
        history.close()


def test_read_only_home_without_an_index_is_read_from_its_journals(told):
    told.seed()
    before = told.history.rows("runs")
    told.history.close()
    told.home.history.unlink()
    with read_only(told.home.path):
        history = History(told.home)
        assert history.rows("runs") == before
        with pytest.raises(HomeError, match=r"history\.duckdb cannot be written: Read-only file system\."):
            history.rebuild()
        history.close()
