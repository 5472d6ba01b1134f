"""A line is written whatever the fields hold, and a damaged line is never taken for a fact."""

import json
import math
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from backup_ops import event

AT = datetime(2026, 11, 24, 2, 0, 0, 123, tzinfo=UTC)


def encode(**fields):
    return event.encode("error_recorded", fields, event_id="019", at=AT)


def test_line_comes_back_as_it_was():
    line = encode(message="plain", count=3, share=0.5, nothing=None, yes=True, nested={"a": [1, "two"]}, emoji="ok 😀")
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    fields = event.decode(line)
    assert fields == {
        "v": 1,
        "id": "019",
        "kind": "error_recorded",
        "at": "2026-11-24T02:00:00.000123Z",
        "message": "plain",
        "count": 3,
        "share": 0.5,
        "nothing": None,
        "yes": True,
        "nested": {"a": [1, "two"]},
        "emoji": "ok 😀",
    }


def test_documented_form_of_the_checksum():
    import zlib

    line = encode(message="x")
    assert line[:8] == b'{"crc":"' and line[16:18] == b'",'
    assert int(line[8:16], 16) == zlib.crc32(line[18:-1])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"caf\xe9", "caf\\xe9"),
        ("nul\x00here", "nul\\x00here"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (1 << 80, 1 << 80),
        (
            {
                1,
            },
            [1],
        ),
        (object, "<class 'object'>"),
    ],
)
def test_what_json_cannot_say_is_said_in_words(value, shown):
    assert event.decode(encode(message=value))["message"] == shown


@pytest.mark.parametrize("value", [b"\xff\xfe", "\udcff\udcfe", b"a\x00b"])
def test_exact_bytes_stand_beside_words(value):
    import base64

    exact = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    assert base64.b64decode(event.decode(encode(message=value))["message_base64"]) == exact


def test_long_text_is_clipped_with_a_note():
    message = event.decode(encode(message="x" * (3 << 20)))["message"]
    assert len(message) < (1 << 20) + 100
    assert message.endswith("(clipped: 3,145,728 characters, 1,048,576 kept)")


def test_very_many_values_stay_one_readable_line():
    line = encode(values=list(range(3_000_000)))
    assert len(line) < event.MAX_LINE_BYTES
    assert event.decode(line)["kind"] == "error_recorded"


def test_own_reserved_names_do_not_replace_ours():
    fields = event.decode(event.encode("note", {"kind": "evil", "id": 1, "crc": "x"}, event_id="019", at=AT))
    assert (fields["kind"], fields["kind_"], fields["id"], fields["id_"]) == ("note", "evil", "019", 1)


def test_object_whose_repr_raises_is_named():
    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

    assert "its repr raised RuntimeError" in event.decode(encode(message=Rude()))["message"]


def test_number_too_long_to_print_is_written_in_hexadecimal():
    assert event.decode(encode(message=1 << 20_000))["message"] == hex(1 << 20_000)


def test_endless_nesting_ends():
    loop = []
    loop.append(loop)
    assert event.decode(encode(message=loop))["kind"] == "error_recorded"


def test_each_flipped_bit_is_found():
    line = encode(message="the only copy", number=7)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(300):
        damaged = bytearray(line)
        place = chance.randrange(len(line) - 1)
        damaged[place] ^= 1 << chance.randrange(8)
        with pytest.raises(event.Undecodable):
            event.decode(bytes(damaged))


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"garbage", b"{}", b"\xff\xfe\x00", b'{"crc":"', b'{"crc":"00000000",}', b"null", b"[1]"]
)
def test_garbage_gives_a_reason_and_no_fact(line):
    with pytest.raises(event.Undecodable) as caught:
        event.decode(line)
    assert str(caught.value)


def test_ids_sort_by_time_and_are_uuids():
    import uuid

    ids = [event.new_event_id(AT + timedelta(milliseconds=step)) for step in range(50)]
    assert ids == sorted(ids)
    assert {uuid.UUID(one).version for one in ids} == {7}


def test_times_are_written_as_utc():
    berlin = timezone(timedelta(hours=1))
    assert event.format_at(datetime(2026, 11, 24, 3, tzinfo=berlin)) == "2026-11-24T02:00:00.000000Z"
    assert event.parse_at("2026-11-24T02:00:00.000000Z") == datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_json_stays_standard():
    json.loads(encode(message=math.nan, other=[math.inf]), parse_constant=lambda name: pytest.fail(name))
