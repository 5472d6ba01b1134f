"""What counts as unchanged, and what is stored again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_of_engines import Bench
from trees import differences, snapshot_of

from backup_ops.engines.rclone.manifest import read_manifest


def stored_files(bench: Bench, snapshot_id: str | None) -> list[str]:
    folder = bench.location / "runs" / str(snapshot_id)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def let_times_settle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Waits until the times of what was just written are trusted; outside of tests that takes two seconds."""
    monkeypatch.setattr("backup_ops.engines.rclone.backup.FRESH_NS", 200_000_000)
    return lambda: time.sleep(0.25)


def test_no_change_stores_nothing(small: Bench) -> None:
    small.backup()
    second = small.backup()
    assert (second.files_new, second.files_changed, second.files_deleted, second.bytes_added) == (0, 0, 0, 0)
    assert second.files_total == 2
    assert second.bytes_total == 3003
    assert stored_files(small, second.snapshot_id) == []


def test_edit_with_same_size_and_mtime_is_found_by_ctime(small: Bench, let_times_settle: Callable[[], None]) -> None:
    let_times_settle()
    small.backup()
    before = (small.source / "one").stat()
    with (small.source / "one").open("r+b") as stream:  # the same inode
        stream.write(b"ONE")
    os.utime(small.source / "one", ns=(before.st_mtime_ns, before.st_mtime_ns))
    second = small.backup()
    assert second.files_changed == 1
    assert stored_files(small, second.snapshot_id) == ["one"]
    small.restore(second.snapshot_id)
    assert (small.folder / "restored" / "one").read_bytes() == b"ONE"


def test_unchanged_files_are_not_read_again(small: Bench, let_times_settle: Callable[[], None]) -> None:
    def read_so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    (small.source / "big").write_bytes(os.urandom(8_000_000))
    let_times_settle()
    small.backup()
    before = read_so_far()
    small.backup()
    assert read_so_far() - before < 4_000_000
    (small.source / "big").chmod(0o640)  # only the ctime: it has to be looked into
    before = read_so_far()
    assert small.backup().bytes_added == 0
    assert read_so_far() - before > 8_000_000


def test_file_that_was_fresh_when_it_was_scanned_is_not_trusted(small: Bench) -> None:
    first = small.backup()
    assert read_manifest(small.location / "snapshots" / f"{first.snapshot_id}.parquet")[b"one"].ctime_ns is None


def test_new_mtime_alone_stores_nothing(small: Bench) -> None:
    small.backup()
    os.utime(small.source / "one", ns=(1, 1_234_567_890_123_456_789))
    second = small.backup()
    assert (second.files_changed, second.bytes_added) == (0, 0)
    small.restore(second.snapshot_id)
    assert (small.folder / "restored" / "one").stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_renamed_file_is_not_stored_again(small: Bench) -> None:
    small.backup()
    (small.source / "one").rename(small.source / "folder" / "moved")
    (small.source / "folder").rename(small.source / "folder2")
    second = small.backup()
    assert second.bytes_added == 0
    assert (second.files_new, second.files_deleted) == (2, 2)
    small.restore(second.snapshot_id)
    assert differences(snapshot_of(small.source), snapshot_of(small.folder / "restored")) == []


def test_reused_inode_with_other_content_is_stored(small: Bench) -> None:
    small.backup()
    (small.source / "one").rename(small.source / "moved")
    before = (small.source / "moved").stat()
    with (small.source / "moved").open("r+b") as stream:
        stream.write(b"ONE")
    os.utime(small.source / "moved", ns=(before.st_mtime_ns, before.st_mtime_ns))
    second = small.backup()
    assert stored_files(small, second.snapshot_id) == ["moved"]


def test_content_that_went_back_to_an_older_version_restores_as_it_was(small: Bench) -> None:
    snapshots = []
    for content in (b"v1", b"v2 is longer", b"v1"):
        (small.source / "one").write_bytes(content)
        snapshots.append(small.backup().snapshot_id)
    for number, content in enumerate((b"v1", b"v2 is longer", b"v1")):
        small.restore(snapshots[number], f"restored-{number}")
        assert (small.folder / f"restored-{number}" / "one").read_bytes() == content


