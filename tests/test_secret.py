"""Secrets by reference: found where they are said to be, or a sentence that holds none of them."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from backup_ops.errors import EngineError
from backup_ops.job import Repository, SecretReference
from backup_ops.secret import missing_variables, secret_of

SECRET = "hunter2 ü"
PURPOSE = "the password of repository 'vault'"


def refusal(reference: SecretReference) -> str:
    with pytest.raises(EngineError) as caught:
        secret_of(reference, PURPOSE)
    assert caught.value.failure.error_type == "password_missing"
    assert caught.value.failure.remedy
    assert PURPOSE in caught.value.failure.message
    assert "hunter2" not in str(caught.value)
    return caught.value.failure.message


def test_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = SecretReference("env", "VAULT")
    monkeypatch.delenv("VAULT", raising=False)
    assert "variable VAULT" in refusal(reference)
    monkeypatch.setenv("VAULT", SECRET)
    assert secret_of(reference, PURPOSE) == SECRET
    monkeypatch.setenv("VAULT", "")
    assert "empty" in refusal(reference)
    monkeypatch.setenv("VAULT", f"{SECRET}\nand more")
    assert "more than one line" in refusal(reference)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / "password"
    reference = SecretReference("file", str(path))
    assert "No such file" in refusal(reference)
    path.write_bytes(f"{SECRET}{end}".encode())
    path.chmod(0o640)
    assert "mode 0640" in refusal(reference)
    path.chmod(0o600)
    assert secret_of(reference, PURPOSE) == SECRET
    path.write_bytes(b"hunter2\xff")
    assert "UTF-8" in refusal(reference)


def test_command() -> None:
    def printing(script: str) -> SecretReference:
        return SecretReference("command", (sys.executable, "-c", script))

    assert secret_of(printing(f"print({SECRET!r})"), PURPOSE) == SECRET
    assert "exit code 3" in refusal(printing("print('hunt' 'er2'); raise SystemExit(3)"))
    assert "empty" in refusal(printing(""))
    assert "cannot be started" in refusal(SecretReference("command", ("/no/such/program",)))


def test_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a package of that name as it is documented: a real keyring needs a desktop."""
    reference = SecretReference("keyring", "backup-ops/vault")
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "not installed" in refusal(reference)
    package = types.ModuleType("keyring")
    kept = {("backup-ops", "vault"): SECRET}
    package.get_password = lambda service, user: kept.get((service, user))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", package)
    assert secret_of(reference, PURPOSE) == SECRET
    assert "holds nothing" in refusal(SecretReference("keyring", "backup-ops/other"))
    package.get_password = lambda service, user: 1 / 0  # type: ignore[attr-defined]
    assert "cannot be asked" in refusal(reference)


def test_variables_a_run_needs_are_known_before_it_starts() -> None:
    password = SecretReference("env", "VAULT")
    local = Repository(name="a", url="/mnt/a", password=password)
    assert missing_variables(local, {}) == ["VAULT"]
    assert missing_variables(local, {"VAULT": "x"}) == []
    remote = Repository(name="a", url="nas:vault", password=password)
    assert missing_variables(remote, {}) == ["VAULT", "RCLONE_CONFIG_NAS_TYPE"]
    assert missing_variables(remote, {"VAULT": "x", "RCLONE_CONFIG": "/home/me/rclone.conf"}) == []
    assert missing_variables(Repository(name="a", url=":sftp,host=nas:vault"), {}) == []
