"""The address of a remote repository, as rclone reads it: `NAME:path`, or `:backend,option=value:path`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VALUE = r"(?:\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|[^,:\"']*)"
_ADDRESS = re.compile(
    rf"(?P<start>(?P<colon>:?)(?P<name>[\w.+@][\w.+@ -]*)(?P<options>(?:,[\w-]+(?:={_VALUE})?)*):)(?P<path>.*)",
    re.DOTALL,
)
# No name of an option is longer; without a limit a long text without any would be searched for minutes.
_OPTION = re.compile(r"(?:^|[,:'\"])([\w.-]{1,60})=")
# The options of rclone's backends that hold what opens a door, by how they are called; what names a file or an address
# where such a thing is found may be written down. A command line may say a password to the program it starts; those of
# a server, to sum files or to serve them, have none to say.
_SECRET = re.compile(
    r"(?<!ask_)pass(?:word|phrase)?\d?$|secret|token$|credentials?$|authorization$|cookies$|mnemonic$|access_grant$|sas_url$"
    r"|connection_string$|session_id$|key_pem$|^key$|(?:api|library|master|private|account|access|customer)_keys?$"
    r"|key_base64$|headers$|(?:^|[_.])ssh$|(?<!sum)(?<!server)_command$",
    re.IGNORECASE,
)
# The options whose value is a program that rclone starts, here or on the server.
_PROGRAM = re.compile(r"(?:^|[_.])ssh$|command$|mapper$", re.IGNORECASE)
# Who a server is told that one is, where one name alone can be a token.
_USER_IN_WEB = re.compile(r"https?://[^/@'\"]+@", re.IGNORECASE)
_CAN_BE_A_VARIABLE = re.compile(r"\w+", re.ASCII)


@dataclass(frozen=True)
class Address:
    """`name` is that of a configured remote, or of a backend when the address says all about it (`is_whole`).

    `start` is everything up to the path: what other paths on the same remote begin with.
    """

    start: str
    name: str
    is_whole: bool
    options: str
    path: str

    @property
    def variable(self) -> str | None:
        """The environment variable that configures the remote; None when none can, or none has to."""
        if self.is_whole or not _CAN_BE_A_VARIABLE.fullmatch(self.name):
            return None
        return f"RCLONE_CONFIG_{self.name.upper()}_TYPE"


def parse_address(url: str) -> Address | None:
    """The parts of the address; None for what rclone would not take for a remote.

    >>> parse_address("nas:/vault").name, parse_address(":sftp,host=nas:vault").is_whole, parse_address("/mnt/disk")
    ('nas', True, None)
    """
    found = _ADDRESS.fullmatch(url)
    if found is None:
        return None
    return Address(found["start"], found["name"], bool(found["colon"]), found["options"], found["path"])


def secret_in(url: str) -> str | None:
    """The name of what in the address is a secret: an option of rclone, or `password` for what stands before an @; None
    when all may be read by everybody.

    >>> secret_in(":webdav,url=x,pass=abc:"), secret_in("https://me:abc@nas/"), secret_in(":sftp,key_file=/k:")
    ('pass', 'password', None)
    """
    # Nothing in front of the colon is looked at: each letter of a long word would be tried as its beginning.
    if _USER_IN_WEB.search(url) or any(":" in user for user in re.findall(r"://([^/@]*)@", url)):
        return "password"
    return next((name for name in _options_of(url) if is_secret(name)), None)


def program_in(url: str) -> str | None:
    """The name of the option that makes rclone start a program which the address names; None when there is none.

    >>> program_in(":sftp,host=nas,ssh='ssh -J gate':/v"), program_in(":sftp,host=nas:/v")
    ('ssh', None)
    """
    return next((name for name in _options_of(url) if _PROGRAM.search(_as_rclone_says(name))), None)


def is_secret(option: str) -> bool:
    """Whether the option of a backend holds a secret, by its name."""
    return _SECRET.search(_as_rclone_says(option)) is not None


def _options_of(url: str) -> list[str]:
    address = parse_address(url)
    if address is None and url.startswith(("/", "~")):
        return []
    # Also behind what ends the options: an address in an address needs quotes, and may be written without.
    searched = url if address is None or address.is_whole else address.options
    return _OPTION.findall(searched)


def _as_rclone_says(option: str) -> str:
    return option.replace("-", "_")
