import pytest

from backup_ops.quantity import format_bytes, format_duration, parse_bytes, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("1d 12h", 129600), (30, 30), ("1.5h", 5400)],
)
def test_durations_as_people_write_them(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 hours ago", "h", "-3s", -3, "2h!"])
def test_other_durations_are_refused_by_name(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("20M", 20 << 20), ("5G", 5 << 30), ("500K", 512000), ("1.5 GiB", 3 << 29), (7, 7), ("7", 7), ("10B", 10)],
)
def test_sizes_as_people_write_them(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "20 M per s", "M", "-1", -1, "1X"])
def test_other_sizes_are_refused_by_name(text):
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1 KiB"),
        (4_404_019, "4.2 MiB"),
        (302 << 30, "302 GiB"),
        (None, "?"),
        (1023 << 20, "1 GiB"),
    ],
)
def test_sizes_in_three_figures(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (24, "24 s"), (1868, "31 min 8 s"), (129600, "1 d 12 h"), (3600, "1 h"), (None, "?")],
)
def test_durations_in_two_parts(seconds, text):
    assert format_duration(seconds) == text
