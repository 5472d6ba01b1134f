"""What goes on beside a backup: sources and repositories that change, vanish or lie while it runs."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from bench_of_engines import CHILD_ENVIRONMENT, Bench

from backup_ops.engines import engine_for
from backup_ops.engines.base import Owner
from backup_ops.engines.rclone.names import RESTORE_STAGING
from backup_ops.engines.rclone.target import STAGING
from backup_ops.errors import EngineError
from backup_ops.job import Guard
from backup_ops.progress import Progress

HERE = Path(__file__).parent


def at(phase: str, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Does something once, when the run comes to that phase."""
    done: list[bool] = []

    def take(progress: Progress) -> None:
        if progress.phase == phase and not done:
            done.append(True)
            act()

    return take


def wrapped(bench: Bench, before: str) -> None:
    """Makes the engine run a few lines of shell before each call of the real rclone."""
    script = bench.folder / "rclone"
    script.write_text(f'#!/bin/bash\nreal="{bench.engine.probe().path}"\n{before}\nexec "$real" "$@"\n')
    script.chmod(0o755)
    bench.engine = engine_for("rclone", str(script))


def failed_items(result: object) -> list[tuple[str, str]]:
    return [(item.path, item.failure.error_type) for item in result.item_failures]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["plain", "odd%"])
@pytest.mark.parametrize("moment", ["before the copy", "when rclone starts"])
@pytest.mark.parametrize("what", ["pipe", "link to a pipe", "link to a device"])
def test_file_that_became_no_file_is_not_read(small: Bench, name: str, moment: str, what: str) -> None:
    victim, pipe = small.source / name, small.folder / "pipe"
    victim.write_bytes(b"a file")
    os.mkfifo(pipe)
    commands = {
        "pipe": f"rm -f '{victim}'; mkfifo '{victim}'",
        "link to a pipe": f"ln -sfn '{pipe}' '{victim}'",
        "link to a device": f"ln -sfn /dev/zero '{victim}'",
    }
    command = commands[what]
    if moment == "when rclone starts":
        wrapped(small, f'if [ "$1" = copy ]; then {command}; fi')
        command = "true"
    act = partial(subprocess.run, ["bash", "-c", command], check=True)
    result = small.backup(on_progress=at("comparing", act), deadline_at=time.monotonic() + 20)
    assert failed_items(result) == [(name, "source_changed")]
    assert result.files_total == 2
    small.restore(result.snapshot_id)
    assert (small.folder / "restored" / "one").read_bytes() == b"one"


def test_unlisted_links_beside_a_file_do_not_disturb_its_copy(small: Bench) -> None:
    (small.source / "dangling").symlink_to("nowhere")
    (small.source / "loop").symlink_to("loop")
    (small.source / "up").symlink_to("..")
    os.mkfifo(small.source / "pipe")
    result = small.backup()
    assert (result.files_total, result.exit_code, result.item_failures) == (2, 0, ())
    assert sorted(path.name for path in (small.location / "runs").rglob("*") if path.is_file()) == ["one", "two"]


@pytest.mark.parametrize("phase", ["comparing", "sealing"])
def test_repository_that_goes_away_is_not_made_again_elsewhere(small: Bench, phase: str) -> None:
    first = small.backup().snapshot_id
    (small.source / "new").write_bytes(b"new")
    away = small.folder / "away"
    with pytest.raises(EngineError) as caught:
        small.backup(known_before=True, on_progress=at(phase, lambda: small.location.rename(away)))
    assert caught.value.failure.error_type == "repository_missing"
    assert [path for path in small.folder.glob("repository/**/*") if path.is_file()] == []
    shutil.rmtree(small.location, ignore_errors=True)
    away.rename(small.location)
    assert [found.snapshot_id for found in small.engine.snapshots(small.repository)] == [first]


def test_other_repository_at_the_same_place_gets_nothing(small: Bench) -> None:
    small.backup()
    other = small.folder / "other"
    shutil.copytree(small.location, other)
    (other / "backup_ops.json").unlink()
    shutil.rmtree(other / "snapshots")
    shutil.rmtree(other / "runs")

    def swap() -> None:
        small.location.rename(small.folder / "away")
        other.mkdir(exist_ok=True)
        other.rename(small.location)
        fresh = Bench(small.folder / "fresh", small.engine, small.source)
        fresh.folder.mkdir()
        fresh.backup()
        shutil.copy(fresh.location / "backup_ops.json", small.location)

    with pytest.raises(EngineError, match="another one now") as caught:
        small.backup(on_progress=at("comparing", swap))
    assert caught.value.failure.error_type == "repository_missing"
    assert sorted(path.name for path in small.location.iterdir()) == ["backup_ops.json"]


