"""A remote whose configuration is at fault: rclone does not get as far as asking it."""

from __future__ import annotations

import os
import re

from backup_ops.address import parse_address
from backup_ops.engines.rclone.location import Location
from backup_ops.failure import Failure, failure_of

_NOT_MADE = re.compile(r'Failed to create file system for (?:\w+ )?"(?:[^"\\]|\\.)*": (?P<why>.*)', re.DOTALL)
_MAY_BE = ("source_missing", "config_invalid", "permission_denied", "unknown")
"""What such a message is taken for. An address that nobody answers at is another matter."""

# In {settings} stands where the remote is configured.
_REMEDIES = (
    ("didn't find backend", "Correct the kind of storage in {settings}: see `rclone help backends`."),
    ("is it obscured", "Passwords stand in {settings} as `rclone obscure -` spells them, not as they are typed."),
    ("ssh.agent", "Name a key or a password (key_file, pass) in {settings}: no ssh agent is there to be asked."),
    ("known_?hosts|key is unknown|key mismatch", "Compare its key with the host's own, and add it to the known hosts."),
    (
        "no such file|permission denied",
        "Correct the path in {settings}, or put the file there, readable for this user.",
    ),
)


def misconfigured(failure: Failure, location: Location) -> Failure | None:
    """The failure as one of the remote's configuration, or None when it is none."""
    found = _NOT_MADE.match(failure.message)
    if found is None or failure.error_type not in _MAY_BE:
        return None
    return failure_of(
        "config_invalid", f"repository {location} cannot be opened: {found['why']}.", _remedy(found["why"], location)
    )


def _remedy(why: str, location: Location) -> str:
    file = location.environment.get("RCLONE_CONFIG", os.devnull)
    if "didn't find section" in why:
        if not os.path.exists(file):
            return f"RCLONE_CONFIG names {file}, which is not there: correct it where backup-ops is started."
        return f"Correct the name in the url of repository '{location.name}', or add the remote to {file}."
    settings = _settings(location, file)
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, why, re.IGNORECASE):
            return remedy.format(settings=settings)
    return f"Check what configures the remote: {settings}."


def _settings(location: Location, file: str) -> str:
    address = parse_address(location.start)
    if address is None:
        return f"the url of repository '{location.name}'"
    prefix = f"RCLONE_{'' if address.is_whole else 'CONFIG_'}{address.name.upper()}_"
    if any(name.startswith(prefix) for name in location.environment):
        return f"the variables {prefix}*"
    if address.is_whole:
        return f"the url of repository '{location.name}'"
    return f"{file}, section [{address.name}]"
