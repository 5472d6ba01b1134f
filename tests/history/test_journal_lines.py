"""Complete lines past a known position, whatever has happened to the file."""

import random

import pytest

from backup_ops.errors import HomeError
from backup_ops.event import MAX_LINE_BYTES
from backup_ops.history import journals
from backup_ops.history.journals import Position, sizes, unread


def read_all(folder, known=None, *, limit_bytes=1 << 30):
    """Lines as (file, offset, data), and the positions after them."""
    known = dict(known or {})
    lines = []
    while True:
        portion = unread(folder, known, sizes(folder), limit_bytes=limit_bytes)
        lines += [(line.file, line.offset, line.data) for line in portion.lines]
        known |= portion.positions
        if portion.is_last:
            return lines, known


def test_complete_lines_are_read_once_and_a_torn_one_waits(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\nthr")
    (tmp_path / "other.txt").write_bytes(b"not a journal\n")
    lines, known = read_all(tmp_path)
    assert lines == [("a.jsonl", 0, b"one"), ("a.jsonl", 4, b"two")]
    assert read_all(tmp_path, known) == ([], known)
    with open(tmp_path / "a.jsonl", "ab") as file:
        file.write(b"ee\n")
    assert read_all(tmp_path, known)[0] == [("a.jsonl", 8, b"three")]


def test_empty_lines_are_no_lines(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\none\n\n\ntwo\n")
    assert [data for _, _, data in read_all(tmp_path)[0]] == [b"one", b"two"]


@pytest.mark.parametrize("after", [b"1\n", b"one\n2\n", b"ONE\nTWO\n", b"ONE\nTWO\nTHREE\n"])
def test_truncated_or_rewritten_journal_is_read_from_its_beginning(tmp_path, after):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo\n")
    _, known = read_all(tmp_path)
    path.write_bytes(after + b"last\n")
    assert [data for _, _, data in read_all(tmp_path, known)[0]] == [*after.split(b"\n")[:-1], b"last"]


def test_journal_truncated_to_nothing_starts_anew(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n")
    _, known = read_all(tmp_path)
    path.write_bytes(b"")
    lines, known = read_all(tmp_path, known)
    assert lines == [] and known == {"a.jsonl": Position()}
    path.write_bytes(b"new\n")
    assert read_all(tmp_path, known)[0] == [("a.jsonl", 0, b"new")]


def test_portions_of_any_size_give_the_same_lines(tmp_path, monkeypatch, chance):
    monkeypatch.setattr(journals, "CHUNK_BYTES", 64)
    monkeypatch.setattr(journals, "MAX_LINE_BYTES", 200)
    monkeypatch.setattr(journals, "_SHOWN_BYTES", 50)
    written = {}
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        written[name] = [chance.randbytes(chance.randrange(1, 90)).replace(b"\n", b"-") for _ in range(60)]
        (tmp_path / name).write_bytes(b"".join(line + b"\n" for line in written[name]) + b"torn")
    expected = [(name, line) for name in written for line in written[name]]
    for limit_bytes in (1, 100, 1000, 1 << 20):
        lines, _ = read_all(tmp_path, limit_bytes=limit_bytes)
        assert [(file, data) for file, _, data in lines] == expected
        for file, offset, data in lines:
            assert (tmp_path / file).read_bytes()[offset : offset + len(data) + 1] == data + b"\n"


def test_line_longer_than_an_event_is_clipped_and_the_next_is_whole(tmp_path):
    long = random.Random(1).randbytes(MAX_LINE_BYTES + (9 << 20)).replace(b"\n", b"-")
    (tmp_path / "a.jsonl").write_bytes(b"first\n" + long + b"\nlast\n")
    portion = unread(tmp_path, {}, sizes(tmp_path), limit_bytes=1 << 30)
    first, clipped, last = portion.lines
    assert (first.data, last.data) == (b"first", b"last")
    assert clipped.clipped_from == len(long) and clipped.offset == 6
    assert long.startswith(clipped.data) and len(clipped.data) == 1 << 20
    assert portion.positions["a.jsonl"].read_to == 6 + len(long) + 6


def test_no_folder_has_no_journals(tmp_path):
    assert sizes(tmp_path / "none") == {}


def test_journal_that_vanishes_is_left_out(tmp_path):
    portion = unread(tmp_path, {}, {"gone.jsonl": 5}, limit_bytes=100)
    assert portion.lines == [] and portion.positions == {}


def test_journal_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(HomeError, match=r"journal .*a\.jsonl cannot be read: Is a directory"):
        unread(tmp_path, {}, {"a.jsonl": 5}, limit_bytes=100)
