from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import ODD_NAMES

from backup_ops.engines.rclone.exclude import Exclude
from backup_ops.engines.rclone.names import display, spelled_path, stored_paths

name_bytes = st.binary(min_size=1, max_size=255).filter(
    lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..")
)


@given(st.sets(st.one_of(name_bytes, st.sampled_from(ODD_NAMES)), max_size=20))
def test_stored_names_are_plain_short_and_never_meet(names: set[bytes]) -> None:
    stored = stored_paths(names)
    assert len({name.casefold() for name in stored.values()}) == len(names)
    for name in stored.values():
        assert len(name.encode()) <= 255
        assert not any(ord(character) < 32 or character == "\x7f" for character in name)
        assert "%" in name or spelled_path(name.encode()) == name


@pytest.mark.parametrize(
    "name", [b"plain", "été".encode(), b" space ", b"-dash", b"x.rclonelink", b"a/b c/d", "😀".encode()]
)
def test_common_names_are_stored_as_they_are(name: bytes) -> None:
    assert stored_paths([name]) == {name: name.decode()}


def test_names_that_some_disks_take_for_one_are_kept_apart() -> None:
    names = [b"case", b"CASE", "é".encode(), "e\u0301".encode(), "Straße".encode(), b"STRASSE", "STRAẞE".encode()]
    stored = list(stored_paths(names).values())
    assert stored[0] == "case"
    assert [name.startswith("%~/") for name in stored] == [False, True, False, True, False, True, True]


def test_display_shows_what_would_move_the_cursor() -> None:
    assert display(b"a\nb\x1b[31m\xff") == "a\\nb\\x1b[31m\\xff"


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder"),
    [
        ("*.tmp", "a/b.tmp", False),
        ("node_modules", "a/node_modules", True),
        ("/cache", "cache", True),
        ("var/*.log", "var/x.log", False),
        ("**/x", "x", False),
        ("**/x", "a/b/x", False),
        ("a/**", "a/b/c", False),
        ("a/**/z", "a/z", False),
        ("a/**/z", "a/b/c/z", False),
        ("build/", "x/build", True),
        ("[a-c].x", "b.x", False),
        ("[!a-c].x", "d.x", False),
        ("a?c", "aéc", False),
        ("[éa]x", "éx", False),
        ("\\*x", "*x", False),
        ("[x", "[x", False),
        ("[z-a]", "[z-a]", False),
        ("/srv/photos/cache", "cache", True),
        ("*", ".hidden", False),
        ("a*", "a\nb", False),
    ],
)
def test_pattern_leaves_out(pattern: str, path: str, is_folder: bool) -> None:
    assert Exclude([pattern], "/srv/photos").matches(path.encode(), is_folder)


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder"),
    [
        ("*.tmp", "a/b.tmpx", False),
        ("/cache", "a/cache", True),
        ("var/*.log", "var/a/x.log", False),
        ("a/**", "a", True),
        ("a/**/z", "a/bz", False),
        ("build/", "x/build", False),
        ("[!a-c].x", "b.x", False),
        ("a?c", "a/c", False),
        ("\\*x", "ax", False),
        ("*.TMP", "a.tmp", False),
        ("/srv/photos2/cache", "cache", True),
        ("", "a", False),
        ("/", "a", True),
    ],
)
def test_pattern_does_not_leave_out(pattern: str, path: str, is_folder: bool) -> None:
    assert not Exclude([pattern], "/srv/photos").matches(path.encode(), is_folder)
