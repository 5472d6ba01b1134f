"""`snapshots`, `ls`, `restore`."""

import json
import os
import re

import pytest

from tests.cli.conftest import Shell, listing
from tests.conftest import Place


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two snapshots of `photos`; in the second a file has changed. For tests that leave it as it is."""
    place = Place(tmp_path_factory.mktemp("saved"))
    place.fill()
    place.write_jobs()
    (place.source / "sub").mkdir()
    (place.source / "sub" / "deep.txt").write_text("deep")
    (place.source / "link").symlink_to("sub/deep.txt")
    for content in (b"first", b"second"):
        (place.source / "note.txt").write_bytes(content)
        assert Shell(place.home)("run", "photos").returncode == 0
    return place


@pytest.fixture
def shell(request, place):
    """Of the place the test asks for."""
    return Shell(request.getfixturevalue("saved").home if "saved" in request.fixturenames else place.home)


def test_snapshots_are_listed_newest_first(shell, saved):
    rows = shell.data("snapshots", "photos")
    assert [list(row) for row in rows] == [["snapshot_id", "job", "created_at", "files", "bytes"]] * 2
    assert rows[0]["created_at"] > rows[1]["created_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", rows[0]["created_at"])
    title, first, second = shell("snapshots", "photos").stdout.splitlines()
    assert title.split() == ["SNAPSHOT", "CREATED", "FILES", "SIZE", "NEW", "DATA"]
    assert [first.split()[0], second.split()[0]] == [row["snapshot_id"] for row in rows]


def test_ls_shows_kinds_sizes_and_links(shell, saved):
    lines = shell("ls", "photos", "latest").stdout.splitlines()
    assert any(re.fullmatch(r"-rw-r--r-- +0\.98 KiB \d{4}-\d\d-\d\d \d\d:\d\d file-0\.bin", line) for line in lines)
    assert any(line.startswith("drwx") and line.endswith(" sub") for line in lines)
    assert any(line.startswith("l") and line.endswith(" link -> sub/deep.txt") for line in lines)
    assert [row["path"] for row in shell.data("ls", "photos", "latest", "sub")] == ["sub", "sub/deep.txt"]


def test_ls_of_hostile_names_steers_no_terminal_and_stays_json(shell, filled):
    names = [b"new\nline", b"\x1b[31mred", b"not-utf-8-\xff", "ünï→".encode()]
    for name in names:
        (filled.source / os.fsdecode(name)).write_text("x")
    shell("run", "photos")
    lines = shell("ls", "photos", "latest").stdout
    assert "\x1b" not in lines
    assert {r"new\nline", r"\x1b[31mred", r"not-utf-8-\xff", "ünï→"} <= {
        line.split(" ")[-1] for line in lines.splitlines()
    }
    rows = {row["path"]: row for row in shell.data("ls", "photos", "latest")}
    assert rows["new\nline"]["bytes"] == 1
    assert rows["not-utf-8-\\xff"]["path_base64"] == "bm90LXV0Zi04Lf8="
    shown = [r"new\nline", r"\x1b[31mred", r"not-utf-8-\xff", "ünï→"]  # as it can be copied from the screen
    done = shell("restore", "photos", *shown, "--target", filled.folder / "odd")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(os.fsencode(filled.folder / "odd"))) == sorted(names)
    assert [row["bytes"] for row in shell.data("ls", "photos", "latest", r"new\nline")] == [1]


def test_restore_puts_everything_directly_below_the_target(shell, saved, tmp_path):
    target = tmp_path / "deep" / "target"
    done = shell("restore", "photos", "--target", target)
    assert done.returncode == 0, done.stderr
    snapshot_id = shell.data("snapshots", "photos")[0]["snapshot_id"]
    assert re.fullmatch(
        r"photos: restored 7 files, \d folders?, 1 link \([\d.]+ KiB\) "
        rf"of snapshot {snapshot_id} to {target} in [\d.]+ s\.\n",
        done.stdout,
    )
    assert sorted(os.listdir(target)) == sorted(os.listdir(saved.source))
    assert (target / "note.txt").read_bytes() == b"second"


def test_restore_of_some_paths_of_an_earlier_snapshot(shell, saved, tmp_path):
    first = shell.data("snapshots", "photos")[1]["snapshot_id"]
    target = tmp_path / "target"
    done = shell("restore", "photos", "note.txt", "--target", target, "--snapshot", first[:-2], "sub")
    assert done.returncode == 0, done.stderr
    assert (target / "note.txt").read_bytes() == b"first"
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["note.txt", "sub", "sub/deep.txt"]


def test_dry_run_of_a_restore_writes_nothing(shell, saved, tmp_path):
    before = listing(saved.folder)
    done = shell("restore", "photos", "--target", tmp_path / "target", "--dry-run")
    assert done.returncode == 0
    assert "would restore 7 files" in done.stdout
    assert "Nothing was written." in done.stdout
    assert listing(saved.folder) == before


def test_restore_onto_a_folder_in_use_needs_overwrite(shell, saved, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    (target / "note.txt").write_text("mine too")
    before = listing(target)
    done = shell("restore", "photos", "--target", target)
    assert done.returncode == 2
    assert done.stderr.startswith(f"backup-ops: target {target} is not empty.")
    assert "--overwrite" in done.stderr
    assert listing(target) == before
    assert shell("restore", "photos", "--target", target, "--overwrite").returncode == 0
    assert (target / "note.txt").read_bytes() == b"second"
    assert (target / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "words", [["restore", "photos", "--target", "t", "--snapshot", "20200101T000000-abcdef"], ["ls", "photos", "nope"]]
)
def test_unknown_snapshot_is_named_and_nothing_is_made(shell, saved, tmp_path, words):
    done = shell(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"backup-ops: job 'photos' has no snapshot '.*'\. `backup-ops snapshots photos` lists them\.\n", done.stderr
    )
    assert not (tmp_path / "t").exists()


def test_snapshot_before_all_others_is_named(shell, saved, tmp_path):
    done = shell("restore", "photos", "--target", tmp_path / "t", "--snapshot", "2001-01-01")
    assert done.returncode == 2
    assert "has no snapshot from 2001-01-01 or before" in done.stderr


def test_unknown_path_is_named_and_nothing_is_made(shell, saved, tmp_path):
    done = shell("restore", "photos", "--target", tmp_path / "t", "nothing/here")
    assert done.returncode == 2
    assert "holds no 'nothing/here'" in done.stderr
    assert not (tmp_path / "t").exists()


def test_restore_can_be_read_by_programs(shell, saved, tmp_path):
    done = shell("restore", "photos", "--target", tmp_path / "t", "--json")
    restored = json.loads(done.stdout)
    assert (restored["files"], restored["dry_run"], restored["target"]) == (7, False, str(tmp_path / "t"))


def test_job_without_a_snapshot_says_how_to_make_one(shell, filled):
    done = shell("restore", "photos", "--target", filled.folder / "t")
    assert done.returncode in (1, 2)
    assert "backup-ops run photos" in done.stderr or "repository" in done.stderr
