"""Where a repository is: a folder here or a place on a remote, and what rclone needs to get there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from backup_ops.address import Address, is_secret, parse_address, secret_in
from backup_ops.errors import EngineError
from backup_ops.failure import failure_of
from backup_ops.job import Repository, SecretReference
from backup_ops.secret import secret_of

# No configuration file is read unless a remote needs one and the user names it: what we call must not depend on what
# somebody configured for himself. Nobody is there to be asked for the password of such a file.
PLAIN_ENVIRONMENT = {"RCLONE_CONFIG": "/dev/null", "RCLONE_ASK_PASSWORD": "false"}
_CONFIG_VARIABLES = ("RCLONE_CONFIG", "RCLONE_CONFIG_PASS")
_MENTIONED = re.compile(r"([\w.+@-]+)(?:,[^:\s]*)?:")
_USER_IN_URL = re.compile("://(.+)@", re.DOTALL)  # up to the last @: a password may hold what a url may not
_SHORTEST_HIDDEN = 4


@dataclass(frozen=True)
class Location:
    """`folder` is the place on this machine, None on a remote; `start` and `place` make up what rclone is told.

    `environment` is for the rclone process only, and `hidden` is what of it must not appear in a message.
    """

    shown: str
    folder: Path | None
    start: str
    place: str
    environment: Mapping[str, str] = field(default_factory=lambda: PLAIN_ENVIRONMENT, repr=False)
    hidden: tuple[bytes, ...] = field(default=(), repr=False)
    password: SecretReference | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.shown

    def path(self, name: str = "") -> str:
        """What rclone is told for the place itself, or for what is directly below it."""
        if not name:
            return self.start + self.place
        between = "" if not self.place or self.place.endswith("/") else "/"
        return f"{self.start}{self.place}{between}{name}"

    @property
    def above(self) -> str | None:
        """What rclone is told for the folder above; None when the place is the top of its remote."""
        if self.place in ("", "/"):
            return None
        folder, slash, _ = self.place.rpartition("/")
        return self.start + (folder or slash)

    @cached_property
    def secret(self) -> str | None:
        """The password, asked for once; None when there is to be none. Raises EngineError."""
        return None if self.password is None else secret_of(self.password, f"the password of repository {self.shown}")


def location_of(setting: Repository) -> Location:
    """Raises EngineError `config_invalid` for an address that rclone cannot be told, or that holds a secret."""
    if setting.folder is not None:
        folder = Path(os.path.normpath(setting.folder))
        return Location(str(folder), folder, "", str(folder), password=setting.password, name=setting.name)
    secret = secret_in(setting.url)
    if secret is not None:
        raise _refused(
            f"the url of repository '{setting.name}' holds a secret ({secret}): whoever lists processes reads it.",
            "Take it out, and give it to backup-ops as an environment variable: see docs/jobs-yaml.md, Remotes.",
        )
    address = parse_address(setting.url)
    if address is None:
        raise _refused(
            f"repository '{setting.name}' is at {setting.url}, which is neither a full path nor a remote of rclone.",
            "Write /PATH, NAME:PATH for a configured remote, or :BACKEND,OPTION=VALUE:PATH.",
        )
    environment = _environment(address, os.environ)
    if not address.is_whole and "RCLONE_CONFIG" not in environment and address.variable not in environment:
        raise _unknown_remote(setting, address)
    secrets = [value for name, value in environment.items() if is_secret(name) or name.endswith("_KEY")]
    # https://TOKEN@HOST, or USER:PASSWORD@: and the password by itself, for who answers may repeat it.
    for user in (found for value in environment.values() for found in _USER_IN_URL.findall(value)):
        password = user.partition(":")[2]
        secrets += [user, password, user.partition("#")[0], password.partition("#")[0]]  # a url ends at its #
    return Location(
        shown=setting.url,
        folder=None,
        start=address.start,
        place=address.path if address.path == "/" else address.path.rstrip("/"),
        environment=PLAIN_ENVIRONMENT | environment,
        hidden=_spellings([secret for secret in secrets if len(secret) >= _SHORTEST_HIDDEN]),
        password=setting.password,
        name=setting.name,
    )


def _environment(address: Address, ours: Mapping[str, str]) -> dict[str, str]:
    """What of our environment configures this remote, and those it is made of."""
    found: dict[str, str] = {}
    if address.is_whole:
        prefix = f"RCLONE_{_as_variable(address.name)}_"
        found |= {name: value for name, value in ours.items() if name.startswith(prefix)}
        waiting = _MENTIONED.findall(address.options)
    else:
        waiting = [address.name, *_MENTIONED.findall(address.options)]
    seen: set[str] = set()
    while waiting:
        name = _as_variable(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        own = {key: value for key, value in ours.items() if key.startswith(f"RCLONE_CONFIG_{name}_")}
        found |= own
        for value in own.values():
            waiting += _MENTIONED.findall(value)
    if not address.is_whole or seen:
        found |= {name: ours[name] for name in _CONFIG_VARIABLES if name in ours}
    return found


def _spellings(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """As they are, and as rclone quotes them in a message, the message in a line of JSON, and both; the longest first:
    what is left of a secret when a part of it was hidden would be found by nobody."""
    found = set(secrets)
    for _ in range(2):
        found |= {json.dumps(text, ensure_ascii=False)[1:-1] for text in found}
    return tuple(os.fsencode(text) for text in sorted(found, key=len, reverse=True))


def _as_variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(" ", "_")


def _unknown_remote(setting: Repository, address: Address) -> EngineError:
    what = f"remote '{address.name}' of repository '{setting.name}' ({setting.url}) is not configured"
    if address.variable is None:
        return _refused(
            f"{what}: a name such as this one can only stand in a file, and RCLONE_CONFIG names none.",
            "Set RCLONE_CONFIG to the path of your rclone.conf where backup-ops is started.",
        )
    return _refused(
        f"{what}: neither {address.variable} nor RCLONE_CONFIG is set in this process.",
        f"Correct the name in the url; or, where backup-ops is started, set {address.variable} and what else the remote"
        " needs, or RCLONE_CONFIG to the path of your rclone.conf; or write the whole address, such as"
        " :sftp,host=NAS,user=ME:/PATH.",
    )


def _refused(message: str, remedy: str) -> EngineError:
    return EngineError(failure_of("config_invalid", message, remedy))
