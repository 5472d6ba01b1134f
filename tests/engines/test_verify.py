"""What a verification finds, and what it says of it."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from bench_of_engines import SCALE, Bench
from servers import KINDS, serving
from trees import RandomTree

from backup_ops.engines.base import Stopped
from backup_ops.engines.rclone.seal import seal, unseal
from backup_ops.errors import EngineError
from backup_ops.job import Limits, Repository, SecretReference
from backup_ops.progress import Progress
from backup_ops.snapshot import VERIFY_LEVELS, Verified, VerifyLevel

FLIPS = 3 * SCALE


def verify(bench: Bench, level: VerifyLevel = "list", **options) -> Verified:
    context = bench.context()
    verified = bench.engine.verify(bench.repository, level=level, context=context, **options)
    assert list(context.scratch.iterdir()) == [], "it left something in its scratch folder"
    return verified


def flip(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def stored_files(bench: Bench) -> list[Path]:
    return sorted(path for path in (bench.location / "runs").rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.parametrize("level", ["list", "sample", "full"])
def test_a_sound_repository_is_sound(bench: Bench, seed: int, level: VerifyLevel) -> None:
    tree = RandomTree(bench.source, seed, files=20)
    bench.backup()
    tree.change(33)
    bench.backup()
    verified = verify(bench, level)
    assert verified.is_sound, verified.damages
    assert (verified.snapshots, verified.snapshots_damaged) == (2, 0)
    stored = [path for path in (bench.location / "runs").rglob("*") if path.is_file()]
    assert verified.files <= len(stored)
    if level == "full":
        assert (verified.files_read, verified.bytes_read) == (verified.files, verified.bytes)
    else:
        assert verified.files_read == (50 if level == "sample" else 0)


@pytest.mark.parametrize("name", ["backup_ops.json", "snapshots/{id}.json", "snapshots/{id}.parquet"])
def test_a_flipped_bit_of_what_describes_a_snapshot_is_found_by_list(small: Bench, seed: int, name: str) -> None:
    chance = random.Random(seed)
    snapshot_id = str(small.backup().snapshot_id)
    small.backup()
    file = small.location / name.format(id=snapshot_id)
    intact = file.read_bytes()
    for _ in range(FLIPS):
        flip(file, chance)
        verified = verify(small)
        assert [damage.path for damage in verified.damages] == [str(file.relative_to(small.location))]
        if "{id}" in name:
            assert verified.damages[0].snapshots == (snapshot_id,)
            assert snapshot_id in verified.damages[0].what
            assert verified.snapshots_damaged == 1
        file.write_bytes(intact)
    assert verify(small).is_sound


def test_a_flipped_bit_of_content_is_found_by_full_and_named(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    RandomTree(bench.source, seed, files=10)
    first = bench.backup()
    second = bench.backup()
    for _ in range(FLIPS):
        file = chance.choice(stored_files(bench))
        intact = file.read_bytes()
        flip(file, chance)
        assert verify(bench).is_sound, "size and name are what they were"
        verified = verify(bench, "full")
        stored = os.fsdecode(file.relative_to(bench.location))
        assert {damage.stored for damage in verified.damages} == {stored}
        for damage in verified.damages:
            assert damage.snapshots == (second.snapshot_id, first.snapshot_id)
            assert damage.what == f"{stored} is not what was stored (sha256 differs)"
        assert verified.snapshots_damaged == 2
        assert verified.damages_total == len(verified.damages)
        file.write_bytes(intact)


def test_of_an_encrypted_repository_the_same_is_found(small: Bench, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage of any file that lies there: by list when it describes a snapshot, by full when it is content."""
    monkeypatch.setenv("PROOF_PASSWORD", "open sesame")
    password = SecretReference("env", "PROOF_PASSWORD")
    small.repository = Repository(name="vault", engine="rclone", url=str(small.location), password=password)
    chance = random.Random(seed)
    first, second = small.backup(), small.backup()
    assert verify(small, "full").is_sound
    known = {f"snapshots/{result.snapshot_id}.{end}" for result in (first, second) for end in ("json", "parquet")}
    seen = set()
    files = [path for path in small.location.rglob("*") if path.is_file()]
    assert len(files) == 7
    for file in files:
        for position in (3, None):  # in the magic word of a file, and anywhere
            intact = file.read_bytes()
            damaged = bytearray(intact)
            damaged[chance.randrange(len(damaged)) if position is None else position] ^= 1 << chance.randrange(8)
            file.write_bytes(damaged)
            listed, read = verify(small), verify(small, "full")
            assert (read.damages_total, listed.damages_total) in ((1, 1), (1, 0))
            damage = read.damages[0]
            seen.add(damage.path)
            if damage.stored is None:
                assert listed.damages == read.damages
                assert damage.path == "backup_ops.json" or damage.snapshots[0] in damage.what
            else:
                assert "cannot be read" in damage.what
                assert damage.snapshots == (second.snapshot_id, first.snapshot_id)
            file.write_bytes(intact)
    assert seen == {"backup_ops.json", "one", "folder/two", *known}


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_remote_it_reads_what_is_there(small: Bench, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(kind, small.folder / "served") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        small.repository = Repository(name="far", engine="rclone", url=server.url)
        result = small.backup()
        for level in VERIFY_LEVELS:
            assert verify(small, level).is_sound
        stored = server.folder / "store" / "vault" / "runs" / str(result.snapshot_id)
        (stored / "one").write_bytes(b"0ne")
        assert verify(small).is_sound
        assert [damage.path for damage in verify(small, "full").damages] == ["one"]
        (stored / "folder" / "two").unlink()
        server.stop()  # it remembers for minutes what was in its folders
        server.start()
        assert [damage.path for damage in verify(small).damages] == ["folder/two"]
        server.stop()
        with pytest.raises(EngineError) as caught:
            verify(small)
        assert caught.value.failure.error_type == "network_error"


def test_content_that_is_gone_or_short_is_found_by_list(small: Bench) -> None:
    first = small.backup()
    (small.source / "third").write_bytes(b"3")
    second = small.backup()
    folder = small.location / "runs" / str(first.snapshot_id)
    (folder / "one").unlink()
    (folder / "folder" / "two").write_bytes(b"two")
    verified = verify(small)
    assert [(damage.path, damage.what) for damage in verified.damages] == [
        ("folder/two", f"runs/{first.snapshot_id}/folder/two holds 3 bytes, and 3000 were stored"),
        ("one", f"runs/{first.snapshot_id}/one is not there"),
    ]
    assert {damage.snapshots for damage in verified.damages} == {(second.snapshot_id, first.snapshot_id)}
    assert verified.damages_total == 2


def test_a_run_folder_that_is_gone_is_a_damage_of_every_file_in_it(small: Bench) -> None:
    first = small.backup()
    os.rename(small.location / "runs" / str(first.snapshot_id), small.folder / "elsewhere")
    assert {damage.path for damage in verify(small).damages} == {"one", "folder/two"}


def test_a_hard_link_and_a_moved_file_are_named_by_each_path_that_needs_the_content(small: Bench) -> None:
    os.link(small.source / "one", small.source / "another")
    first = small.backup()
    (small.source / "one").rename(small.source / "renamed")
    second = small.backup()
    (small.location / "runs" / str(first.snapshot_id) / "another").unlink()
    named = {(damage.path, damage.snapshots) for damage in verify(small).damages}
    both = (second.snapshot_id, first.snapshot_id)
    assert named == {("another", both), ("one", both[1:]), ("renamed", both[:1])}


def test_sample_reads_only_what_it_draws_and_finds_what_it_reads(small: Bench, seed: int) -> None:
    small.backup()
    for file in stored_files(small):
        flip(file, random.Random(seed))
    verified = verify(small, "sample", sample_files=1)
    assert (verified.files_read, verified.damages_total) == (1, 1)


def test_other_jobs_of_the_repository_are_left_out(small: Bench) -> None:
    other = small.folder / "other"
    other.mkdir()
    (other / "theirs").write_bytes(b"theirs")
    result = small.backup(small.job("other", [other]))
    small.backup()
    (small.location / "runs" / str(result.snapshot_id) / "theirs").unlink()
    assert verify(small, job=small.job()).is_sound
    assert verify(small, job=small.job("other")).damages_total == 1
    assert verify(small).damages_total == 1


def test_a_folder_of_a_killed_run_is_told_and_is_no_damage(small: Bench) -> None:
    small.backup()
    (small.location / "runs" / "20261124T080000-abcdef").mkdir()
    verified = verify(small)
    assert verified.is_sound
    assert "20261124T080000-abcdef" in verified.notes[0]


@pytest.mark.parametrize("is_all_gone", [False, True])
def test_a_snapshot_that_is_gone_is_a_damage_when_another_was_made_from_it(small: Bench, is_all_gone: bool) -> None:
    small.backup()
    (small.source / "one").write_bytes(b"other")
    gone = str(small.backup().snapshot_id)
    (small.source / "folder" / "two").write_bytes(b"2")
    newest = str(small.backup().snapshot_id)
    seals = small.location / "snapshots"
    (seals / f"{gone}.json").unlink()
    if is_all_gone:
        (seals / f"{gone}.parquet").unlink()
        shutil.rmtree(small.location / "runs" / gone)
    for job in (None, small.job()):
        verified = verify(small, job=job)
        damage = next(damage for damage in verified.damages if damage.stored is None)
        assert (damage.path, damage.snapshots) == (f"snapshots/{gone}.json", (gone,))
        assert f"snapshot {gone} is gone" in damage.what
        assert newest in damage.what
        assert [damage.path for damage in verified.damages if damage.stored] == ["one"] * is_all_gone
        assert (verified.snapshots, verified.snapshots_damaged) == (3, 1 + is_all_gone)
        assert verified.notes == (), "it is no run that was killed"


def test_a_snapshot_is_gone_too_when_only_content_of_it_is_left(small: Bench) -> None:
    """It was not the one before, and what another holds of it is still there."""
    first = str(small.backup().snapshot_id)
    (small.source / "one").write_bytes(b"other")
    small.backup()
    small.backup()
    for suffix in ("json", "parquet"):
        (small.location / "snapshots" / f"{first}.{suffix}").unlink()
    sealed = min((small.location / "snapshots").glob("*.json"))
    sealed.write_bytes(seal(unseal(sealed.read_bytes()) | {"parent": None}))
    verified = verify(small)
    assert [(damage.path, damage.snapshots) for damage in verified.damages] == [(f"snapshots/{first}.json", (first,))]
    assert "others hold content of it" in verified.damages[0].what


def test_a_manifest_without_a_seal_is_told_and_is_no_damage_because_a_killed_run_leaves_it(small: Bench) -> None:
    small.backup()
    newest = str(small.backup().snapshot_id)
    (small.location / "snapshots" / f"{newest}.json").unlink()
    for job in (None, small.job()):
        verified = verify(small, job=job)
        assert verified.is_sound
        assert [note for note in verified.notes if newest in note and "1 manifest has no seal" in note]


def test_what_a_run_that_goes_on_has_written_is_no_damage(small: Bench) -> None:
    small.backup()
    seen: list[Verified] = []

    def look(progress: Progress) -> None:
        if progress.phase == "sealing":
            seen.append(verify(small, "full"))

    (small.source / "three").write_bytes(b"3")
    small.backup(on_progress=look)
    assert [verified.is_sound for verified in seen] == [True]
    assert "go on" in seen[0].notes[0]


def test_a_repository_that_is_not_there_is_an_error_and_no_damage(small: Bench) -> None:
    small.backup()
    os.rename(small.location, small.folder / "unmounted")
    with pytest.raises(EngineError) as caught:
        verify(small)
    assert caught.value.failure.error_type == "repository_missing"


def test_it_is_cancelled_and_tells_how_far_it_is(bench: Bench) -> None:
    bench.source.mkdir()
    for number in range(40):
        (bench.source / f"file-{number}").write_bytes(os.urandom(100_000))
    bench.backup()
    cancel = threading.Event()
    bench.progress.clear()

    def look(progress: Progress) -> None:
        bench.progress.append(progress)
        if progress.phase == "reading":
            cancel.set()

    context = bench.context(cancel=cancel, on_progress=look, limits=Limits(bandwidth_bytes_s=200_000))
    with pytest.raises(Stopped):
        bench.engine.verify(bench.repository, level="full", context=context)
    assert bench.progress[-1].files_total == 40
    assert bench.progress[-1].bytes_total == 4_000_000
    assert list(context.scratch.iterdir()) == []
