import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backup_ops.errors import HomeError
from backup_ops.home import Home
from tests.network_mount import dead_mount, rclone_mount


def test_home_is_made_for_its_owner_alone(tmp_path):
    home = Home(tmp_path / "a" / "home")
    assert home.make() == []
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert home.queue.is_dir() and home.journal.is_dir() and home.locks.is_dir()


def test_own_open_home_is_tightened_with_a_notice(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home").chmod(0o755)
    notices = Home(tmp_path / "home").open()
    assert "0755" in notices[0] and "0700 now" in notices[0]
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_missing_home_is_not_made_by_opening_it(tmp_path):
    with pytest.raises(HomeError, match=r"there is no home at .*backup-ops init"):
        Home(tmp_path / "home").open()
    assert not (tmp_path / "home").exists()


def test_file_in_its_place_is_named(tmp_path):
    (tmp_path / "home").write_text("x")
    with pytest.raises(HomeError, match="is a file, not a folder"):
        Home(tmp_path / "home").make()


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner needs root: run the tests as root")
def test_home_of_another_user_is_refused_and_left_alone(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)
    os.chown(tmp_path / "home", 65534, 65534)
    with pytest.raises(HomeError, match="belongs to user nobody, and this is user root"):
        Home(tmp_path / "home").open()
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="dropping rights needs root: run the tests as root")
def test_home_that_cannot_be_written_says_so(tmp_path):
    home = tmp_path / "home"
    Home(home).make()
    home.chmod(0o500)
    script = f"""
import os
from backup_ops.errors import HomeError
from backup_ops.home import Home
os.chown({str(home)!r}, 65534, 65534); os.setgid(65534); os.setuid(65534)
try: Home({str(home)!r}).open()
except HomeError as error: print(error)
"""
    for parent in home.parents:  # pytest's own folders are closed to others
        if parent.stat().st_mode & 0o777 == 0o700:
            parent.chmod(0o711)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert "is not writable by user nobody" in done.stdout, done


def test_place_is_looked_for_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKUP_OPS_HOME", str(tmp_path / "b"))
    assert Home.locate(tmp_path / "a").path == tmp_path / "a"
    assert Home.locate().path == tmp_path / "b"
    monkeypatch.delenv("BACKUP_OPS_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "c"))
    assert Home.locate().path.is_relative_to(tmp_path / "c")


def test_identity_is_one_though_many_ask_for_it_first(tmp_path):
    for number in range(20):
        home = Home(tmp_path / str(number))
        home.make()
        start = threading.Barrier(8)

        def ask(_, home=home, start=start):
            start.wait()
            return home.identity()

        with ThreadPoolExecutor(8) as pool:
            told = set(pool.map(ask, range(8)))
        assert told == {home.identity()}
        assert [path.name for path in home.path.iterdir() if "home.id" in path.name] == ["home.id"]


def test_home_on_a_network_file_system_is_refused_before_anything_is_made(tmp_path):
    with rclone_mount(tmp_path) as (point, behind):
        for opening in (Home(point / "new").make, Home(point).make, Home(point).open):
            with pytest.raises(HomeError) as caught:
                opening()
            assert f"lies on a network file system (fuse.rclone, mounted at {point})" in caught.value.message
            assert "on a disk of this machine" in caught.value.hint and "repositories may" in caught.value.hint
        assert list(behind.iterdir()) == []
        done = subprocess.run(
            [sys.executable, "-m", "backup_ops", "--home", point / "new", "init"], capture_output=True, text=True
        )
        assert done.returncode == 2 and "network file system" in done.stderr
        assert list(behind.iterdir()) == []


def test_a_dead_mount_beside_it_does_not_hold_up_a_home(tmp_path):
    (tmp_path / "dead").mkdir()
    with dead_mount(tmp_path / "dead"):
        began = time.monotonic()
        Home(tmp_path / "home").make()
        assert time.monotonic() - began < 5
