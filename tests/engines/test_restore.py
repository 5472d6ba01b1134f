"""Restoring: what is refused, what is replaced, what is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench_of_engines import Bench
from trees import differences, snapshot_of

from backup_ops.errors import EngineError, RestoreRefused, UsageError


def test_restored_files_lie_directly_under_the_target_and_are_counted(small: Bench) -> None:
    (small.source / "link").symlink_to("one")
    result = small.backup()
    restored = small.restore(result.snapshot_id, "new/deep/target")
    assert (small.folder / "new/deep/target/one").read_bytes() == b"one"
    assert (restored.files, restored.folders, restored.links, restored.bytes) == (2, 1, 1, 3003)
    assert not restored.dry_run
    assert sorted(os.listdir(small.folder / "new/deep/target")) == ["folder", "link", "one"]


def test_dry_run_counts_and_writes_nothing(small: Bench) -> None:
    result = small.backup()
    restored = small.restore(result.snapshot_id, dry_run=True)
    assert (restored.files, restored.bytes, restored.dry_run) == (2, 3003, True)
    assert not (small.folder / "restored").exists()


def test_non_empty_target_is_refused_and_left_as_it_is(small: Bench) -> None:
    result = small.backup()
    (small.folder / "restored").mkdir()
    (small.folder / "restored" / "mine").write_bytes(b"mine")
    before = snapshot_of(small.folder / "restored")
    for dry_run in (True, False):
        with pytest.raises(RestoreRefused, match="not empty") as caught:
            small.restore(result.snapshot_id, dry_run=dry_run)
        assert "--overwrite" in caught.value.hint
    assert differences(before, snapshot_of(small.folder / "restored")) == []


def test_overwrite_replaces_what_the_snapshot_holds_and_leaves_the_rest(small: Bench) -> None:
    result = small.backup()
    target = small.folder / "restored"
    (target / "folder").mkdir(parents=True)
    (target / "one").write_bytes(b"other")
    (target / "mine").write_bytes(b"mine")
    (target / "folder" / "mine too").write_bytes(b"mine")
    small.restore(result.snapshot_id, overwrite=True)
    assert (target / "one").read_bytes() == b"one"
    assert (target / "mine").read_bytes() == b"mine"
    assert (target / "folder" / "mine too").read_bytes() == b"mine"
    assert (target / "folder" / "two").read_bytes() == b"two" * 1000


def test_overwrite_changes_kinds_where_nothing_is_lost(small: Bench) -> None:
    (small.source / "link").symlink_to("one")
    result = small.backup()
    target = small.folder / "restored"
    target.mkdir()
    (target / "one").mkdir()  # an empty folder where a file belongs
    (target / "folder").write_bytes(b"a file where a folder belongs")
    (target / "link").write_bytes(b"a file where a symlink belongs")
    small.restore(result.snapshot_id, overwrite=True)
    expected, actual = snapshot_of(small.source), snapshot_of(target)
    expected.pop(b""), actual.pop(b"")  # the target was ours before: its own rights and time stay
    assert differences(expected, actual) == []


def test_folder_with_files_where_a_file_belongs_is_not_thrown_away(small: Bench) -> None:
    result = small.backup()
    target = small.folder / "restored"
    (target / "one").mkdir(parents=True)
    (target / "one" / "precious").write_bytes(b"x")
    with pytest.raises(RestoreRefused, match="one is a file in the snapshot"):
        small.restore(result.snapshot_id, overwrite=True)
    assert sorted(os.listdir(target)) == ["one"]


def test_symlinks_in_the_target_lead_nowhere(small: Bench) -> None:
    """A folder that was restored may hold symlinks to anywhere; overwriting must not write through them."""
    result = small.backup()
    outside = small.folder / "outside"
    outside.mkdir()
    (outside / "two").write_bytes(b"not ours")
    (outside / "target of one").write_bytes(b"not ours")
    before = snapshot_of(outside)
    target = small.folder / "restored"
    target.mkdir()
    (target / "folder").symlink_to(outside)
    (target / "one").symlink_to(outside / "target of one")
    small.restore(result.snapshot_id, overwrite=True)
    assert differences(before, snapshot_of(outside)) == []
    assert (target / "folder" / "two").read_bytes() == b"two" * 1000
    assert not (target / "folder").is_symlink()
    assert not (target / "one").is_symlink()


def test_symlink_in_a_snapshot_does_not_redirect_what_is_below_it_in_another(small: Bench) -> None:
    first = small.backup()
    shutil.rmtree(small.source / "folder")
    (small.source / "folder").symlink_to(small.folder)
    second = small.backup()
    small.restore(second.snapshot_id)
    assert (small.folder / "restored" / "folder").is_symlink()
    small.restore(first.snapshot_id, overwrite=True)
    assert not (small.folder / "two").exists()
    assert (small.folder / "restored" / "folder" / "two").exists()


def test_paths_select_files_and_folders_with_all_below(small: Bench) -> None:
    (small.source / "folder" / "deep").mkdir()
    (small.source / "folder" / "deep" / "three").write_bytes(b"3")
    (small.source / "folder2").mkdir()
    result = small.backup()
    assert small.restore(result.snapshot_id, "a", ("folder/",)).files == 2
    assert sorted(str(path.relative_to(small.folder / "a")) for path in (small.folder / "a").rglob("*")) == [
        "folder", "folder/deep", "folder/deep/three", "folder/two",
    ]  # fmt: skip
    assert small.restore(result.snapshot_id, "b", ("./one", "folder/deep/three")).files == 2
    assert (small.folder / "b" / "folder" / "deep" / "three").read_bytes() == b"3"
    assert not (small.folder / "b" / "folder" / "two").exists()
    assert small.restore(result.snapshot_id, "c", (".",)).files == 3


def test_one_name_of_a_hard_linked_file_can_be_restored_alone(small: Bench) -> None:
    (small.source / "z other name").hardlink_to(small.source / "one")
    result = small.backup()
    small.restore(result.snapshot_id, paths=("z other name",))
    assert (small.folder / "restored" / "z other name").read_bytes() == b"one"


def test_unknown_path_is_refused_with_a_suggestion(small: Bench) -> None:
    result = small.backup()
    with pytest.raises(RestoreRefused, match=r"folder/tow.*Did you mean 'folder/two'"):
        small.restore(result.snapshot_id, paths=("folder/tow",))
    assert not (small.folder / "restored").exists()
    with pytest.raises(UsageError, match="holds no 'folder/tow'"):
        list(small.engine.ls(small.repository, str(result.snapshot_id), "folder/tow"))


def test_target_that_cannot_be_used_is_refused(small: Bench) -> None:
    result = small.backup()
    (small.folder / "restored").write_bytes(b"a file")
    with pytest.raises(RestoreRefused, match="not a folder"):
        small.restore(result.snapshot_id)
    with pytest.raises(RestoreRefused, match="inside repository"):
        small.restore(result.snapshot_id, "repository/inside")
    with pytest.raises(EngineError, match="cannot be written"):
        small.restore(result.snapshot_id, "restored/below a file")


def test_what_a_killed_restore_left_is_taken_away_by_the_next(small: Bench) -> None:
    result = small.backup()
    leftover = small.folder / "restored" / ".backup-ops-restore-0011aabb" / "content"
    leftover.mkdir(parents=True)
    with pytest.raises(RestoreRefused):
        small.restore(result.snapshot_id)
    small.restore(result.snapshot_id, overwrite=True)
    assert sorted(os.listdir(small.folder / "restored")) == ["folder", "one"]


def test_too_little_room_is_said_before_anything_is_fetched(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    result = small.backup()
    usage = shutil.disk_usage(small.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(EngineError, match="has 100 B free") as caught:
        small.restore(result.snapshot_id)
    assert caught.value.failure.error_type == "disk_full"
    assert not (small.folder / "restored").exists()


def test_rights_inherited_from_the_target_are_taken_away(small: Bench) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    result = small.backup()
    target = small.folder / "restored"
    target.mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:4242:rwx", target], check=True)
    small.restore(result.snapshot_id)
    expected, actual = snapshot_of(small.source), snapshot_of(target)
    expected.pop(b""), actual.pop(b"")
    assert differences(expected, actual) == []


def test_owner_that_cannot_be_set_is_a_note_and_nobody_runs_as_who_restored_it(small: Bench) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root, to give a file away first")
    os.chown(small.source / "one", 1234, 1234)
    (small.source / "one").chmod(0o6755)
    (small.source / "folder" / "two").chmod(0o6755)  # of root, as whoever restores it
    result = small.backup()
    script = f"""
