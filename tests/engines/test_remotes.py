"""Repositories on sftp, s3 and webdav, and encrypted ones: the promises of a local disk, and errors of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench_of_engines import CHILD_ENVIRONMENT, SCALE, Bench
from servers import KINDS, Server, obscured, serving
from trees import RandomTree, differences, snapshot_of

from backup_ops.engines.base import Owner
from backup_ops.engines.rclone.seal import seal, unseal
from backup_ops.errors import EngineError
from backup_ops.failure import Failure
from backup_ops.job import Limits, Repository, SecretReference
from backup_ops.progress import Progress

HERE = Path(__file__).parent
PLACES = ("local", "crypt", *KINDS)
VARIABLE, PASSWORD = "VAULT_PASSWORD", 'pässword, with "signs" \\ and spaces '


@dataclass
class Place:
    """`folder` is where the repository's files lie in the end."""

    bench: Bench
    folder: Path
    server: Server | None
    is_encrypted: bool

    def files(self) -> int:
        return sum(path.is_file() for path in self.folder.rglob("*"))


@pytest.fixture
def place(bench: Bench, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A new repository at the place that the test's parameter names."""
    name: str = request.param
    is_encrypted, kind = name.startswith("crypt"), name.removeprefix("crypt").removeprefix(" on ")
    monkeypatch.delenv("RCLONE_CONFIG", raising=False)
    monkeypatch.setenv(VARIABLE, PASSWORD)
    password = SecretReference("env", VARIABLE) if is_encrypted else None
    if kind not in KINDS:
        bench.repository = Repository(name="mirror", engine="rclone", url=str(bench.location), password=password)
        yield Place(bench, bench.location, None, is_encrypted)
        return
    with serving(kind, bench.folder / "served") as server:
        for variable, value in server.variables.items():
            monkeypatch.setenv(variable, value)
        bench.repository = Repository(name="mirror", engine="rclone", url=server.url, password=password)
        yield Place(bench, server.folder / "store" / "vault", server, is_encrypted)


def each(*places: str, at_length: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """`at_length`: in `make soak` only, for each costs seconds."""
    return pytest.mark.parametrize("place", places + (at_length if SCALE > 1 else ()), indirect=True)


def kill_a_run(place: Place, run_id: str) -> None:
    """The whole backup by -9, while it copies."""
    bench = place.bench
    scratch = bench.folder / f"scratch-{run_id}"
    scratch.mkdir()
    files = place.files()
    variable = [VARIABLE] if place.is_encrypted else []
    runner = subprocess.Popen(
        [
            sys.executable,
            HERE / "one_backup.py",
            bench.source,
            bench.repository.url,
            run_id,
            scratch,
            "300000",
            *variable,
        ],
        stdout=subprocess.DEVNULL,
        env=CHILD_ENVIRONMENT | dict(os.environ),
    )
    end = time.monotonic() + 60
    while place.files() <= files:
        time.sleep(0.05)
        assert runner.poll() is None, "it was over before it could be killed"
        assert time.monotonic() < end
    runner.kill()
    runner.wait()


@each(*PLACES, at_length=("crypt on sftp",))
def test_five_points_in_time_come_back_identical_with_a_killed_run_between(place: Place, seed: int) -> None:
    bench = place.bench
    tree = RandomTree(bench.source, seed, files=20 * SCALE)
    expected, results = [], []
    for number in range(5):
        if number == 2:
            big = bench.source / "big while killed"
            big.write_bytes(os.urandom(3_000_000))
            kill_a_run(place, "20261124T095500-dddddd")
            big.unlink()
        expected.append(snapshot_of(bench.source))
        results.append(bench.backup())
        tree.change(22 * SCALE)
    assert len(bench.engine.snapshots(bench.repository)) == 5
    assert not bench.engine.is_committed(bench.repository, "20261124T095500-dddddd")
    for number, (wanted, result) in enumerate(zip(expected, results, strict=True)):
        assert result.item_failures == ()
        restored = bench.restore(result.snapshot_id, f"restored-{number}")
        assert restored.notes == ()
        assert differences(wanted, snapshot_of(bench.folder / f"restored-{number}")) == []
    assert results[1].bytes_added < results[1].bytes_total, "only what is new should be stored again"


@each("s3", "crypt on sftp", at_length=("sftp", "webdav"))
def test_what_was_not_touched_for_a_while_is_not_read_back_from_a_remote(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup_ops.engines.rclone.backup.FRESH_NS", 1)
    bench = place.bench
    bench.source.mkdir()
    for number in range(3):
        (bench.source / f"file {number}").write_bytes(os.urandom(100_000))
    read = []
    monkeypatch.setattr(
        "backup_ops.engines.rclone.transfer._Sending._readable",
        lambda _, digest, path: read.append(path) or digest.decode(),
    )
    result = bench.backup()
    assert read == []
    bench.restore(result.snapshot_id)
    for number in range(3):
        name = f"file {number}"
        assert (bench.folder / "restored" / name).read_bytes() == (bench.source / name).read_bytes()


def a_failure(bench: Bench, **overrides: object) -> Failure:
    with pytest.raises(EngineError) as caught:
        bench.engine.backup(bench.job(), bench.repository, bench.context(**overrides))
    assert caught.value.failure.remedy
    return caught.value.failure


def with_one_file(place: Place) -> Bench:
    place.bench.source.mkdir()
    (place.bench.source / "one").write_bytes(b"one")
    return place.bench


def with_password(bench: Bench, password: SecretReference | None) -> None:
    bench.repository = Repository(name="mirror", engine="rclone", url=bench.repository.url, password=password)


@each("crypt", "crypt on sftp")
def test_wrong_or_missing_password_is_known_before_anything_is_read_or_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = with_one_file(place)
    first = bench.backup()
    before = snapshot_of(place.folder)
    monkeypatch.setenv(VARIABLE, PASSWORD.strip())
    for attempt in (
        lambda: bench.engine.backup(bench.job(), bench.repository, bench.context()),
        lambda: bench.engine.snapshots(bench.repository),
        lambda: bench.restore(first.snapshot_id),
    ):
        with pytest.raises(EngineError) as caught:
            attempt()
        assert caught.value.failure.error_type == "wrong_password"
        assert f"env {VARIABLE}" in caught.value.failure.message
    monkeypatch.delenv(VARIABLE)
    failure = a_failure(bench)
    assert failure.error_type == "password_missing"
    assert VARIABLE in failure.message
    with_password(bench, None)
    failure = a_failure(bench)
    assert failure.error_type == "password_missing"
    assert "is encrypted" in failure.message
    assert differences(before, snapshot_of(place.folder)) == []
    assert not (bench.folder / "restored").exists()


@each("crypt")
def test_missing_password_is_known_before_a_new_repository_is_made(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = with_one_file(place)
    monkeypatch.delenv(VARIABLE)
    assert a_failure(bench).error_type == "password_missing"
    assert not place.folder.exists()


@each("crypt", "crypt on sftp")
def test_nothing_of_an_encrypted_repository_tells_names_or_content(place: Place) -> None:
    bench = with_one_file(place)
    (bench.source / "one").write_bytes(b"the content that nobody should see " * 100)
    (bench.source / ("a very long name " * 15)).write_bytes(b"x")
    result = bench.backup()
    assert result.item_failures == ()
    marker = unseal((place.folder / "backup_ops.json").read_bytes())
    assert marker["format"] == 2, "a version that cannot encrypt has to refuse it"
    assert sorted(os.listdir(place.folder)) == ["backup_ops.json", "encrypted"]
    for path in (place.folder / "encrypted").rglob("*"):
        assert not {"one", "runs", "snapshots", result.snapshot_id} & {path.name, path.stem}
        if path.is_file():
            assert b"nobody should see" not in path.read_bytes()
    everything = b"\n".join(bench.log) + json.dumps(marker).encode()
    assert PASSWORD.encode() not in everything
    bench.restore(result.snapshot_id)
    assert (bench.folder / "restored" / "one").read_bytes() == (bench.source / "one").read_bytes()


def test_same_password_makes_another_key_in_each_repository(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)
    bench.source.mkdir()
    (bench.source / "one").write_bytes(b"one")
    markers = []
    for name in ("a", "b"):
        url = str(bench.folder / name)
        bench.repository = Repository(
            name="mirror", engine="rclone", url=url, password=SecretReference("env", VARIABLE)
        )
        bench.backup()
        markers.append(unseal((bench.folder / name / "backup_ops.json").read_bytes())["encryption"])
    assert markers[0]["key_check"] != markers[1]["key_check"]
    # The salt of one with the check of the other is another key.
    forged = bench.folder / "b" / "backup_ops.json"
    forged.write_bytes(seal(unseal(forged.read_bytes()) | {"encryption": markers[0] | {"salt": markers[1]["salt"]}}))
    assert a_failure(bench).error_type == "wrong_password"


@each("crypt")
def test_bit_flipped_in_encrypted_content_is_named_and_nothing_wrong_is_restored(place: Place) -> None:
    bench = with_one_file(place)
    (bench.source / "big").write_bytes(os.urandom(500_000))
    result = bench.backup()
    largest = max(place.folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(largest.read_bytes())
    data[300_000] ^= 1
    largest.write_bytes(data)
    with pytest.raises(EngineError) as caught:
        bench.restore(result.snapshot_id)
    assert caught.value.failure.error_type == "repository_corrupt"
    assert "big" in caught.value.failure.message
    assert not (bench.folder / "restored" / "big").exists()
    assert (bench.folder / "restored" / "one").read_bytes() == b"one"


@each(*KINDS)
def test_each_thing_that_goes_wrong_with_a_remote_has_its_sentence(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, server = with_one_file(place), place.server
    assert server is not None
    url = bench.repository.url
    bench.repository = Repository(name="mirror", engine="rclone", url=url.replace("store", "nowhere"))
    failure = a_failure(bench)
    assert (failure.error_type, "nowhere does not exist" in failure.message) == ("repository_missing", True)
    assert not (server.folder / "nowhere").exists(), "a wrong bucket is not made"
    bench.repository = Repository(name="mirror", engine="rclone", url=url)
    (server.folder / "store" / "vault").mkdir()
    (server.folder / "store" / "vault" / "thesis.txt").write_bytes(b"x")
    failure = a_failure(bench)
    assert (failure.error_type, "not empty" in failure.message) == ("config_invalid", True)
    shutil.rmtree(server.folder / "store" / "vault")

    server.stop()
    server.start()
    first = bench.backup()
    failure = a_failure(bench, owner=Owner(host="another"))
    assert (failure.error_type, "belongs to" in failure.message) == ("config_invalid", True)
    with_password(bench, SecretReference("env", VARIABLE))
    failure = a_failure(bench)
    assert (failure.error_type, "is not encrypted" in failure.message) == ("config_invalid", True)
    with_password(bench, None)

    with monkeypatch.context() as wrong:
        name = f"RCLONE_CONFIG_{server.kind.upper()}TEST_"
        wrong.setenv(f"{name}PASS", obscured("wrong"))
        wrong.setenv(f"{name}SECRET_ACCESS_KEY", "wrong-key-of-many-letters")
        failure = a_failure(bench)
        assert (failure.error_type, "refuses this user" in failure.message) == ("auth_failed", True)
    server.stop()
    failure = a_failure(bench)
    assert (failure.error_type, "cannot be reached" in failure.message) == ("network_error", True)
    assert failure.transient
    assert url in failure.message

    shutil.move(server.folder / "store" / "vault", bench.folder / "away")
    server.start()
    failure = a_failure(bench, known_before=True)
    assert (failure.error_type, "not created again" in failure.message) == ("repository_missing", True)
    assert not bench.engine.is_committed(bench.repository, str(first.snapshot_id))


@each(*KINDS)
def test_a_marker_with_nothing_in_it_is_damaged_and_not_missing(place: Place) -> None:
    bench = with_one_file(place)
    result = bench.backup()
    marker = place.folder / "backup_ops.json"
    marker.write_bytes(b"")
    failure = a_failure(bench)
    assert (failure.error_type, "backup_ops.json is damaged" in failure.message) == ("repository_corrupt", True)
    with pytest.raises(EngineError, match="is damaged"):
        bench.engine.is_committed(bench.repository, str(result.snapshot_id))
    verified = bench.engine.verify(bench.repository, context=bench.context())
    assert [damage.path for damage in verified.damages] == ["backup_ops.json"]
    assert place.server is not None
    marker.unlink()
    place.server.stop()  # it remembers for minutes what was in its folders
    place.server.start()
    assert a_failure(bench, known_before=True).error_type == "repository_missing"
    assert not bench.engine.is_committed(bench.repository, str(result.snapshot_id))


@each("sftp", at_length=("s3", "webdav", "crypt on sftp"))
def test_remote_that_goes_away_while_it_is_written_to_or_read_from(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup_ops.engines.rclone.copying._PROBE_AT_MOST_EVERY_S", 1.0)
    bench, server = with_one_file(place), place.server
    assert server is not None
    first = bench.backup()
    for number in range(10):  # rclone reads ahead of what it counts, so one big file could be read by then
        (bench.source / f"big {number}").write_bytes(os.urandom(300_000))
    bench.limits = Limits(bandwidth_bytes_s=600_000)

    def stop(progress: Progress) -> None:
        if progress.phase in ("copying", "restoring") and progress.bytes_done:
            server.stop()

    failure = a_failure(bench, on_progress=stop)
    assert (failure.error_type, "cannot be reached" in failure.message) == ("network_error", True)
    server.start()
    assert [found.snapshot_id for found in bench.engine.snapshots(bench.repository)] == [first.snapshot_id]
    bench.limits = Limits()
    second = bench.backup()
    assert second.item_failures == ()
    context = bench.context(on_progress=stop, limits=Limits(bandwidth_bytes_s=600_000))
    with pytest.raises(EngineError) as caught:
        bench.engine.restore(bench.repository, str(second.snapshot_id), bench.folder / "cut short", context=context)
    assert caught.value.failure.error_type == "network_error", "no file is damaged because a host is down"
    server.start()
    bench.restore(second.snapshot_id, "cut short", overwrite=True)
    for name in os.listdir(bench.source):
        assert (bench.folder / "cut short" / name).read_bytes() == (bench.source / name).read_bytes()


@each("s3", "crypt on sftp", at_length=("sftp", "webdav"))
def test_full_remote_fails_the_run_and_gives_the_room_back(place: Place) -> None:
    bench, server = with_one_file(place), place.server
    assert server is not None
    disk = server.folder / "store"
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk]).returncode:
        pytest.skip("needs the right to mount")
    try:
        server.stop()
        server.start()
        first = bench.backup()
        for number in range(5):
            (bench.source / f"big {number}").write_bytes(os.urandom(600_000))
        failure = a_failure(bench)
        if server.kind == "sftp":
            assert failure.error_type == "disk_full"
            assert "is full" in failure.message
        else:  # rclone's servers for these do not say why, and whether they are full is for whoever runs them to see
            assert failure.error_type == "server_error"
            assert "full" in failure.remedy
        assert bench.repository.url in failure.message
        assert [found.snapshot_id for found in bench.engine.snapshots(bench.repository)] == [first.snapshot_id]
        for number in range(5):
            (bench.source / f"big {number}").unlink()
        assert bench.backup().item_failures == ()
    finally:
        server.stop()
        subprocess.run(["umount", disk], check=True)


@each("sftp")
def test_runs_that_found_a_repository_at_once_agree_on_one(place: Place) -> None:
    """Two homes of one host cannot both own it: one gets its snapshot, the other a sentence, and no two markers mix."""
    bench = with_one_file(place)
    children = []
    for number in range(3):
        scratch = bench.folder / f"scratch-founder-{number}"
        scratch.mkdir()
        children.append(
            subprocess.Popen(
                [sys.executable, HERE / "one_backup.py", bench.source, bench.repository.url, f"run-{number}", scratch],
                stdout=subprocess.PIPE,
                env=CHILD_ENVIRONMENT | dict(os.environ),
            )
        )
    said = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    assert [answer.get("snapshot_id") for answer in said] == ["run-0", "run-1", "run-2"], said
    assert len(bench.engine.snapshots(bench.repository)) == 3, "all seals are of one repository"
    assert sorted(os.listdir(place.folder)) == ["backup_ops.json", "runs", "snapshots"]


@each("sftp")
def test_only_what_the_remote_needs_goes_to_rclone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = with_one_file(place)
    monkeypatch.setenv("RCLONE_CONFIG_OTHER_TYPE", "sftp")
    monkeypatch.setenv("RCLONE_CONFIG_OTHER_PASS", "secret of another job")
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    seen: list[str] = []

    def about(pid: int, name: str) -> str:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode()

    def look(pid: int | None) -> None:
        if pid is not None:
            with contextlib.suppress(OSError):  # it is over
                while "rclone" not in (arguments := (about(pid, "cmdline")).partition("\0")[0]) and arguments:
                    time.sleep(0.001)  # until setpriv and nice have become it
                seen.extend((about(pid, "environ"), about(pid, "cmdline")))

    result = bench.backup(on_tool=look)
    environments, arguments = " ".join(seen[::2]), " ".join(seen[1::2])
    assert "RCLONE_CONFIG_SFTPTEST_HOST" in environments
    assert "another job" not in environments
    assert "RCLONE_DRY_RUN" not in environments
    secret = os.environ["RCLONE_CONFIG_SFTPTEST_PASS"]
    assert secret not in arguments
    assert secret.encode() not in b"\n".join(bench.log)
    assert bench.engine.is_committed(bench.repository, str(result.snapshot_id))
