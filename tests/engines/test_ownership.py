"""One owner per repository: how another takes it over, and what an owner tidies up."""

from __future__ import annotations

import pytest
from bench_of_engines import Bench

from backup_ops.engines.base import Owner
from backup_ops.errors import EngineError
from backup_ops.job import Repository, SecretReference
from backup_ops.progress import Progress

MINE, THEIRS = Owner(host="here", home_id="mine"), Owner(host="there", home_id="theirs")


def error_of(caught: pytest.ExceptionInfo[EngineError]) -> str:
    return caught.value.failure.error_type


def test_who_takes_over_may_write_and_the_one_before_may_only_read(small: Bench) -> None:
    first = small.backup(owner=MINE)
    with pytest.raises(EngineError, match="belongs to host here"):
        small.backup(owner=THEIRS)
    assert small.engine.take_over(small.repository, small.context(owner=THEIRS)) == MINE
    second = small.backup(owner=THEIRS)
    with pytest.raises(EngineError, match=r"belongs to host there.*--take-over"):
        small.backup(owner=MINE)
    listed = [snapshot.snapshot_id for snapshot in small.engine.snapshots(small.repository)]
    assert listed == [second.snapshot_id, first.snapshot_id]
    assert small.engine.verify(small.repository, level="full", context=small.context(owner=MINE)).is_sound


def test_what_is_ones_own_is_not_taken_over_again(small: Bench) -> None:
    small.backup(owner=MINE)
    marker = small.location / "backup_ops.json"
    before = marker.read_bytes(), marker.stat().st_mtime_ns
    assert small.engine.take_over(small.repository, small.context(owner=MINE)) is None
    assert (marker.read_bytes(), marker.stat().st_mtime_ns) == before


def test_what_is_not_there_cannot_be_taken_over(small: Bench) -> None:
    with pytest.raises(EngineError) as caught:
        small.engine.take_over(small.repository, small.context(owner=THEIRS))
    assert error_of(caught) == "repository_missing"
    assert not small.location.exists()


def test_who_cannot_open_it_does_not_take_it_over(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_password(value: str) -> None:
        monkeypatch.setenv("OWNED_PASSWORD", value)

    small.repository = Repository(
        name="v", engine="rclone", url=str(small.location), password=SecretReference("env", "OWNED_PASSWORD")
    )
    with_password("right")
    small.backup(owner=MINE)
    before = (small.location / "backup_ops.json").read_bytes()
    with_password("wrong")
    with pytest.raises(EngineError) as caught:
        small.engine.take_over(small.repository, small.context(owner=THEIRS))
    assert error_of(caught) == "wrong_password"
    assert (small.location / "backup_ops.json").read_bytes() == before
    with_password("right")
    assert small.engine.take_over(small.repository, small.context(owner=THEIRS)) == MINE
    small.backup(owner=THEIRS)


def test_a_run_that_goes_on_while_another_takes_over_commits_nothing(small: Bench) -> None:
    first = small.backup(owner=MINE)

    def look(progress: Progress) -> None:
        if progress.phase == "sealing":
            small.engine.take_over(small.repository, small.context(owner=THEIRS))

    (small.source / "three").write_bytes(b"3")
    with pytest.raises(EngineError, match="belongs to host there"):
        small.backup(owner=MINE, on_progress=look)
    assert [path.name for path in (small.location / "runs").iterdir()] == [first.snapshot_id]
    assert len(small.engine.snapshots(small.repository)) == 1


def test_only_what_was_never_committed_is_discarded(small: Bench) -> None:
    done = small.backup(owner=MINE)
    runs = small.location / "runs"
    for name in ("20261124T080000-aaaaaa", "20261124T080000-bbbbbb"):
        (runs / name).mkdir()
        (runs / name / "half").write_bytes(b"half")
    snapshots = small.location / "snapshots"
    before = sorted(path.name for path in snapshots.iterdir())
    (snapshots / "20261124T080000-aaaaaa.parquet").write_bytes(b"no seal")
    (snapshots / "20261124T080000-dddddd.parquet.0f1e2d3c.partial").write_bytes(b"half, and no content")
    (snapshots / "20261124T080000-eeeeee.parquet").write_bytes(b"of somebody else")
    left = ["20261124T080000-aaaaaa", "20261124T080000-dddddd"]
    asked = [str(done.snapshot_id), *left, "20261124T080000-cccccc", "../runs"]
    with pytest.raises(EngineError, match="belongs to host here"):
        small.engine.discard(small.repository, asked, small.context(owner=THEIRS))
    assert small.engine.discard(small.repository, asked, small.context(owner=MINE)) == left
    assert {path.name for path in runs.iterdir()} == {str(done.snapshot_id), "20261124T080000-bbbbbb"}
    (snapshots / "20261124T080000-eeeeee.parquet").unlink()
    assert sorted(path.name for path in snapshots.iterdir()) == before
