"""Where a repository may be made, and who may write to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import duckdb
import pytest
from bench_of_engines import Bench
from trees import differences, snapshot_of

from backup_ops.engines import engine_for
from backup_ops.engines.base import Owner
from backup_ops.engines.rclone.binary import find_binary
from backup_ops.engines.rclone.seal import seal, unseal
from backup_ops.errors import EngineError, UnknownSnapshot
from backup_ops.failure import Failure
from backup_ops.job import Repository, SecretReference


def refusal(bench: Bench, **overrides: object) -> Failure:
    """What the engine says, having written nothing."""
    before = snapshot_of(bench.folder)
    with pytest.raises(EngineError) as caught:
        bench.engine.backup(bench.job(), bench.repository, bench.context(**overrides))
    after = {path: facts for path, facts in snapshot_of(bench.folder).items() if not path.startswith(b"scratch-")}
    before.pop(b"")
    after.pop(b"")
    assert differences({path: facts for path, facts in before.items() if not path.startswith(b"scratch-")}, after) == []
    assert caught.value.failure.remedy
    return caught.value.failure


def test_first_run_creates_the_last_folder_for_this_user_only(small: Bench) -> None:
    small.backup()
    assert (small.location / "backup_ops.json").exists()
    for path in [small.location, *small.location.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_parent_must_exist(small: Bench) -> None:
    small.repository = Repository(name="mirror", engine="rclone", url=str(small.folder / "no" / "repository"))
    failure = refusal(small)
    assert failure.error_type == "repository_missing"
    assert str(small.folder / "no") in failure.message


def test_empty_folder_is_taken(small: Bench) -> None:
    small.location.mkdir()
    small.backup()


def test_folder_with_foreign_files_is_refused(small: Bench) -> None:
    small.location.mkdir()
    (small.location / "thesis.txt").touch()
    assert refusal(small).error_type == "config_invalid"


@pytest.mark.parametrize("state", ["gone", "empty", "marker gone", "parent gone"])
def test_known_repository_is_never_created_again(small: Bench, state: str) -> None:
    disk = small.folder / "disk"
    disk.mkdir()
    small.location = disk / "repository"
    small.repository = Repository(name="mirror", engine="rclone", url=str(small.location))
    small.backup()
    if state == "marker gone":
        (small.location / "backup_ops.json").unlink()
    else:
        (disk if state == "parent gone" else small.location).rename(small.folder / "away")
        if state == "empty":
            small.location.mkdir()
    failure = refusal(small, known_before=True)
    assert failure.error_type == "repository_missing"
    assert str(small.location) in failure.message


def test_repository_of_another_host_or_home_is_refused(small: Bench) -> None:
    small.backup(owner=Owner(host="nas", home_id="a"))
    for owner in (Owner(host="laptop", home_id="a"), Owner(host="nas", home_id="b")):
        failure = refusal(small, owner=owner)
        assert failure.error_type == "config_invalid"
        assert "belongs to" in failure.message
    assert len(small.engine.snapshots(small.repository)) == 1, "reading is not writing"


def test_repository_url_may_say_local(small: Bench) -> None:
    small.repository = Repository(name="mirror", engine="rclone", url=f":local:{small.location}")
    small.backup()
    assert (small.location / "backup_ops.json").exists()


@pytest.mark.parametrize("url", ["sftp:nas:/vault", "my-nas:x", "nas:photos", ":webdav,pass=abc:x", "::x", "vault"])
def test_remote_that_cannot_be_meant_is_refused(small: Bench, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RCLONE_CONFIG", raising=False)
    small.repository = Repository(name="mirror", engine="rclone", url=url)
    failure = refusal(small)
    assert failure.error_type == "config_invalid"
    assert "abc" not in failure.message + failure.remedy


def test_password_is_never_ignored(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    small.backup()
    monkeypatch.setenv("X", "abc")
    small.repository = Repository(
        name="mirror", engine="rclone", url=str(small.location), password=SecretReference("env", "X")
    )
    assert "is not encrypted" in refusal(small).message


def test_source_inside_the_repository_is_refused(small: Bench) -> None:
    result = small.backup()
    small.source = small.location / "runs" / str(result.snapshot_id)
    assert refusal(small).error_type == "config_invalid"


def test_damaged_marker_stops_everything(small: Bench) -> None:
    small.backup()
    marker = small.location / "backup_ops.json"
    marker.write_bytes(marker.read_bytes().replace(b'"format":1', b'"format":3'))
    failure = refusal(small)
    assert failure.error_type == "repository_corrupt"
    assert "backup_ops.json" in failure.message


def test_newer_format_is_refused_with_a_sentence(small: Bench) -> None:
    small.backup()
    marker = small.location / "backup_ops.json"
    marker.write_bytes(seal(unseal(marker.read_bytes()) | {"format": 3}))
    failure = refusal(small)
    assert failure.error_type == "config_invalid"
    assert "format 3" in failure.message


def test_several_jobs_share_a_repository(small: Bench) -> None:
    other = small.folder / "other"
    other.mkdir()
    (other / "one").write_bytes(b"not the same")
    photos, music = small.job("photos"), small.job("music", [other])
    ids = [small.backup(job).snapshot_id for job in (photos, music, photos, music, photos)]
    assert small.backup(music).bytes_added == 0
    found = small.engine.snapshots(small.repository)
    assert [snapshot.snapshot_id for snapshot in found[1:]] == ids[::-1]
    assert {snapshot.job for snapshot in small.engine.snapshots(small.repository, music)} == {"music"}
    assert len(small.engine.snapshots(small.repository, photos)) == 3
    small.restore(ids[1])
    assert (small.folder / "restored" / "one").read_bytes() == b"not the same"


def test_renamed_job_keeps_its_snapshots(small: Bench) -> None:
    small.backup()
    renamed = small.job("pictures")
    renamed = type(renamed)(
        **{**{name: getattr(renamed, name) for name in renamed.attributes}, "job_uid": "uid-photos"}
    )
    assert small.backup(renamed).bytes_added == 0
    assert len(small.engine.snapshots(small.repository, renamed)) == 2


def test_more_snapshots_than_one_look_fetches(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup_ops.engines.rclone.repository._FIRST_BATCH", 1)
    other = small.folder / "other"
    other.mkdir()
    (other / "x").touch()
    small.backup()
    for _ in range(3):
        small.backup(small.job("music", [other]))
    assert len(small.engine.snapshots(small.repository)) == 4
    assert small.backup().bytes_added == 0, "the job's snapshot before is older than three of another job"


def test_is_committed(small: Bench) -> None:
    result = small.backup()
    assert small.engine.is_committed(small.repository, str(result.snapshot_id))
    assert not small.engine.is_committed(small.repository, "20261124T095599-000000")
    assert not small.engine.is_committed(small.repository, "../backup_ops")
    small.location.rename(small.folder / "away")
    assert not small.engine.is_committed(small.repository, str(result.snapshot_id))


def test_run_that_was_committed_is_not_made_again(small: Bench) -> None:
    first = small.backup(run_id="20261124T095501-aaaaaa")
    (small.source / "one").write_bytes(b"later")
    again = small.backup(run_id="20261124T095501-aaaaaa")
    assert again.snapshot_id == first.snapshot_id
    assert again.files_total == first.files_total
    assert (small.location / "runs" / str(first.snapshot_id) / "one").read_bytes() == b"one"


def test_second_attempt_finds_nothing_of_the_first(small: Bench) -> None:
    leftover = small.location / "runs" / "20261124T095501-aaaaaa"
    small.backup()
    (leftover / "one").mkdir(parents=True)
    (leftover / "one" / "was a folder then").write_bytes(b"x")
    (small.source / "one").write_bytes(b"changed")
    result = small.backup(run_id="20261124T095501-aaaaaa")
    assert result.item_failures == ()
    assert (leftover / "one").read_bytes() == b"changed"


def test_unknown_snapshot_names_the_newest(small: Bench) -> None:
    with pytest.raises(EngineError) as caught:
        small.engine.snapshots(small.repository)
    assert caught.value.failure.error_type == "repository_missing"
    result = small.backup()
    with pytest.raises(UnknownSnapshot, match=str(result.snapshot_id)):
        small.restore("20200101T000000-000000")
    with pytest.raises(UnknownSnapshot):
        list(small.engine.ls(small.repository, "../../etc/passwd"))


def test_seal_is_one_line_that_people_can_read(small: Bench) -> None:
    result = small.backup()
    data = (small.location / "snapshots" / f"{result.snapshot_id}.json").read_bytes()
    assert data.count(b"\n") == 1
    head = json.loads(data)
    assert head["job"] == "photos"
    assert head["files"] == 2
    assert head["is_complete"] is True
    assert head["source"] == [str(small.source)]


def test_user_environment_does_not_change_what_rclone_does(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    monkeypatch.setenv("RCLONE_EXCLUDE", "*")
    result = small.backup()
    assert result.item_failures == ()
    assert (small.location / "runs" / str(result.snapshot_id) / "one").exists()
    assert Path(small.engine.probe().path).name == "rclone"
    assert small.engine.version().startswith("v1.")


def test_a_seal_that_arrived_is_a_commit_although_rclone_says_that_it_failed(small: Bench) -> None:
    """The answer may be what got lost on the way."""
    liar = small.folder / "rclone"
    liar.write_text(
        f'#!/bin/sh\n"{find_binary()}" "$@" || exit\n'
        'case "$*" in "copyto "*.json*snapshots/*) echo "connection reset by peer" >&2; exit 1;; esac\n'
    )
    liar.chmod(0o755)
    result = engine_for("rclone", str(liar)).backup(small.job(), small.repository, small.context())
    assert [found.snapshot_id for found in small.engine.snapshots(small.repository)] == [result.snapshot_id]


def test_a_table_that_is_no_manifest_is_damage_and_no_defect(small: Bench) -> None:
    result = small.backup()
    manifest, seal_file = (small.location / "snapshots" / f"{result.snapshot_id}{end}" for end in (".parquet", ".json"))
    for change in ("* EXCLUDE (stored_run)", "* REPLACE ('device' AS kind)", "* REPLACE (NULL::BLOB AS path)"):
        small.restore(result.snapshot_id, overwrite=True)
        whole, sealed = manifest.read_bytes(), seal_file.read_bytes()
        duckdb.sql(f"COPY (SELECT {change} FROM '{manifest}') TO '{small.folder}/other.parquet'")
        other = (small.folder / "other.parquet").read_bytes()
        manifest.write_bytes(other)
        head = unseal(sealed)
        head["manifest"] = {"bytes": len(other), "sha256": hashlib.sha256(other).hexdigest()}
        seal_file.write_bytes(seal(head))
        with pytest.raises(EngineError) as caught:
            small.restore(result.snapshot_id, f"with {change[:9]}", overwrite=True)
        assert caught.value.failure.error_type == "repository_corrupt"
        assert str(result.snapshot_id) in str(caught.value)
        manifest.write_bytes(whole)
        seal_file.write_bytes(sealed)
