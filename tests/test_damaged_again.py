"""What a verification proved damaged is stored again by the next run, and trusted again when it is mended."""

from __future__ import annotations

import json
import stat

import pytest

from backup_ops.home import Home
from backup_ops.repositories import committed, damaged, note_damaged, remember, repository_key
from tests.conftest import Place


def spoil(place: Place, snapshot_id: str, name: str) -> bytes:
    """Other content of the same size: what only reading finds."""
    path = place.repository / "runs" / snapshot_id / name
    before = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes(reversed(before)))
    return before


def noted(place: Place) -> dict[str, list[str]]:
    [path] = (place.home / "repositories").glob("*.damaged")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return json.loads(path.read_bytes())


def test_content_proven_damaged_is_stored_again(ops, place, tmp_path) -> None:
    first = ops.run("photos").snapshot_id
    spoil(place, first, "file-1.bin")
    unknown = ops.run("photos")
    assert unknown.bytes_added == 0  # nobody has read it
    assert ops.verify("photos", level="full").damages_total == 1
    assert noted(place) == {"photos": [f"runs/{first}/file-1.bin"]}
    assert "Run the job again" in ops.errors().remedy[0]

    assert ops.preview("photos").bytes_added == 1000
    mended = ops.run("photos")
    assert (mended.outcome, mended.bytes_added) == ("succeeded", 1000)
    assert (place.repository / "runs" / mended.run_id / "file-1.bin").is_file()
    restored = ops.restore("photos", target=tmp_path / "restored")
    assert restored.files == 5
    assert (tmp_path / "restored" / "file-1.bin").read_bytes() == (place.source / "file-1.bin").read_bytes()
    # The older snapshots stay damaged, and the newest is not touched again.
    [damage] = ops.verify("photos", level="full").damages
    assert damage.snapshots == (unknown.run_id, first)
    assert ops.run("photos").bytes_added == 0


def test_a_file_that_was_put_back_is_trusted_again(ops, place) -> None:
    first = ops.run("photos").snapshot_id
    content = spoil(place, first, "file-1.bin")
    assert not ops.verify("photos", level="full").is_sound
    (place.repository / "runs" / first / "file-1.bin").write_bytes(content)
    assert ops.verify("photos", level="list").is_sound
    assert noted(place) == {"photos": [f"runs/{first}/file-1.bin"]}  # nobody has read it since
    assert ops.verify("photos", level="full").is_sound
    assert noted(place) == {}
    assert ops.run("photos").bytes_added == 0


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"photos": 1}'])
def test_a_damaged_note_is_in_nobodys_way(place, content) -> None:
    home = Home(place.home)
    home.make()
    (home.repositories / f"{repository_key('/mnt/a')}.damaged").write_text(content)
    assert damaged(home, "/mnt/a", "photos") == frozenset()
    note_damaged(home, "/mnt/a/", "photos", ["runs/1/b", "runs/1/a"], is_all=False)
    note_damaged(home, "/mnt/a", "photos", ["runs/2/a"], is_all=False)
    note_damaged(home, "/mnt/a", "mail", ["runs/3/a"], is_all=True)
    assert damaged(home, "/mnt/a", "photos") == {"runs/1/a", "runs/1/b", "runs/2/a"}
    note_damaged(home, "/mnt/a", "photos", ["runs/2/a"], is_all=True)
    assert (damaged(home, "/mnt/a", "photos"), damaged(home, "/mnt/a", "mail")) == ({"runs/2/a"}, {"runs/3/a"})
    assert damaged(home, "/mnt/b", "photos") == frozenset()


def test_what_is_committed_is_remembered_by_its_place(place) -> None:
    home = Home(place.home)
    home.make()
    assert committed(home, "/mnt/a", "photos") == set()
    remember(home, "/mnt/a", "one", "photos")
    remember(home, "/mnt/a/", "two", "photos")
    remember(home, "/mnt/b", "three", "photos")
    assert (committed(home, "/mnt/a", "photos"), committed(home, "/mnt/b", "photos")) == ({"one", "two"}, {"three"})
    (home.repositories / f"{repository_key('/mnt/a')}.json").unlink()  # as who begins anew there does
    remember(home, "/mnt/a", "four", "photos")
    assert committed(home, "/mnt/a", "photos") == {"four"}


@pytest.fixture
def guarded(ops, place):
    """A job whose guard compares with the snapshot before, which it has."""
    place.fill(10)
    place.write_jobs(f"kept: {{source: {place.source}, repository: mirror, guard: {{max_delete_percent: 20}}}}\n")
    return ops.run("kept")


def test_a_guard_that_has_nothing_to_compare_with_any_more_stops_the_run(ops, place, guarded):
    (place.repository / "snapshots" / f"{guarded.run_id}.json").unlink()
    for path in sorted(place.source.iterdir())[1:]:
        path.unlink()
    run = ops.run("kept")
    assert (run.outcome, run.errors[0].error_type) == ("failed", "repository_corrupt")
    assert "no sound snapshot of job 'kept', and 1 were made there" in run.reason
    assert "backup-ops verify kept" in run.errors[0].remedy
    assert ops.run("photos").outcome == "succeeded", "it has no such guard"
    assert ops.run("kept", force=True).outcome == "succeeded"
    assert ops.run("kept").outcome == "succeeded"


def test_a_damaged_manifest_before_is_no_file_that_was_left_out(ops, place, guarded):
    manifest = place.repository / "snapshots" / f"{guarded.run_id}.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    run = ops.run("photos")
    assert (run.outcome, run.reason) == ("succeeded", None)
    run = ops.run("kept", force=True)
    assert (run.outcome, run.reason) == ("warning", "1 snapshot made before cannot be read any more")
