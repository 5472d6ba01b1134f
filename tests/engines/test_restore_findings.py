"""Restores beside a live repository, beside each other, across disks, down deep trees, and out of what goes away."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_of_engines import Bench
from trees import differences, snapshot_of

from backup_ops.engines import process
from backup_ops.engines.process import Tool
from backup_ops.engines.rclone.manifest import read_manifest, write_manifest
from backup_ops.engines.rclone.seal import seal, sha256_of, unseal
from backup_ops.engines.rclone.target import remove_tree
from backup_ops.errors import EngineError, RestoreRefused
from backup_ops.job import Limits
from backup_ops.progress import Progress

SLOW = Limits(bandwidth_bytes_s=3_000_000)


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A small disk of its own at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def restore_and_meanwhile(bench: Bench, snapshot_id: str, act: Callable[[], object]) -> None:
    """A slow restore over what is there; `act` is done once, while it fetches."""
    todo = [act]

    def look(progress: Progress) -> None:
        if progress.phase == "restoring" and todo:
            todo.pop()()

    context = bench.context(limits=SLOW, on_progress=look)
    bench.engine.restore(bench.repository, snapshot_id, bench.folder / "restored", overwrite=True, context=context)
    assert not todo


@pytest.fixture
def big(bench: Bench) -> Bench:
    """A source that takes a second to restore slowly."""
    bench.source.mkdir()
    for number in range(10):
        (bench.source / str(number)).write_bytes(os.urandom(300_000))
    return bench


@pytest.mark.parametrize("is_dry", [True, False])
@pytest.mark.parametrize("kind", ["folder", "file", "symlink"])
def test_nothing_is_restored_over_the_repository(small: Bench, kind: str, is_dry: bool) -> None:
    """It lies below the target, where the snapshot has something of the same name."""
    namesake = small.source / "repository"
    if kind == "folder":
        (namesake / "snapshots").mkdir(parents=True)
        (namesake / "backup_ops.json").write_bytes(b"of another repository")
    elif kind == "file":
        namesake.write_bytes(b"x")
    else:
        namesake.symlink_to("one")
    result = small.backup()
    before = snapshot_of(small.location)
    with pytest.raises(RestoreRefused, match=r"repository of the snapshot would be written over repository /"):
        small.restore(result.snapshot_id, "", overwrite=True, dry_run=is_dry)
    if kind == "folder":
        with pytest.raises(RestoreRefused, match="would be written over"):
            small.restore(result.snapshot_id, "", ("repository/backup_ops.json",), overwrite=True, dry_run=is_dry)
    assert differences(before, snapshot_of(small.location)) == []
    assert not (small.folder / "one").exists()
    small.restore(result.snapshot_id, "", ("one",), overwrite=True)  # what does not touch it may be restored
    assert (small.folder / "one").read_bytes() == b"one"


def test_a_symlink_that_leads_to_the_repository_is_not_replaced(
    small: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (small.source / "repository").mkdir()
    result = small.backup()
    elsewhere = tmp_path_factory.mktemp("disk") / "repository"
    shutil.move(small.location, elsewhere)
    small.location.symlink_to(elsewhere)
    with pytest.raises(RestoreRefused, match="would be written over"):
        small.restore(result.snapshot_id, "", overwrite=True)
    assert small.location.is_symlink()


def test_folders_above_the_repository_may_be_restored(small: Bench) -> None:
    """The disk that holds the repository is often part of what is backed up."""
    small.exclude.append("repository")
    (small.source / "disk").mkdir()
    small.repository = type(small.repository)(
        name="mirror", engine="rclone", url=str(small.source / "disk" / "repository")
    )
    result = small.backup()
    (small.source / "one").unlink()
    small.restore(result.snapshot_id, "source", overwrite=True)
    assert (small.source / "one").read_bytes() == b"one"
    assert small.engine.is_committed(small.repository, str(result.snapshot_id))


def test_two_restores_into_one_target_leave_each_other_alone(big: Bench) -> None:
    result = big.backup()
    target = big.folder / "restored"
    (target / ".backup-ops-restore-notes").mkdir(parents=True)  # not ours: the user's own name
    (target / ".backup-ops-restore-0011aabb").mkdir()  # of one that is dead
    restore_and_meanwhile(big, str(result.snapshot_id), lambda: big.restore(result.snapshot_id, overwrite=True))
    assert sorted(os.listdir(target)) == [".backup-ops-restore-notes", *sorted(os.listdir(big.source))]
    for file in big.source.iterdir():
        assert (target / file.name).read_bytes() == file.read_bytes()


def test_what_lies_on_another_disk_in_the_target_is_restored_too(small: Bench) -> None:
    disk = small.source / "disk"
    with mounted(disk, "2M"):
        (disk / "sub").mkdir()
        (disk / "sub" / "file").write_bytes(b"whole")
        os.setxattr(disk / "sub" / "file", "user.note", b"kept")
        os.link(disk / "sub" / "file", disk / "z other name")
        (disk / "link").symlink_to("sub/file")
        for path, mode in ((disk / "sub" / "file", 0o640), (disk / "sub", 0o750)):
            path.chmod(mode)
            os.utime(path, ns=(0, 1_500_000_000_123_456_789))
        os.utime(disk / "link", ns=(0, 1_400_000_000_000_000_000), follow_symlinks=False)
        (small.source / "zz last").write_bytes(b"9")
        before = snapshot_of(small.source)
        result = small.backup()
        (disk / "z other name").write_bytes(b"broken")
        (disk / "link").unlink()
        (small.source / "zz last").write_bytes(b"broken")
        restored = small.restore(result.snapshot_id, "source", overwrite=True)
        after = snapshot_of(small.source)
        for path in (b"", b"disk/sub/file", b"disk/z other name"):
            before.pop(path), after.pop(path)  # the target's own time; and hard links do not come back here
        assert differences(before, after) == []
        assert (disk / "sub" / "file").read_bytes() == (disk / "z other name").read_bytes() == b"whole"
        assert os.getxattr(disk / "z other name", "user.note") == b"kept"
        assert (disk / "sub" / "file").stat().st_mtime_ns == 1_500_000_000_123_456_789
        assert [note.partition(",")[0] for note in restored.notes] == ["Hard link of 1 path could not be set"]
        assert sorted(os.listdir(disk)) == ["link", "sub", "z other name"]


def test_a_disk_in_the_target_that_is_full_is_named_and_keeps_what_it_had(small: Bench) -> None:
    disk = small.source / "disk"
    with mounted(disk, "1M"):
        (disk / "file").write_bytes(b"x" * 600_000)
        result = small.backup()
        (disk / "other").write_bytes(b"y" * 300_000)
        with pytest.raises(EngineError, match=r"source/disk/file: No space left") as caught:
            small.restore(result.snapshot_id, "source", overwrite=True)
        assert caught.value.failure.error_type == "disk_full"
        assert sorted(os.listdir(disk)) == ["file", "other"]
        assert (disk / "file").read_bytes() == b"x" * 600_000


def test_repository_that_goes_away_during_a_restore_is_missing_and_not_damaged(big: Bench) -> None:
    result = big.backup()
    with pytest.raises(EngineError, match="went away during the restore") as caught:
        restore_and_meanwhile(big, str(result.snapshot_id), lambda: big.location.rename(big.folder / "away"))
    assert caught.value.failure.error_type == "repository_missing"
    assert str(big.location) in caught.value.failure.message


@pytest.fixture
def deep(bench: Bench) -> Iterator[Bench]:
    """Too deep for pytest to take away."""
    bench.source.mkdir()
    yield bench
    remove_tree(os.fsencode(bench.folder))


def test_tree_deeper_than_the_files_a_process_may_open_is_restored(deep: Bench) -> None:
    make_deep(deep.source, ["d"] * 1020)
    result = deep.backup()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        deep.restore(result.snapshot_id)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    target = deep.folder / "restored"
    assert Path(os.path.join(target, *["d"] * 1020, "file")).read_bytes() == b"x"
    assert os.listdir(target) == ["d"]


def test_paths_that_fit_into_the_repository_but_not_into_staging_are_restored(bench: Bench) -> None:
    bench.source.mkdir()
    (bench.source / "near").write_bytes(b"1")
    room = 4095 - len(f"{bench.location}/runs/20261124T095501-3f9a2c/") - len(".01234567.partial")
    names = ["d" * 200] * ((room - 60) // 201)
    names.append("e" * (room - 201 * len(names) - len("/file") - 5))
    make_deep(bench.source, names)
    result = bench.backup()
    assert result.item_failures == ()
    assert (bench.location / "runs" / str(result.snapshot_id) / names[0]).is_dir(), "stored under its own name"
    target = bench.folder / "restored"
    bench.restore(result.snapshot_id)
    assert Path(os.path.join(target, *names, "file")).read_bytes() == b"x"
    assert (target / "near").read_bytes() == b"1"
    assert sorted(os.listdir(target)) == sorted(["near", names[0]])


def make_deep(root: Path, names: list[str]) -> None:
    here = os.open(root, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here), "wb") as stream:
        stream.write(b"x")
    os.close(here)


def test_full_target_says_to_make_room_at_the_target(bench: Bench) -> None:
    bench.source.mkdir()
    for number in range(600):  # each takes a page: more than their bytes say
        (bench.source / str(number)).write_bytes(b"x" * 200)
    result = bench.backup()
    target = bench.folder / "small"
    with mounted(target, "1M"), pytest.raises(EngineError) as caught:
        bench.restore(result.snapshot_id, "small/out")
    failure = caught.value.failure
    assert failure.error_type == "disk_full"
    assert f"Free space at target {target}/out" in failure.remedy
    assert "repository" not in failure.remedy


def test_output_of_a_tool_is_whole_however_slow_its_reader_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PIPES_CLOSE_WITHIN_S", 0.3)
    taken: list[bytes] = []

    def take(line: bytes) -> None:
        time.sleep(0.01)
        taken.append(line)

    ended = Tool(["seq", "1", "200"], on_stdout=take).run()
    assert ended.exit_code == 0
    assert taken == [b"%d" % number for number in range(1, 201)]


def test_reader_that_stands_still_is_an_error_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PIPES_CLOSE_WITHIN_S", 0.3)
    monkeypatch.setattr(process, "_LINE_TAKEN_WITHIN_S", 0.5)
    go_on = threading.Event()
    try:
        with pytest.raises(EngineError, match=r"seq has ended, and no line of its output was taken for 0\.5 s"):
            Tool(["seq", "1", "3"], on_stdout=lambda _: void(go_on.wait(60))).run()
        cancel = threading.Event()
        threading.Timer(1.5, cancel.set).start()
        monkeypatch.setattr(process, "_LINE_TAKEN_WITHIN_S", 60)
        ended = Tool(["seq", "1", "3"], on_stdout=lambda _: void(go_on.wait(60)), cancel=cancel).run()
        assert ended.stopped == "cancelled"
    finally:
        go_on.set()


def void(_: object) -> None:
    """For a callback that returns nothing."""


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # that is what the error says
def test_tool_that_does_not_end_when_killed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on storage that hangs. Here a tracer keeps the dead process from its parent."""
    monkeypatch.setattr(process, "_KILLED_WITHIN_S", 0.5)
    monkeypatch.setattr("shutil.which", lambda _: None)  # no setpriv: the pid is the tool's from the start
    seize = "import ctypes,sys,time; print(ctypes.CDLL(None).ptrace(0x4206,int(sys.argv[1]),0,0),flush=True); input()"
    tracers: list[subprocess.Popen[str]] = []

    def trace(pid: int | None) -> None:
        if pid is not None:
            tracers.append(
                subprocess.Popen(
                    [sys.executable, "-c", seize, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            assert tracers[0].stdout is not None
            if tracers[0].stdout.readline().strip() != "0":
                pytest.skip("needs the right to trace")

    cancel = threading.Event()
    cancel.set()
    try:
        with pytest.raises(EngineError, match=r"sleep \(process \d+\) was killed and did not end within 0\.5 s"):
            Tool(["sleep", "60"], on_tool=trace, cancel=cancel, grace_s=(0.1, 0.1)).run()
    finally:
        for tracer in tracers:
            tracer.communicate("\n", timeout=10)


OUT_OF_BOUNDS: tuple[dict[str, Any], ...] = (
    {"path": b"../escaped"},
    {"path": b"folder/../../escaped"},
    {"path": b"/escaped"},
    {"path": b"folder//escaped"},
    {"path": b"./escaped"},
    {"path": b""},
    {"stored_path": "../../../outside"},
    {"stored_path": "/outside"},
    {"stored_run": ".."},
    {"stored_run": "../.."},
)


def test_a_manifest_that_names_what_lies_elsewhere_is_damage_and_nothing_is_written(small: Bench) -> None:
    """Whoever may write to a repository can seal what he likes."""
    (small.folder / "outside").write_bytes(b"one")
    result = small.backup()
    manifest = small.location / "snapshots" / f"{result.snapshot_id}.parquet"
    nodes = read_manifest(manifest)
    before = names_below(small.folder)
    for facts in OUT_OF_BOUNDS:
        write_manifest([*nodes.values(), replace(nodes[b"one"], **facts)], manifest)
        seal_again(manifest)
        with pytest.raises(EngineError, match=r"parquet (names a file|says that the content of)") as caught:
            small.restore(result.snapshot_id)
        assert caught.value.failure.error_type == "repository_corrupt"
        assert names_below(small.folder) == before
    with pytest.raises(EngineError):
        list(small.engine.ls(small.repository, str(result.snapshot_id)))
    verified = small.engine.verify(small.repository, context=small.context())
    assert [damage.path for damage in verified.damages] == [f"snapshots/{result.snapshot_id}.parquet"]


def seal_again(manifest: Path) -> None:
    sealed = manifest.with_suffix(".json")
    described = {"manifest": {"bytes": manifest.stat().st_size, "sha256": sha256_of(manifest)}}
    sealed.write_bytes(seal(unseal(sealed.read_bytes()) | described))


def names_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.name.startswith("scratch-")}
