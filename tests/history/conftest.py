"""A home with journals and a history for each test."""

import subprocess

import pytest
from told import EVENTS, Told

from backup_ops.home import Home


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def told(home):
    told = Told(home)
    yield told
    told.history.close()
    told.journal.close()


@pytest.fixture
def filled(told):
    """A home with an index, and one event that is not folded in yet; nothing of it is open."""
    for number in range(EVENTS - 1):
        told.error(number=number)
    assert told.history.ingest(force=True)
    told.error()
    told.history.close()
    told.journal.close()
    return told


@pytest.fixture
def small_disk(tmp_path, request):
    """A file system of 2 MB, or of what a test asks for."""
    size = getattr(request, "param", "2m")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
