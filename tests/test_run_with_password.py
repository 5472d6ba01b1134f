"""Secrets are never queued: a run gets them from whoever starts it, and waits for somebody who has them."""

import pytest

from backup_ops import starter
from backup_ops.errors import EngineError, UsageError
from backup_ops.queue import Queue

PASSWORD = "a password nobody may read"


def with_vault(place):
    repositories = f"vault: {{engine: rclone, url: {place.folder / 'vault'}, password: {{env: VAULT_PASSWORD}}}}"
    place.write_jobs(f"mail: {{source: {place.source}, repository: vault}}", repositories=repositories)


def test_run_gets_the_password_of_whoever_starts_it_and_keeps_it_nowhere(place, ops, monkeypatch):
    with_vault(place)
    monkeypatch.setenv("VAULT_PASSWORD", PASSWORD)
    run = ops.run("mail")
    assert (run.outcome, run.files_total) == ("succeeded", 5)
    ops.restore("mail", target=place.folder / "out")
    assert (place.folder / "out" / "file-1.bin").read_bytes() == (place.source / "file-1.bin").read_bytes()
    for path in place.folder.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    monkeypatch.setenv("VAULT_PASSWORD", "another")
    run = ops.run("mail")
    assert run.outcome == "failed"
    assert run.errors[0].error_type == "wrong_password"
    with pytest.raises(EngineError):
        ops.snapshots("mail")


def test_who_lacks_the_variable_cannot_submit_and_starts_no_run_that_needs_it(place, ops, monkeypatch):
    with_vault(place)
    monkeypatch.delenv("VAULT_PASSWORD", raising=False)
    with pytest.raises(UsageError, match="VAULT_PASSWORD"):
        ops.submit("mail")
    monkeypatch.setenv("VAULT_PASSWORD", PASSWORD)
    with monkeypatch.context() as nobody:
        nobody.setattr(starter, "drain", lambda home: [])
        handle = ops.submit("mail")
    with monkeypatch.context() as without:
        without.delenv("VAULT_PASSWORD")
        assert starter.drain(ops.home) == []
        assert "VAULT_PASSWORD" in ops.manager.waits_for(handle.run_id)
        assert Queue(ops.home).read(handle.run_id) is not None
    starter.drain(ops.home)
    assert handle.wait().outcome == "succeeded"
