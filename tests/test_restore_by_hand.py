"""A repository is all that is left: the snapshots come back with backup-ops, and by docs/restore-by-hand.md alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from trees import RandomTree, differences, snapshot_of

import backup_ops as bo
from backup_ops.engines.rclone.binary import find_binary
from backup_ops.engines.rclone.manifest import write_manifest
from backup_ops.engines.rclone.node import Node
from backup_ops.engines.rclone.seal import seal, sha256_of
from tests.conftest import Place, processes_of, wait_until

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "restore-by-hand.md").read_text(encoding="utf-8")
FORMAT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
PASSWORD = "corréct horse; $(battery) 'staple\""


@dataclass
class Left:
    """What is left when home and source are gone: a repository, and what each of its snapshots must give back."""

    place: Place
    is_encrypted: bool
    points: dict[str, dict[bytes, tuple[object, ...]]] = field(default_factory=dict)


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def left(request, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp(request.param))
    made = Left(place, request.param == "encrypted")
    seed = int(os.environ.get("BACKUP_OPS_SEED", random.randrange(1 << 32)))
    print(f"BACKUP_OPS_SEED={seed}")
    place.source.rmdir()
    tree = RandomTree(place.source, seed, files=20)
    place.write_jobs(f"slow: {{source: {place.source}, repository: mirror, limits: {{bandwidth: 20K}}}}\n")
    if made.is_encrypted:
        text = (place.home / "jobs.yaml").read_text()
        old = f"url: {place.repository}}}"
        assert old in text
        (place.home / "jobs.yaml").write_text(
            text.replace(old, f"url: {place.repository}, password: {{env: BY_HAND_PASSWORD}}}}")
        )
        os.environ["BY_HAND_PASSWORD"] = PASSWORD
    try:
        with bo.open(place.home) as ops:
            for number in range(5):
                run = ops.run("photos")
                assert run.outcome in ("succeeded", "warning"), run
                made.points[run.snapshot_id] = snapshot_of(place.source)
                if number == 2:
                    kill_a_run(ops, place)
                tree.change(33)
    finally:
        os.environ.pop("BY_HAND_PASSWORD", None)
    shutil.rmtree(place.home)
    shutil.rmtree(place.source)
    return made


def kill_a_run(ops, place):
    """With its tool, while it copies."""
    handle = ops.submit("slow")
    wait_until(lambda: handle.progress is not None or handle.state not in ("queued", "running"), what="progress")
    for process in processes_of(place.home):
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes_of(place.home), what="its end")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def by_hand(left, tmp_path):
    """Runs the commands of the page, in their order, in a folder with `by_hand.py`; knows nothing of backup-ops."""
    tools = tmp_path / "tools"
    work = tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    (tools / "rclone").symlink_to(find_binary())
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "$@"\n')
    (tools / "python").chmod(0o755)
    (work / "by_hand.py").write_text(blocks("python")[0], encoding="utf-8")
    (work / "password").write_text(PASSWORD + "\n")

    def run(snapshot_id: str, *, only_to: int | None = None) -> subprocess.CompletedProcess[str]:
        values = {"REPOSITORY": str(left.place.repository), "SNAPSHOT": snapshot_id}
        commands = [block for block in blocks("sh")[:only_to] if left.is_encrypted or "OPEN_TYPE" not in block]
        script = "\n".join(commands)
        for name, value in values.items():
            script, count = re.subn(rf"^{name}=.*$", f"{name}='{value}'", script, flags=re.MULTILINE)
            assert count == 1 or only_to is not None, name
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "RCLONE_CONFIG": "/dev/null", "HOME": str(tmp_path)}
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=work, env=environment, capture_output=True, text=True
        )

    run.work = work
    return run


def test_every_point_in_time_comes_back_with_backup_ops_alone(left, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BACKUP_OPS_HOME": str(tmp_path / "none"), "LEFT": PASSWORD}
    at = ["--repository", str(left.place.repository)]
    if left.is_encrypted:
        at += ["--password-env", "LEFT"]

    def shell(*words):
        return subprocess.run(
            [sys.executable, "-m", "backup_ops", *words, *at], env=environment, capture_output=True, text=True
        )

    listed = json.loads(shell("snapshots", "--json").stdout)
    assert [row["snapshot_id"] for row in listed] == sorted(left.points, reverse=True)
    for snapshot_id, expected in left.points.items():
        target = tmp_path / snapshot_id
        done = shell("restore", "--target", str(target), snapshot_id)
        assert done.returncode == 0, done.stderr
        assert differences(expected, snapshot_of(target)) == []
    done = shell("verify", "--level", "full")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are for root to give")
def test_every_point_in_time_comes_back_by_the_page_alone(left, by_hand):
    for snapshot_id, expected in left.points.items():
        done = by_hand(snapshot_id)
        assert done.returncode == 0, done.stderr
        assert "DAMAGED" not in done.stdout
        assert snapshot_id in done.stdout, "it is in the list"
        assert differences(expected, snapshot_of(by_hand.work / "restored")) == []
        shutil.rmtree(by_hand.work / "restored")


def test_the_page_finds_what_is_damaged(left, by_hand):
    newest = max(left.points)
    assert by_hand(newest, only_to=3).returncode == 0
    manifest = by_hand.work / "snapshots" / f"{newest}.parquet"
    damaged = bytearray(manifest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    manifest.write_bytes(damaged)
    script = [sys.executable, "-I", "by_hand.py", "files", newest]
    done = subprocess.run(script, cwd=by_hand.work, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"snapshots/{newest}.parquet is damaged\n")
    seal = manifest.with_suffix(".json")
    seal.write_bytes(seal.read_bytes().replace(b"photos", b"photoz"))
    done = subprocess.run(script, cwd=by_hand.work, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"snapshots/{newest}.json is damaged\n")


@dataclass
class Crafted:
    """A folder in which step 3 of the page is to begin, with a manifest that somebody made up."""

    work: Path

    def __post_init__(self) -> None:
        for folder in ("snapshots", "content/r"):
            (self.work / folder).mkdir(parents=True)
        (self.work / "content" / "r" / "one").write_bytes(b"one")
        (self.work / "by_hand.py").write_text(blocks("python")[0], encoding="utf-8")

    def restore(self, *nodes: Node, without: str = "") -> subprocess.CompletedProcess[str]:
        manifest = self.work / "snapshots" / "s.parquet"
        write_manifest(nodes, manifest)
        content = {"manifest": {"sha256": sha256_of(manifest)}}
        manifest.with_suffix(".json").write_bytes(seal(content))
        shutil.rmtree(self.work / "restored", ignore_errors=True)
        before = ["setpriv", f"--bounding-set=-{without}"] if without else []
        return subprocess.run(
            [*before, sys.executable, "-I", "by_hand.py", "restore", "s", "restored"],
            cwd=self.work, capture_output=True, text=True,
        )  # fmt: skip

    def file(self, path: bytes = b"one", mode: int = 0o644, uid: int | None = None, stored: str = "one") -> Node:
        owner = os.geteuid() if uid is None else uid, os.getegid()
        sha256 = hashlib.sha256(b"one").hexdigest()
        return Node(path, "file", 3, 0, mode, *owner, 1, None, sha256=sha256, stored_run="r", stored_path=stored)


def folder(path: bytes) -> Node:
    return Node(path, "folder", 0, 0, 0o755, os.geteuid(), os.getegid(), 2, None)


def link(path: bytes, target: bytes) -> Node:
    return Node(path, "symlink", 0, 0, 0o777, os.geteuid(), os.getegid(), 3, None, link_target=target)


def test_the_page_writes_nothing_outside_of_its_target(tmp_path):
    crafted = Crafted(tmp_path / "work")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs").write_bytes(b"one")
    elsewhere.chmod(0o700)
    there = os.fsencode(elsewhere)
    assert crafted.restore(folder(b""), folder(b"a"), crafted.file(b"a/one")).returncode == 0
    for nodes in (
        [folder(b""), crafted.file(b"../../elsewhere/mine")],
        [folder(b""), crafted.file(there + b"/mine")],
        [crafted.file(b"")],
        [folder(b""), crafted.file(stored="../../../elsewhere/theirs")],
        [folder(b""), link(b"a", there), crafted.file(b"a/mine")],
        [folder(b""), link(b"a", there), folder(b"a")],
        [folder(b""), link(b"a", there + b"/mine"), crafted.file(b"a")],
    ):
        done = crafted.restore(*nodes)
        assert (done.returncode, "leads elsewhere" in done.stderr) == (1, True), (nodes, done.stderr)
        assert os.listdir(elsewhere) == ["theirs"]
        assert (elsewhere / "theirs").read_bytes() == b"one"
        assert elsewhere.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to do without a right of it")
def test_the_page_gives_no_rights_of_an_owner_that_it_cannot_set(tmp_path):
    crafted = Crafted(tmp_path)
    done = crafted.restore(folder(b""), crafted.file(mode=0o6755, uid=4242), without="chown")
    assert (done.returncode, "not all of" in done.stderr) == (0, True)
    assert (tmp_path / "restored" / "one").stat().st_mode & 0o7777 == 0o755
    assert crafted.restore(folder(b""), crafted.file(mode=0o6755, uid=4242)).returncode == 0
    assert (tmp_path / "restored" / "one").stat().st_mode & 0o7777 == 0o6755


@pytest.mark.parametrize("left", ["plain"], indirect=True)  # in the other one it cannot be seen what is content
def test_rclone_alone_notices_damaged_content(left, by_hand):
    newest = max(left.points)
    stored = next(
        path for path in (left.place.repository / "runs").rglob("*") if path.is_file() and path.stat().st_size > 10
    )
    intact = stored.read_bytes()
    stored.write_bytes(bytes([intact[0] ^ 1]) + intact[1:])
    try:
        results = {by_hand(snapshot_id).returncode for snapshot_id in left.points if clean(by_hand.work)}
        assert 1 in results
    finally:
        stored.write_bytes(intact)
    assert clean(by_hand.work) and by_hand(newest).returncode == 0


def clean(work):
    for name in ("restored", "content"):
        shutil.rmtree(work / name, ignore_errors=True)
    return True


def test_every_column_and_key_is_on_the_page_of_the_format(left, by_hand):
    assert by_hand(max(left.points), only_to=3).returncode == 0
    manifest = by_hand.work / "snapshots" / f"{max(left.points)}.parquet"
    columns = [row[0] for row in duckdb.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(manifest)]).fetchall()]
    marker = json.loads((left.place.repository / "backup_ops.json").read_text())
    seal = json.loads(manifest.with_suffix(".json").read_text())
    assert (marker["format"], seal["format"]) == ((2, 2) if left.is_encrypted else (1, 1))
    for name in {*columns, *marker, *seal, *marker["owner"], *marker.get("encryption", {})}:
        assert f"`{name}`" in FORMAT, name
    files = {path.name for path in left.place.repository.iterdir()}
    assert files == (
        {"backup_ops.json", "encrypted"} if left.is_encrypted else {"backup_ops.json", "runs", "snapshots"}
    )
