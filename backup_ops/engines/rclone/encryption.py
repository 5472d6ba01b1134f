"""Encryption by rclone's crypt: how the marker describes it, and the key that opens it.

Content, manifests, seals and all names lie encrypted in a folder of their own. The marker does not: it can be read
without the password, says that there is one, and proves a wrong one before anything else is read or written.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from backup_ops.engines.rclone.binary import Rclone
from backup_ops.engines.rclone.location import Location
from backup_ops.errors import EngineError
from backup_ops.failure import failure_of

# rclone's own defaults, written out: what is stored must not depend on the version that reads it.
_REMOTE = "BACKUP_OPS_CRYPT"
_SETTINGS = {
    "TYPE": "crypt",
    "FILENAME_ENCRYPTION": "standard",
    "DIRECTORY_NAME_ENCRYPTION": "true",
    "FILENAME_ENCODING": "base32",
    "SUFFIX": ".bin",
}
_FOLDER = "encrypted"
_CIPHER = "rclone-crypt"
_CHECKED_NAME = "backup-ops key check"

MAX_NAME_BYTES = 143
"""An encrypted name takes 16 bytes for each begun 16 of it, spelled in base32, and storage ends at 255."""


def described(rclone: Rclone, location: Location) -> dict[str, Any]:
    """What the marker of a new repository says of its encryption. Raises EngineError.

    The salt makes keys that no other repository has, also of the same password. `key_check` is a known name as the key
    encrypts it: it tells whether a password is the right one, and nothing else about it.
    """
    assert location.secret is not None
    salt = secrets.token_hex(16)
    return {
        "cipher": _CIPHER,
        "folder": _FOLDER,
        "salt": salt,
        "key_check": _key_check(_with_key(rclone, location.secret, salt, ":memory:")),
    }


def unlocked(location: Location, marker: dict[str, Any], rclone: Rclone) -> tuple[Rclone, str]:
    """How to call rclone for what is in the repository, and what its paths begin with. Raises EngineError.

    `wrong_password`, `password_missing`, or `config_invalid` when the repository is not encrypted and should be.
    """
    encryption = marker.get("encryption")
    if encryption is None:
        if location.password is not None:
            raise EngineError(
                failure_of(
                    "config_invalid",
                    f"repository {location} is not encrypted, and a password is given for it. Nothing was read or"
                    " written.",
                    "Take 'password' out, or give the encrypted repository a url of its own.",
                )
            )
        return rclone, location.path()
    if location.password is None:
        raise EngineError(
            failure_of(
                "password_missing",
                f"repository {location} is encrypted, and no password is given for it.",
                "Add to the repository in jobs.yaml: password: {env: NAME}; without a home: --password-env NAME",
            )
        )
    if encryption.get("cipher") != _CIPHER:
        raise EngineError(
            failure_of(
                "config_invalid",
                f"repository {location} is encrypted with {encryption.get('cipher')}; this version knows {_CIPHER}.",
                "Update backup-ops.",
            )
        )
    assert location.secret is not None
    key = _with_key(rclone, location.secret, encryption["salt"], location.path(encryption["folder"]))
    if _key_check(_at(key, ":memory:")) != encryption["key_check"]:
        raise EngineError(
            failure_of(
                "wrong_password",
                f"the password ({location.password}) does not open repository {location}.",
            )
        )
    return key, f"{_REMOTE}:"


def _with_key(rclone: Rclone, password: str, salt: str, remote: str) -> Rclone:
    settings = _SETTINGS | {"PASSWORD": _obscured(rclone, password), "PASSWORD2": _obscured(rclone, salt)}
    return _at(replace(rclone, variables={_variable(name): value for name, value in settings.items()}), remote)


def _at(rclone: Rclone, remote: str) -> Rclone:
    return replace(rclone, variables={**rclone.variables, _variable("REMOTE"): remote})


def _variable(setting: str) -> str:
    return f"RCLONE_CONFIG_{_REMOTE}_{setting}"


def _obscured(rclone: Rclone, secret: str) -> str:
    # By stdin: arguments are read by everybody who lists processes. What comes back is as good as the password.
    printed: list[bytes] = []
    ended = rclone.call("obscure", "-", stdin=secret.encode() + b"\n", on_stdout=printed.append)
    if ended.exit_code != 0 or not printed:
        raise rclone.error(ended)
    return printed[0].decode("ascii")


def _key_check(rclone: Rclone) -> str:
    printed: list[bytes] = []
    ended = rclone.call("cryptdecode", "--reverse", f"{_REMOTE}:", _CHECKED_NAME, on_stdout=printed.append)
    if ended.exit_code != 0 or not printed:
        raise rclone.error(ended)
    return printed[0].rpartition(b"\t")[2].strip().decode("ascii")
