"""docs/repository-layout.md is followed to the letter: its script restores a snapshot without backup-ops."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
from bench_of_engines import Bench
from trees import RandomTree, snapshot_of

from backup_ops.engines.rclone.binary import find_binary

PAGE = (Path(__file__).parents[2] / "docs" / "repository-layout.md").read_text(encoding="utf-8")


def test_script_of_the_page_restores_content_links_rights_and_times(bench: Bench, seed: int) -> None:
    tree = RandomTree(bench.source, seed, files=20)
    bench.backup()
    tree.change(33)
    expected = snapshot_of(bench.source)
    result = bench.backup()
    script = bench.folder / "by_hand.py"
    script.write_text(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], encoding="utf-8")
    target = bench.folder / "restored"
    done = subprocess.run(
        [sys.executable, "-I", script, bench.location, str(result.snapshot_id), target], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    by_hand = snapshot_of(target)
    assert by_hand.keys() == expected.keys()
    for path, facts in expected.items():
        kind, mode, _, _, mtime_ns, _, content = facts[:7]
        found = by_hand[path]
        assert (found[0], found[6]) == (kind, content), path
        if kind != 0o120000:
            assert (found[1], found[4]) == (mode, mtime_ns), path


def test_every_column_and_key_is_on_the_page(small: Bench) -> None:
    result = small.backup()
    manifest = small.location / "snapshots" / f"{result.snapshot_id}.parquet"
    columns = [row[0] for row in duckdb.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(manifest)]).fetchall()]
    keys = json.loads(manifest.with_suffix(".json").read_text())
    for name in [*columns, *keys]:
        assert f"`{name}`" in PAGE or name in ("format", "seal_sha256"), name


def test_rclone_alone_proves_the_content(small: Bench) -> None:
    result = small.backup()
    manifest = small.location / "snapshots" / f"{result.snapshot_id}.parquet"
    query = re.findall(r'-c "(SELECT DISTINCT.*?)" > SUMS', PAGE, re.DOTALL)[0]
    query = re.sub(r"'snapshots/.*?\.parquet'", f"'{manifest}'", query)
    sums = small.folder / "SUMS"
    sums.write_text("".join(f"{row[0]}\n" for row in duckdb.execute(query).fetchall()), encoding="utf-8")
    command = [find_binary(), "checksum", "sha256", sums, small.location / "runs", "--one-way"]
    environment = {"PATH": os.environ["PATH"], "RCLONE_CONFIG": "/dev/null"}
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    stored = small.location / "runs" / str(result.snapshot_id) / "one"
    shutil.copyfile(stored, stored.with_name("kept"))
    stored.write_bytes(b"0ne")
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 1
