"""The right to operate: one link lets one browser in, a cookie cannot be made up, nothing is readable by others."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from backup_ops.dashboard import greeting
from backup_ops.dashboard.rights import COOKIE_DAYS, Rights
from backup_ops.home import Home


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_a_token_is_spent_once_and_a_fresh_one_follows(home):
    rights = Rights(home)
    token = rights.token()
    assert rights.token() == token, "asking for it does not change it"
    assert rights.spend(token)
    assert not rights.spend(token)
    assert rights.token() != token


@pytest.mark.parametrize("offered", ["", "x", "ü", "a" * 10_000])
def test_what_is_not_the_token_changes_nothing(home, offered):
    rights = Rights(home)
    token = rights.token()
    assert not rights.spend(offered)
    assert rights.token() == token


def test_only_one_of_many_gets_in_with_a_token(home):
    token = Rights(home).token()
    let_in = []
    threads = [threading.Thread(target=lambda: let_in.append(Rights(home).spend(token))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(let_in) == [False] * 7 + [True]


def test_token_and_key_are_for_the_owner_only(home):
    rights = Rights(home)
    rights.token()
    rights.grant()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.path.glob("operate.*")}
    assert modes == {"operate.token": 0o600, "operate.key": 0o600}


def test_a_cookie_outlives_the_server_but_not_its_days(home):
    cookie = Rights(home).grant(now=1_000_000)
    assert Rights(home).holds(cookie, now=1_000_000 + COOKIE_DAYS * 86400 - 1)
    assert not Rights(home).holds(cookie, now=1_000_000 + COOKIE_DAYS * 86400)


@pytest.mark.parametrize("cookie", [None, "", "..", "a.b.c", "1.2", "9999999999.x." + "0" * 64, "1.ü.ß"])
def test_a_cookie_that_was_made_up_gives_nothing(home, cookie):
    rights = Rights(home)
    rights.grant()
    assert not rights.holds(cookie)


def test_a_changed_cookie_gives_nothing(home):
    issued, nonce, signature = Rights(home).grant(now=1_000_000).split(".")
    assert not Rights(home).holds(f"{int(issued) + 86400}.{nonce}.{signature}", now=1_000_000)


def test_a_cookie_of_another_home_gives_nothing(home, tmp_path):
    other = Home(tmp_path / "other")
    other.make()
    assert not Rights(home).holds(Rights(other).grant())
    assert Rights(home).cookie_name != Rights(other).cookie_name


def test_without_the_key_every_browser_is_out(home):
    cookie = Rights(home).grant()
    (home.path / "operate.key").unlink()
    assert not Rights(home).holds(cookie)
    assert not (home.path / "operate.key").exists(), "looking has made a key"


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (["serve", "SCRIPT"], "http://localhost:5006/ops"),
        (["serve", "SCRIPT", "--port", "80"], "http://localhost:80/ops"),
        (["serve", "--port=99", "--prefix", "/a/", "SCRIPT"], "http://localhost:99/a/ops"),
    ],
)
def test_panel_serve_of_our_script_is_greeted_with_the_link(home, monkeypatch, capsys, words, url):
    monkeypatch.setenv("BACKUP_OPS_HOME", str(home.path))
    script = str(Path(__file__).parents[2] / "dashboards" / "ops.py")
    greeting.greet(["panel", *(script if word == "SCRIPT" else word for word in words)])
    assert f"{url}?token={Rights(home).token()}" in capsys.readouterr().out


def test_other_command_lines_are_not_greeted(home, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("BACKUP_OPS_HOME", str(home.path))
    other = tmp_path / "app.py"
    other.write_text("import panel\n")
    for words in (["panel"], ["panel", "serve", str(other)], ["pytest", "ops.py"], ["panel", "serve", "gone.py"]):
        greeting.greet(words)
    assert capsys.readouterr().out == ""
    assert not (home.path / "operate.token").exists()
