"""A flipped bit is found before anything is believed, wherever it is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from bench_of_engines import SCALE, Bench
from hypothesis import given
from hypothesis import strategies as st

from backup_ops.engines.rclone.seal import Damaged, seal, unseal
from backup_ops.errors import EngineError
from backup_ops.failure import Failure
from backup_ops.job import Repository, SecretReference


def flip(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def failure_of_restore(bench: Bench, snapshot_id: str | None, name: str = "restored") -> Failure:
    with pytest.raises(EngineError) as caught:
        bench.restore(snapshot_id, name)
    return caught.value.failure


@given(st.integers(min_value=0), st.integers(0, 7))
def test_every_flipped_bit_of_a_seal_is_found(position: int, bit: int) -> None:
    data = bytearray(seal({"job": "photos", "files": 3, "text": '\u00e9 \\ "', "list": [1, 2.5, None, True]}))
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(Damaged):
        unseal(bytes(data))


def test_seal_is_found_intact() -> None:
    content = {"b": [1], "a": "é"}
    assert unseal(seal(content)) == content


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]\n", b"null", b"\xff", seal({"a": 1})[:-1], seal({"a": 1}) + b" "])
def test_what_is_no_seal_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        unseal(data)


def test_damaged_seal_or_manifest_names_the_snapshot_and_restores_nothing(small: Bench, seed: int) -> None:
    chance = random.Random(seed)
    result = small.backup()
    for suffix in ("parquet", "json"):
        file = small.location / "snapshots" / f"{result.snapshot_id}.{suffix}"
        intact = file.read_bytes()
        for number in range(3 * SCALE):
            flip(file, chance)
            failure = failure_of_restore(small, result.snapshot_id, f"restored-{suffix}-{number}")
            assert failure.error_type == "repository_corrupt"
            assert str(result.snapshot_id) in failure.message
            assert not (small.folder / f"restored-{suffix}-{number}").exists()
            file.write_bytes(intact)
    (small.location / "snapshots" / f"{result.snapshot_id}.parquet").unlink()
    assert failure_of_restore(small, result.snapshot_id).error_type == "repository_corrupt"


def test_damaged_seal_is_told_and_the_others_stay_usable(small: Bench, seed: int) -> None:
    first, second = small.backup(), small.backup()
    flip(small.location / "snapshots" / f"{second.snapshot_id}.json", random.Random(seed))
    with pytest.raises(EngineError, match=str(second.snapshot_id)):
        small.engine.snapshots(small.repository)
    told: list[Failure] = []
    found = small.engine.snapshots(small.repository, on_damage=told.append)
    assert [snapshot.snapshot_id for snapshot in found] == [first.snapshot_id]
    assert len(told) == 1
    small.restore(first.snapshot_id)
    with pytest.raises(EngineError):
        small.engine.is_committed(small.repository, str(second.snapshot_id))


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_backup_does_not_build_on_a_damaged_snapshot_and_says_so(small: Bench, seed: int, suffix: str) -> None:
    small.backup()
    (small.source / "one").write_bytes(b"changed")
    second = small.backup()
    flip(small.location / "snapshots" / f"{second.snapshot_id}.{suffix}", random.Random(seed))
    third = small.backup()
    assert [item.failure.error_type for item in third.item_failures] == ["repository_corrupt"]
    assert str(second.snapshot_id) in third.item_failures[0].path
    assert third.files_changed == 1, "compared with the first"
    small.restore(third.snapshot_id)
    assert (small.folder / "restored" / "one").read_bytes() == b"changed"


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_seal_or_manifest_cut_short_is_its_own_damage_and_no_other_snapshots(
    small: Bench, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    """As a power cut leaves it. Of what is encrypted rclone has other words for nothing and for half a block."""
    monkeypatch.setenv("CUT_PASSWORD", "open sesame")
    password = SecretReference("env", "CUT_PASSWORD") if is_encrypted else None
    small.repository = Repository(name="vault", engine="rclone", url=str(small.location), password=password)
    first = small.backup()
    before = set(small.location.rglob("*"))
    second = small.backup()
    added = [path for path in small.location.rglob("*") if path.is_file() and path not in before]
    sealed, manifest = sorted(added, key=lambda path: path.stat().st_size)
    whole = manifest.read_bytes()
    manifest.write_bytes(b"")
    failure = failure_of_restore(small, second.snapshot_id)
    assert failure.error_type == "repository_corrupt"
    assert f"snapshots/{second.snapshot_id}.parquet" in failure.message
    manifest.write_bytes(whole)
    whole = sealed.read_bytes()
    for size in (40, 0):
        sealed.write_bytes(whole[:size])
        told: list[Failure] = []
        found = small.engine.snapshots(small.repository, on_damage=told.append)
        assert [snapshot.snapshot_id for snapshot in found] == [first.snapshot_id]
        assert [failure.error_type for failure in told] == ["repository_corrupt"]
    verified = small.engine.verify(small.repository, level="list", context=small.context())
    assert [damage.path for damage in verified.damages] == [f"snapshots/{second.snapshot_id}.json"]
    small.restore(first.snapshot_id)
    third = small.backup()
    assert [item.path for item in third.item_failures] == [f"snapshots/{second.snapshot_id}.json"]


def test_seal_of_another_snapshot_or_repository_is_not_taken(small: Bench) -> None:
    first, second = small.backup(), small.backup()
    seals = small.location / "snapshots"
    (seals / f"{second.snapshot_id}.json").write_bytes((seals / f"{first.snapshot_id}.json").read_bytes())
    assert failure_of_restore(small, second.snapshot_id).error_type == "repository_corrupt"


def test_damaged_content_is_not_restored_and_everything_else_is(small: Bench, seed: int) -> None:
    result = small.backup()
    flip(small.location / "runs" / str(result.snapshot_id) / "folder" / "two", random.Random(seed))
    failure = failure_of_restore(small, result.snapshot_id)
    assert failure.error_type == "repository_corrupt"
    assert "1 of 2 files" in failure.message
    assert "folder/two" in failure.message
    assert (small.folder / "restored" / "one").read_bytes() == b"one"
    assert not (small.folder / "restored" / "folder" / "two").exists()


def test_content_that_is_gone_is_said_by_name(small: Bench) -> None:
    result = small.backup()
    (small.location / "runs" / str(result.snapshot_id) / "one").unlink()
    failure = failure_of_restore(small, result.snapshot_id)
    assert failure.error_type == "repository_corrupt"
    assert "one" in failure.message
    assert (small.folder / "restored" / "folder" / "two").exists()
