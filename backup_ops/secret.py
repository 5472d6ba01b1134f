"""A secret, from where its reference says. It is asked for by the process that needs it, and kept nowhere."""

from __future__ import annotations

import importlib
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from backup_ops.address import parse_address
from backup_ops.errors import EngineError
from backup_ops.failure import failure_of
from backup_ops.job import Repository, SecretReference

# A program may ask a person, with a window or on a token.
_COMMAND_WITHIN_S = 120.0


def secret_of(reference: SecretReference, purpose: str) -> str:
    """The secret, one line of text. `purpose` is what it is for, in messages: `the password of repository 'vault'`.

    Raises EngineError `password_missing`. No message holds any of what was found.
    """
    secret = {"env": _from_variable, "file": _from_file, "command": _from_command, "keyring": _from_keyring}[
        reference.kind
    ](reference, purpose)
    if not secret:
        raise _missing(f"{purpose} is empty where it is looked for: {reference}.", "Put it there.")
    if any(sign in secret for sign in "\r\n\0"):
        # rclone would take what stands before it, and a password one character shorter opens nothing later.
        raise _missing(f"{purpose} ({reference}) has more than one line.", "Make it one line of text.")
    return secret


def missing_variables(repository: Repository, environment: Mapping[str, str] | None = None) -> list[str]:
    """The environment variables a run needs to reach the repository, and that this process does not have."""
    found = os.environ if environment is None else environment
    needed = []
    if repository.password is not None and repository.password.kind == "env":
        needed.append(str(repository.password.value))
    if repository.engine == "rclone" and repository.folder is None and "RCLONE_CONFIG" not in found:
        address = parse_address(repository.url)
        if address is not None and address.variable is not None:
            needed.append(address.variable)
    return [name for name in needed if name not in found]


def _from_variable(reference: SecretReference, purpose: str) -> str:
    name = str(reference.value)
    if name not in os.environ:
        raise _missing(
            f"{purpose} is to be found in the environment variable {name}, which is not set in this process.",
            f"Set {name} where backup-ops is started, and run again.",
        )
    return _text(os.fsencode(os.environ[name]), reference, purpose)


def _from_file(reference: SecretReference, purpose: str) -> str:
    path = Path(str(reference.value)).expanduser()
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if mode & 0o077:
                raise _missing(
                    f"{purpose} is in file {path}, which others on this machine may read or change (mode {mode:04o}).",
                    f"chmod 600 {quote(str(path))}",
                )
            content = stream.read(1 << 16)
    except OSError as error:
        what = f"{purpose} is in file {path}, which cannot be read: {error.strerror}."
        raise _missing(what, "Put it there, for this user only.") from None
    return _text(content.removesuffix(b"\n").removesuffix(b"\r"), reference, purpose)


def _from_command(reference: SecretReference, purpose: str) -> str:
    words = [reference.value] if isinstance(reference.value, str) else list(reference.value)
    shown = " ".join(quote(word) for word in words)
    try:
        # It is the user's own program, such as `pass`: it needs his agents, and his environment tells where they are.
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_WITHIN_S,
            check=False,
        )
    except OSError as error:
        raise _missing(
            f"{purpose} is printed by `{shown}`, which cannot be started: {error.strerror}.", "Correct the command."
        ) from None
    except subprocess.TimeoutExpired:
        raise _missing(
            f"{purpose} is printed by `{shown}`, which did not end within {_COMMAND_WITHIN_S:g} s.",
            "It must not wait for a person who is not there: unlock its store, or take another reference.",
        ) from None
    if done.returncode != 0:
        raise _missing(
            f"{purpose} is printed by `{shown}`, which ended with exit code {done.returncode}.", "Run it by hand."
        )
    return _text(done.stdout.removesuffix(b"\n").removesuffix(b"\r"), reference, purpose)


def _from_keyring(reference: SecretReference, purpose: str) -> str:
    service, _, user = str(reference.value).partition("/")
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise _missing(
            f"{purpose} is in the keyring ({reference.value}), and the Python package keyring is not installed.",
            "pip install keyring",
        ) from None
    try:
        found = keyring.get_password(service, user)
    except Exception as error:  # each of its backends raises what it likes: no session bus, locked, no backend at all
        raise _missing(
            f"{purpose} is in the keyring ({reference.value}), which cannot be asked: {type(error).__name__}.",
            "Is it unlocked, and reachable from where backup-ops is started? A cron job has no session.",
        ) from None
    if found is None:
        raise _missing(
            f"the keyring holds nothing as {reference.value}, where {purpose} is looked for.",
            f"keyring set {quote(service)} {quote(user)}",
        )
    return str(found)


def _text(content: bytes, reference: SecretReference, purpose: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise _missing(f"{purpose} ({reference}) is not UTF-8 text.", "Write it as UTF-8.") from None


def _missing(message: str, remedy: str) -> EngineError:
    return EngineError(failure_of("password_missing", message, remedy))