import sys
from pathlib import Path
from backup_ops.engines import engine_for
from backup_ops.engines.base import RunContext
from backup_ops.job import Repository
done = engine_for("rclone").restore(
    Repository(name="mirror", engine="rclone", url={str(small.location)!r}), {result.snapshot_id!r},
    Path({str(small.folder / "restored")!r}),
    context=RunContext(run_id="restore", scratch=Path({str(small.context().scratch)!r})))
print(*done.notes)
"""
    done = subprocess.run(
        [setpriv, "--bounding-set=-chown", sys.executable, "-c", script],
        capture_output=True, check=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "Owner of 1 path could not be set, first one" in done.stdout
    assert (small.folder / "restored" / "one").read_bytes() == b"one"
    assert "Mode of 1 path could not be set, first one" in done.stdout
    assert (small.folder / "restored" / "one").stat().st_mode & 0o7777 == 0o755
    assert (small.folder / "restored" / "folder" / "two").stat().st_mode & 0o7777 == 0o6755


def test_ls_tells_what_is_in_it_in_order(small: Bench) -> None:
    (small.source / "link").symlink_to("one")
    (small.source / "z").hardlink_to(small.source / "one")
    os.utime(small.source / "folder", ns=(0, 1_500_000_000_000_000_000))
    result = small.backup()
    entries = list(small.engine.ls(small.repository, str(result.snapshot_id)))
    assert [(entry.path, entry.kind, entry.bytes, entry.link_target) for entry in entries] == [
        ("folder", "folder", 0, None),
        ("folder/two", "file", 3000, None),
        ("link", "symlink", 0, "one"),
        ("one", "file", 3, None),
        ("z", "hardlink", 3, "one"),
    ]
    assert entries[0].modified_at.timestamp() == 1_500_000_000
    below = small.engine.ls(small.repository, str(result.snapshot_id), "folder/")
    assert [entry.path for entry in below] == ["folder", "folder/two"]
