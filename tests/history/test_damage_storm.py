"""Whatever is damaged in a home: what undamaged files hold is all there, and nothing is there that was not written."""

import os
import random
import shutil
from collections import Counter

import damages
import pytest
import whole_home
from damaged_home import OLDER, OLDER_LOG_KEPT, DamagedHome
from damages import Damage
from whole_home import Template, whole_segments

from backup_ops.history import ledger, segments

SCALE = int(os.environ.get("BACKUP_OPS_SCALE", "1"))
TARGETS = ("index", "wal", "segment", "journal", "ledger", "queue", "claim", "cancel", "progress", "folders", "logs")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Template:
    return whole_home.build(tmp_path_factory.mktemp("storm"))


def some_damages(chance: random.Random, number: int) -> list[Damage]:
    """The targets by turns, so that a few rounds see them all; the ways by chance."""
    targets = [TARGETS[number % len(TARGETS)], *chance.sample(TARGETS[:5], chance.randrange(3))]
    ways = [*damages.DAMAGES, OLDER, OLDER_LOG_KEPT]
    return [chance.choice([one for one in ways if one.target == target]) for target in dict.fromkeys(targets)]


@pytest.mark.timeout(120 + 20 * SCALE)
def test_what_undamaged_files_hold_is_back_after_any_start(template, tmp_path, chance):
    done: Counter[str] = Counter()
    first = chance.randrange(len(TARGETS))
    for number in range(2 * SCALE if SCALE > 5 else 6):
        wanted = some_damages(chance, first + number)
        print(f"round {number}: {', '.join(map(str, wanted))}")
        one = DamagedHome(template, tmp_path / f"round-{number}", chance)
        try:
            one.damage(*wanted)
            one.check_start()
        finally:
            one.close()
        done.update(map(str, wanted))
        shutil.rmtree(one.home.path)
    print(len(done), "kinds of damage:", dict(sorted(done.items())))


@pytest.mark.timeout(120 + 3 * SCALE)
def test_one_flipped_bit_in_a_segment_is_found_every_time(template, tmp_path, chance):
    one = DamagedHome(template, tmp_path / "home", chance)
    path = max(whole_segments(one.home), key=lambda path: path.stat().st_size)
    segment, good = segments.parse_name(path.name), path.read_bytes()
    flips = max(30, 3 * SCALE)
    found = named = 0
    for number in range(flips):
        path.write_bytes(good)
        damages.bit(path, chance)
        found += not segments.is_whole(one.home.segments, segment)
        if number % 10 == 0:
            named += any(path.name in finding.sentence for finding in one.told.history.inspect())
        if number % 30 == 0:
            one.learn_changes()
            rebuilt = one.told.history.rebuild()
            assert rebuilt is not None and rebuilt.damaged_segments == (path.name,)
            one.check_said(one.told.history, is_rebuilt=True)
    one.close()
    print(f"{found} of {flips} found, {named} of {flips // 10} named")
    assert found == flips and named == flips // 10


def test_lines_that_stand_twice_in_the_ledger_bring_no_replaced_segment_back(template, tmp_path, chance):
    one = DamagedHome(template, tmp_path / "home", chance)
    path = one.home.journal / ledger.FILE
    path.write_bytes(b"".join((lines := path.read_bytes().splitlines(keepends=True)) + lines[::-1]))
    one.learn_changes()
    assert not one.lost
    one.check_named(one.told.history)
    one.close()


# --- controls: a product that believes, forgets or keeps silent would be seen


def test_a_damaged_segment_that_is_believed_would_be_seen(template, tmp_path, chance, monkeypatch):
    monkeypatch.setattr(segments, "is_whole", lambda *_: True)
    seen = 0
    for number in range(5):
        one = DamagedHome(template, tmp_path / f"home-{number}", chance)
        way = "swapped" if number == 0 else "bit"
        one.damage(next(damage for damage in damages.DAMAGES if str(damage) == f"segment: {way}"))
        with pytest.raises(AssertionError, match="is not named"):
            one.check_named(one.told.history)
        rebuilt = one.told.history.rebuild()
        assert rebuilt is not None
        if set(rebuilt.damaged_segments) != one.damaged:  # else no Parquet any more, which DuckDB said
            seen += 1
            with pytest.raises(AssertionError):
                one.check_said(one.told.history, is_rebuilt=True)
        one.close()
    assert seen


def test_segments_that_are_forgotten_would_be_seen(template, tmp_path, chance, monkeypatch):
    one = DamagedHome(template, tmp_path / "home", chance)
    one.damage(next(damage for damage in damages.DAMAGES if str(damage) == "segment: deleted"))
    monkeypatch.setattr(ledger, "expected", lambda _: {})
    with pytest.raises(AssertionError, match="is not named"):
        one.check_named(one.told.history)
    monkeypatch.setattr(segments, "read_lines", lambda *_: iter(()))
    one.told.history.rebuild()
    with pytest.raises(AssertionError, match=r"[1-9]\d* lost, 0 doubled"):
        one.check_said(one.told.history, is_rebuilt=True)
    one.close()