def test_what_was_stored_once_is_never_touched_again(small: Bench) -> None:
    first = small.backup()
    stored = small.location / "runs" / str(first.snapshot_id) / "one"
    before = stored.stat()
    (small.source / "one").write_bytes(b"other")
    small.backup()
    (small.source / "one").unlink()
    small.backup()
    assert stored.read_bytes() == b"one"
    assert (stored.stat().st_ino, stored.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_copy_that_replaced_a_hard_link_is_a_file_of_its_own(small: Bench) -> None:
    (small.source / "two names").hardlink_to(small.source / "one")
    small.backup()
    shutil.copy2(small.source / "one", small.source / "new")
    (small.source / "new").replace(small.source / "two names")
    second = small.backup()
    assert second.bytes_added == 0
    small.restore(second.snapshot_id)
    assert differences(snapshot_of(small.source), snapshot_of(small.folder / "restored")) == []


def test_excluded_is_not_stored_and_its_folders_are_not_entered(small: Bench) -> None:
    small.exclude = ["*.tmp", "/folder/"]
    (small.source / "x.tmp").write_bytes(b"x")
    result = small.backup()
    assert result.files_total == 1
    assert [entry.path for entry in small.engine.ls(small.repository, str(result.snapshot_id))] == ["one"]


def test_several_sources_lie_under_their_names(small: Bench) -> None:
    other = small.folder / "other\nsource"
    (other / "below").mkdir(parents=True)
    (other / "below" / "three").write_bytes(b"three")
    result = small.backup(small.job(source=[small.source, other]))
    small.restore(result.snapshot_id)
    restored = small.folder / "restored"
    assert differences(snapshot_of(small.source), snapshot_of(restored / "source")) == []
    assert differences(snapshot_of(other), snapshot_of(restored / "other\nsource")) == []


def test_source_with_an_odd_path_is_read(bench: Bench) -> None:
    odd = Path(os.fsdecode(os.fsencode(bench.folder) + "/od␊d‛ \n".encode() + b"\xff"))
    odd.mkdir()
    (odd / "file").write_bytes(b"x")
    bench.source = bench.folder / "link to it"
    bench.source.symlink_to(odd)
    result = bench.backup(bench.job(source=[bench.source]))
    bench.restore(result.snapshot_id)
    assert (bench.folder / "restored" / "file").read_bytes() == b"x"


def test_pipes_sockets_and_the_repository_itself_are_reported_not_stored(small: Bench) -> None:
    os.mkfifo(small.source / "a pipe")
    small.location = small.source / "backups"
    small.repository = type(small.repository)(name="mirror", engine="rclone", url=str(small.location))
    small.backup()
    second = small.backup()
    assert second.files_total == 2
    assert any("1 pipes" in note for note in second.notes), second.notes
    assert any("a pipe" in note for note in second.notes)
    assert any("backups, the repository itself" in note for note in second.notes)


def test_preview_says_what_a_run_would_do_and_writes_nothing(small: Bench) -> None:
    first = small.engine.preview(small.job(), small.repository, small.context())
    assert (first.files_new, first.bytes_added) == (2, 3003)
    assert not small.location.exists()
    small.backup()
    (small.source / "one").write_bytes(b"changed!")
    (small.source / "new").write_bytes(b"12345")
    (small.source / "folder" / "two").unlink()
    before = snapshot_of(small.location)
    preview = small.engine.preview(small.job(), small.repository, small.context())
    assert (preview.files_new, preview.files_changed, preview.files_deleted, preview.bytes_added) == (1, 1, 1, 13)
    assert set(preview.sample) == {"+ new", "~ one", "- folder/two"}
    assert differences(before, snapshot_of(small.location)) == []
    result = small.backup()
    assert (result.files_new, result.files_changed, result.files_deleted, result.bytes_added) == (1, 1, 1, 13)


def test_progress_and_log_reach_the_run(small: Bench) -> None:
    from backup_ops.job import Limits

    (small.source / "big").write_bytes(os.urandom(3_000_000))
    small.limits = Limits(bandwidth_bytes_s=1_500_000)
    small.backup()
    copying = [progress for progress in small.progress if progress.phase == "copying"]
    assert copying
    assert copying[-1].bytes_total == 3_003_003
    assert copying[-1].files_total == 3
    assert any(0 < (progress.bytes_done or 0) < 3_003_003 for progress in copying)
    assert any(b'"stats"' in line for line in small.log)
    assert not any(b"not found" in line for line in small.log), "what is looked for in vain is no error"


def test_names_that_rclone_takes_for_one_keep_their_own_content(small: Bench) -> None:
    names = [
        "\u201b",
        "\u201b\u201b",
        "\n",
        "\u240a",
        "\u201b\u240a",
        "\u0001",
        "\u2401",
        "%0A",
        "e\u0301",
        "\u00e9",
        "\u00c9",
    ]
    for number, name in enumerate(names):
        (small.source / name).write_bytes(b"%02d" % number)
    result = small.backup()
    assert result.item_failures == ()
    small.restore(result.snapshot_id)
    assert [(small.folder / "restored" / name).read_bytes() for name in names] == [
        b"%02d" % n for n in range(len(names))
    ]


def test_path_too_long_for_the_repository_is_stored_under_a_hash(small: Bench) -> None:
    room = os.pathconf("/", "PC_PATH_MAX") - 10 - len(os.fsencode(small.source))
    path = small.source
    here = os.open(small.source, os.O_RDONLY)
    for number in range(room // 200):
        name = f"{number:02}".ljust(199, "x")
        path = path / name
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    name = "f" * (os.pathconf("/", "PC_PATH_MAX") - 5 - len(os.fsencode(path)))
    (path / name).write_bytes(b"deep down")
    result = small.backup()
    assert result.item_failures == ()
    assert result.files_total == 3
    small.restore(result.snapshot_id, "out")
    restored = small.folder / "out" / path.relative_to(small.source) / name
    assert restored.read_bytes() == b"deep down"
    shutil.rmtree(small.source / ("00".ljust(199, "x")))
