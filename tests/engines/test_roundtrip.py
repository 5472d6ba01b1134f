from __future__ import annotations

from bench_of_engines import SCALE, Bench
from trees import RandomTree, differences, snapshot_of


def test_three_points_in_time_come_back_identical(bench: Bench, seed: int) -> None:
    tree = RandomTree(bench.source, seed, files=60 * SCALE)
    expected = []
    results = []
    for _ in range(3):
        expected.append(snapshot_of(bench.source))
        results.append(bench.backup())
        tree.change(44 * SCALE)
    for number, (wanted, result) in enumerate(zip(expected, results, strict=True)):
        assert result.item_failures == ()
        restored = bench.restore(result.snapshot_id, f"restored-{number}")
        assert restored.notes == ()
        assert differences(wanted, snapshot_of(bench.folder / f"restored-{number}")) == []
    assert results[1].bytes_added < results[1].bytes_total, "only what is new should be stored again"