def test_slower_of_two_first_runs_does_not_take_the_repository_over(small: Bench) -> None:
    theirs = small.job("theirs")
    second: list[str | None] = []

    def other_home() -> None:
        second.append(small.backup(theirs, owner=Owner(home_id="B")).snapshot_id)

    with pytest.raises(EngineError, match="belongs to another home"):
        small.backup(owner=Owner(home_id="A"), on_progress=at("comparing", other_home))
    assert [found.snapshot_id for found in small.engine.snapshots(small.repository)] == second
    small.restore(second[0])
    assert (small.folder / "restored" / "one").read_bytes() == b"one"


def test_two_first_runs_of_one_home_share_the_repository(small: Bench) -> None:
    small.backup(small.job("mine"), on_progress=at("comparing", lambda: small.backup(small.job("also mine"))))
    assert len(small.engine.snapshots(small.repository)) == 2
    assert [path.name for path in small.location.iterdir() if path.name.startswith(".")] == []


def test_stored_file_that_cannot_be_read_back_is_not_taken_as_proven(small: Bench) -> None:
    """rclone prints an empty hash then, and exits with 0."""
    wrapped(small, 'if [[ "$*" == *SHA256* ]]; then "$real" "$@" | sed "s/^[0-9a-f]*//"; exit 0; fi')
    with pytest.raises(EngineError, match="cannot be read back") as caught:
        small.backup()
    assert caught.value.failure.error_type == "io_error"
    assert small.engine.snapshots(small.repository) == []


