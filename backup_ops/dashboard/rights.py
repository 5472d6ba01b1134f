"""The right to operate: a one-time link becomes a cookie of one browser.

The token lies in the home (0600), so whoever may read it may operate the home anyway. Opening the link spends the
token, a fresh one takes its place and is printed, so that another browser can be let in. The cookie is signed with a
key that lies beside the token: it outlives the server, and deleting `operate.key` takes the right from every browser.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from backup_ops import lock
from backup_ops.home import Home

COOKIE_DAYS = 30
_TOKEN_BYTES = 24


class Rights:
    """The right to operate one home. Usable from any thread and from several servers of one home at once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._key_file = home.path / "operate.key"
        # Cookies do not know ports: two servers of different homes on one host must not overwrite each other's.
        self.cookie_name = f"backup-ops-{hashlib.sha256(os.fsencode(home.path)).hexdigest()[:8]}"

    @property
    def is_for_looking(self) -> bool:
        """Whether nobody can operate from this server: its user may only look at the home."""
        return self._home.is_guest

    def token(self) -> str:
        """The token that the next link carries; made when there is none."""
        return _read(self._home.operate_token) or self._renew()

    def spend(self, offered: str) -> bool:
        """Whether that is the token. It is used up then: the next link carries another."""
        if self.is_for_looking:
            return False
        with lock.hold(self._home.locks / "operate.lock", wait_s=5.0):
            known = _read(self._home.operate_token)
            if known is None or not hmac.compare_digest(known.encode(), offered.encode()):
                return False
            self._renew()
            return True

    def grant(self, now: float | None = None) -> str:
        """The value of a cookie that carries the right for COOKIE_DAYS days."""
        issued = f"{int(time.time() if now is None else now)}.{secrets.token_urlsafe(12)}"
        return f"{issued}.{self._sign(issued)}"

    def holds(self, cookie: str | None, now: float | None = None) -> bool:
        """Whether a browser that sends this cookie may operate."""
        if not cookie or cookie.count(".") != 2:
            return False
        issued, _, signature = cookie.rpartition(".")
        try:
            key = _read(self._key_file)
        except OSError:
            return False
        if key is None or not hmac.compare_digest(signature.encode(), _signature(key, issued).encode()):
            return False
        age_s = (time.time() if now is None else now) - int(issued.partition(".")[0])
        return age_s < COOKIE_DAYS * 86400

    def _renew(self) -> str:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        _write(self._home.operate_token, token)
        return token

    def _sign(self, text: str) -> str:
        key = _read(self._key_file)
        if key is None:
            key = secrets.token_hex(32)
            _write(self._key_file, key)
        return _signature(key, text)


def _signature(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def say_link(rights: Rights, url: str) -> None:
    """Prints the one-time link, for the terminal of the server."""
    if rights.is_for_looking:
        print("Jobs cannot be run from there: the home is another user's, and this one may only look.\n", flush=True)
        return
    print(
        f"To run and cancel jobs from a browser, open this link once:\n\n    {url}?token={rights.token()}\n", flush=True
    )


def _read(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip() or None
    return None


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    os.replace(beside, path)
