"""A remote that is configured wrongly: rclone itself says so, and people are told what to correct."""

import pytest
from bench_of_engines import Bench

from backup_ops.errors import EngineError
from backup_ops.job import Repository

SFTP = {"TYPE": "sftp", "HOST": "127.0.0.1", "PORT": "1", "USER": "me"}


VARIABLES = "the variables RCLONE_CONFIG_NAS_*"
NO_BACKEND = 'didn\'t find backend called "sfpt"'


@pytest.mark.parametrize(
    ("variables", "url", "reason", "remedy"),
    [
        (SFTP | {"KEY_FILE": "/none/id"}, "nas:v", "open /none/id: no such file", f"Correct the path in {VARIABLES}"),
        (SFTP | {"PASS": "as typed"}, "nas:v", "is it obscured", "as `rclone obscure -` spells them"),
        (SFTP, "nas:v", "ssh-agent", "Name a key or a password"),
        ({"TYPE": "sfpt"}, "nas:v", NO_BACKEND, f"kind of storage in {VARIABLES}"),
        ({}, ":sfpt,host=127.0.0.1:v", NO_BACKEND, "kind of storage in the url of repository 'mirror'"),
        (
            {"SFTP_PASS": "as typed"},
            ":sftp,host=127.0.0.1,port=1,user=me:v",
            "is it obscured",
            "the variables RCLONE_SFTP_*",
        ),
        ({"": "/none.conf"}, "nas:v", "didn't find section", "RCLONE_CONFIG names /none.conf, which is not there"),
    ],
)
def test_what_is_to_be_corrected_is_named(bench: Bench, monkeypatch, variables, url, reason, remedy) -> None:
    monkeypatch.delenv("RCLONE_CONFIG", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for name, value in variables.items():
        known = {"": "RCLONE_CONFIG", "SFTP_PASS": "RCLONE_SFTP_PASS"}
        monkeypatch.setenv(known.get(name, f"RCLONE_CONFIG_NAS_{name}"), value)
    bench.repository = Repository(name="mirror", engine="rclone", url=url)
    bench.source.mkdir()
    for action in (bench.backup, lambda: bench.engine.snapshots(bench.repository)):
        with pytest.raises(EngineError) as caught:
            action()
        failure = caught.value.failure
        assert failure.error_type == "config_invalid"
        assert failure.message.startswith(f"repository {url} cannot be opened: ") and reason in failure.message
        assert remedy in failure.remedy


@pytest.mark.parametrize("user", ["t0ken-of-somebody", "me:t0ken-of-somebody", 'me:a/b?c#d@"e"\\f t0ken'])
def test_a_token_in_an_address_of_the_environment_is_shown_to_nobody(bench: Bench, monkeypatch, user) -> None:
    monkeypatch.delenv("RCLONE_CONFIG", raising=False)
    for name, value in {"TYPE": "webdav", "URL": f"http://{user}@127.0.0.1:1/dav"}.items():
        monkeypatch.setenv(f"RCLONE_CONFIG_NAS_{name}", value)
    bench.repository = Repository(name="mirror", engine="rclone", url="nas:store/vault")
    bench.source.mkdir()
    with pytest.raises(EngineError) as caught:
        bench.backup()
    said = "\n".join([str(caught.value), *(line.decode() for line in bench.log)])
    assert "nas:store/vault" in said
    assert "t0ken" not in said and "b?c" not in said