def as_a_user_like_any_other(bench: Bench, run_id: str) -> dict[str, object]:
    scratch = bench.folder / f"scratch-{run_id}"
    scratch.mkdir()
    arguments = [str(HERE / "one_backup.py"), str(bench.source), str(bench.location), run_id, str(scratch)]
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("root can read everything, and setpriv is not installed")
    drop = [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 and setpriv else []
    done = subprocess.run([*drop, sys.executable, *arguments], capture_output=True, env=CHILD_ENVIRONMENT)
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_what_is_listed_and_cannot_be_looked_at_is_unknown_not_deleted(small: Bench) -> None:
    (small.source / "folder" / "sub").mkdir()
    (small.source / "folder" / "sub" / "deep").write_bytes(b"deep")
    as_a_user_like_any_other(small, "20261124T095500-000001")
    (small.source / "folder").chmod(0o400)
    said = as_a_user_like_any_other(small, "20261124T095500-000002")
    (small.source / "folder").chmod(0o700)
    assert (said["files_total"], said["files_deleted"]) == (3, 0)
    small.restore("20261124T095500-000002")
    (small.folder / "restored" / "folder").chmod(0o700)
    assert (small.folder / "restored" / "folder" / "two").read_bytes() == b"two" * 1000
    assert (small.folder / "restored" / "folder" / "sub" / "deep").read_bytes() == b"deep"


def test_one_empty_source_among_several_is_refused(bench: Bench) -> None:
    documents, photos = bench.folder / "documents", bench.folder / "photos"
    for folder in (documents, photos):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    job = bench.job(source=[documents, photos])
    bench.backup(job)
    (photos / "file").unlink()
    with pytest.raises(EngineError, match=f"source {photos} is empty") as caught:
        bench.backup(job)
    assert caught.value.failure.error_type == "source_missing"
    bench.guard = Guard(min_files=0)
    assert bench.backup(bench.job(source=[documents, photos])).files_deleted == 1


@pytest.mark.parametrize("phase", ["reading", "comparing"])
def test_folder_that_became_a_link_leads_nowhere_else(small: Bench, phase: str) -> None:
    secret = small.folder / "secret"
    secret.mkdir()
    (secret / "two").write_bytes(b"SEC" * 1000)
    folder = small.source / "folder"
    (small.source / "a first").write_bytes(b"x")

    def swap() -> None:
        shutil.rmtree(folder)
        folder.symlink_to(secret)

    result = small.backup(on_progress=at(phase, swap))
    small.restore(result.snapshot_id)
    found = [path for path in (small.folder / "restored").rglob("*") if path.is_file() and not path.is_symlink()]
    assert all(b"SEC" not in path.read_bytes() for path in found if "folder" in path.parts[:-1])
    assert not any(b"SEC" in path.read_bytes() for path in small.location.rglob("two"))
    if phase == "comparing":
        assert failed_items(result) == [("folder/two", "source_changed")]


def test_folder_that_became_a_link_while_rclone_copied_is_not_stored(small: Bench) -> None:
    secret = small.folder / "secret"
    secret.mkdir()
    (secret / "two").write_bytes(b"SEC" * 1000)
    folder = small.source / "folder"
    wrapped(small, f'if [ "$1" = copy ] && [ ! -L {folder} ]; then rm -rf {folder}; ln -s {secret} {folder}; fi')
    result = small.backup()
    assert failed_items(result) == [("folder/two", "source_changed")]
    assert list(small.location.rglob("two")) == []


@pytest.mark.parametrize("damage", ["folder", "file", "size"])
def test_content_the_repository_lost_is_stored_again(small: Bench, damage: str) -> None:
    os.link(small.source / "one", small.source / "also one")
    first = small.backup()
    time.sleep(2.1)  # until the times of the files can be trusted
    small.backup()
    run = small.location / "runs" / str(first.snapshot_id)
    if damage == "folder":
        shutil.rmtree(run)
    elif damage == "file":
        (run / "folder" / "two").unlink()
    else:
        (run / "folder" / "two").write_bytes(b"tw")
    result = small.backup()
    assert (result.files_new, result.files_changed, result.files_deleted) == (0, 0, 0)
    assert any("stored again" in note for note in result.notes)
    small.restore(result.snapshot_id)
    assert (small.folder / "restored" / "folder" / "two").read_bytes() == b"two" * 1000
    assert (small.folder / "restored" / "also one").read_bytes() == b"one"
    assert small.backup().notes == ()


def test_time_beyond_what_a_manifest_holds_does_not_fail_the_run(small: Bench) -> None:
    subprocess.run(["touch", "-d", "2300-01-01", small.source / "one"], check=True)
    if (small.source / "one").stat().st_mtime_ns <= 2**63 - 1:
        pytest.skip("this file system cannot hold the year 2300")
    result = small.backup()
    assert (result.files_total, result.item_failures) == (2, ())
    assert result.notes == ("one: its time is kept as the nearest between 1677 and 2262.",)
    small.restore(result.snapshot_id)
    assert (small.folder / "restored" / "one").stat().st_mtime_ns == 2**63 - 1
    assert small.backup().bytes_added == 0


def test_more_extended_attributes_than_a_line_of_csv_usually_holds(bench: Bench) -> None:
    big = Path("/dev/shm") / f"backup-ops-test-{os.getpid()}"
    try:
        big.mkdir()
        (big / "file").write_bytes(b"x")
        for index in range(20):
            os.setxattr(big / "file", f"trusted.a{index}", bytes([index]) * 60_000)
    except OSError:
        shutil.rmtree(big, ignore_errors=True)
        pytest.skip("there is no file system here that takes so many attributes")
    try:
        bench.source = big
        assert bench.backup().item_failures == ()
        (big / "file").write_bytes(b"y")
        result = bench.backup()
        assert (result.files_changed, result.item_failures) == (1, ())
    finally:
        shutil.rmtree(big)


def test_what_a_restore_has_not_put_in_its_place_is_not_stored(small: Bench) -> None:
    assert os.fsencode(STAGING) == RESTORE_STAGING
    left = small.source / f"{STAGING}0123"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    result = small.backup()
    assert result.files_total == 2
    assert any(left.name in note for note in result.notes)


def test_folder_of_the_repository_mounted_below_the_source_is_not_stored(small: Bench) -> None:
    small.backup()
    mounted = small.source / "mounted"
    mounted.mkdir()
    if subprocess.run(["mount", "--bind", small.location / "runs", mounted], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        result = small.backup()
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert result.files_total == 2
    assert result.notes == ("Not stored: mounted, the repository itself.",)


def test_change_through_a_mapping_on_tmpfs_is_seen(bench: Bench) -> None:
    """tmpfs leaves both times of the file as they are then."""
    bench.source = Path("/dev/shm") / f"backup-ops-test-{os.getpid()}-mapped"
    try:
        bench.source.mkdir()
        (bench.source / "file").write_bytes(b"a" * 4096)
    except OSError:
        pytest.skip("there is no /dev/shm here")
    try:
        with (bench.source / "file").open("r+b") as stream, mmap.mmap(stream.fileno(), 4096) as mapped:
            mapped[0] = ord("b")
            time.sleep(2.1)  # until the times of the file can be trusted
            bench.backup()
            bench.backup()
            mapped[0] = ord("c")
            assert bench.backup().files_changed == 1
            assert bench.backup().files_changed == 0
    finally:
        shutil.rmtree(bench.source)
