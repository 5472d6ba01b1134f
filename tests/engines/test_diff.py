"""What changed from one snapshot to another."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from bench_of_engines import Bench
from trees import RandomTree, snapshot_of

from backup_ops.errors import EngineError, UnknownSnapshot
from backup_ops.snapshot import Change


@pytest.fixture
def tree(bench: Bench) -> Bench:
    (bench.source / "folder").mkdir(parents=True)
    for name in ("edited", "moved", "gone", "same", "rights", "folder/touched"):
        (bench.source / name).write_bytes(name.encode() * 10)
    for name in ("empty-1", "empty-2"):
        (bench.source / name).write_bytes(b"")
    (bench.source / "link").symlink_to("same")
    return bench


def diff(bench: Bench, before: str | None, after: str | None) -> list[Change]:
    return list(bench.engine.diff(bench.repository, str(before), str(after)))


def test_each_kind_of_change_is_told_once(tree: Bench) -> None:
    first = tree.backup()
    source = tree.source
    (source / "edited").write_bytes(b"other content")
    (source / "moved").rename(source / "folder" / "moved to here")
    (source / "gone").unlink()
    (source / "new").write_bytes(b"new")
    (source / "rights").chmod(0o600)
    os.utime(source / "folder" / "touched", ns=(1, 1))
    (source / "link").unlink()
    (source / "link").symlink_to("new")
    second = tree.backup()
    changes = diff(tree, first.snapshot_id, second.snapshot_id)
    assert [(change.change, change.path, change.path_before) for change in changes] == [
        ("changed", "edited", None),
        ("moved", "folder/moved to here", "moved"),
        ("metadata", "folder/touched", None),
        ("deleted", "gone", None),
        ("changed", "link", None),
        ("new", "new", None),
        ("metadata", "rights", None),
    ]
    by_path = {change.path: change for change in changes}
    edited = by_path["edited"]
    assert (edited.bytes_before, edited.bytes_after) == (60, 13)
    assert edited.mtime_ns_after == (source / "edited").stat().st_mtime_ns
    assert (by_path["gone"].bytes_before, by_path["gone"].bytes_after, by_path["gone"].mtime_ns_after) == (
        40,
        None,
        None,
    )
    assert (by_path["new"].bytes_before, by_path["new"].bytes_after) == (None, 3)
    moved = by_path["folder/moved to here"]
    assert (moved.bytes_before, moved.bytes_after) == (50, 50)
    assert moved.mtime_ns_before == moved.mtime_ns_after
    assert by_path["folder/touched"].mtime_ns_after == 1
    assert (by_path["link"].kind, by_path["link"].bytes_after) == ("symlink", None)


def test_the_other_way_round_is_the_reverse(tree: Bench) -> None:
    first = tree.backup()
    (tree.source / "moved").rename(tree.source / "away")
    (tree.source / "new").write_bytes(b"new")
    second = tree.backup()
    assert [(change.change, change.path) for change in diff(tree, second.snapshot_id, first.snapshot_id)] == [
        ("moved", "moved"),
        ("deleted", "new"),
    ]


def test_nothing_changed_is_no_change(tree: Bench) -> None:
    first = tree.backup()
    second = tree.backup()
    assert diff(tree, first.snapshot_id, second.snapshot_id) == []
    assert diff(tree, first.snapshot_id, first.snapshot_id) == []


def test_a_file_that_becomes_a_folder_is_changed_and_so_is_a_folder_that_becomes_a_file(tree: Bench) -> None:
    first = tree.backup()
    (tree.source / "gone").unlink()
    (tree.source / "gone").mkdir()
    (tree.source / "folder" / "touched").unlink()
    (tree.source / "folder").rmdir()
    (tree.source / "folder").write_bytes(b"a file now")
    second = tree.backup()
    assert [
        (change.change, change.path, change.kind) for change in diff(tree, first.snapshot_id, second.snapshot_id)
    ] == [
        ("changed", "folder", "file"),
        ("deleted", "folder/touched", "file"),
        ("changed", "gone", "folder"),
    ]


def test_empty_files_that_come_and_go_have_not_moved_unless_they_are_the_same_file(tree: Bench) -> None:
    first = tree.backup()
    (tree.source / "empty-1").rename(tree.source / "renamed")
    (tree.source / "empty-2").unlink()
    (tree.source / "a-third").write_bytes(b"")
    (tree.source / "empty-4").write_bytes(b"")
    second = tree.backup()
    changes = {change.path: change for change in diff(tree, first.snapshot_id, second.snapshot_id)}
    assert (changes["renamed"].change, changes["renamed"].path_before) == ("moved", "empty-1")
    # An inode of a file that was deleted may be given to the next one: then they look like one file.
    assert {change.change for change in changes.values()} <= {"moved", "new", "deleted"}


def test_content_that_was_copied_and_the_original_deleted_has_moved(tree: Bench) -> None:
    first = tree.backup()
    content = (tree.source / "gone").read_bytes()
    (tree.source / "copy").write_bytes(content)
    (tree.source / "gone").unlink()
    second = tree.backup()
    assert [
        (change.change, change.path, change.path_before) for change in diff(tree, first.snapshot_id, second.snapshot_id)
    ] == [("moved", "copy", "gone")]


def test_new_hard_links_and_broken_ones_are_told(tree: Bench) -> None:
    first = tree.backup()
    os.link(tree.source / "same", tree.source / "zz")
    second = tree.backup()
    (tree.source / "same").unlink()
    third = tree.backup()
    assert [(c.change, c.path) for c in diff(tree, first.snapshot_id, second.snapshot_id)] == [("new", "zz")]
    assert {(c.change, c.path) for c in diff(tree, second.snapshot_id, third.snapshot_id)} == {
        ("deleted", "same"),
        ("metadata", "zz"),
    }


def test_random_changes_add_up(bench: Bench, seed: int) -> None:
    """Whatever happened, taking what was and following the changes gives what is."""
    tree = RandomTree(bench.source, seed, files=30)
    first, before = bench.backup(), snapshot_of(bench.source)
    tree.change(66)
    second, after = bench.backup(), snapshot_of(bench.source)
    changes = diff(bench, first.snapshot_id, second.snapshot_id)
    assert len({change.path for change in changes}) == len(changes)
    known = set(before) - {b""}
    for change in changes:
        path = os.fsencode(change.path)
        if change.change == "moved":
            known.remove(os.fsencode(change.path_before or ""))
        if change.change in ("new", "moved"):
            assert path not in before
            known.add(path)
        elif change.change == "deleted":
            known.remove(path)
        else:
            assert path in before and path in after
    assert known == set(after) - {b""}
    told = {os.fsencode(change.path): change.change for change in changes}
    for path in (before.keys() & after.keys()) - {b""}:
        was, now = before[path][:7], after[path][:7]  # that a file got another name is told of that name
        is_folder = was[0] == now[0] == stat.S_IFDIR
        if was[:4] != now[:4] or was[5:] != now[5:] or (was[4] != now[4] and not is_folder):
            assert path in told, path
        elif path in told:  # the name that the other links of the file refer to is gone
            assert told[path] == "metadata", path


def test_a_snapshot_that_is_not_there_is_named(tree: Bench) -> None:
    first = tree.backup()
    with pytest.raises(UnknownSnapshot, match="20200101T000000-abcdef"):
        diff(tree, "20200101T000000-abcdef", first.snapshot_id)


def test_a_damaged_manifest_is_an_error_naming_the_snapshot_and_no_wrong_answer(tree: Bench) -> None:
    first, second = tree.backup(), tree.backup()
    file: Path = tree.location / "snapshots" / f"{first.snapshot_id}.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    with pytest.raises(EngineError, match=str(first.snapshot_id)):
        diff(tree, first.snapshot_id, second.snapshot_id)
