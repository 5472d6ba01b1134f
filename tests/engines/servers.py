"""Remotes on this machine: `rclone serve` on a free port of 127.0.0.1, over a folder, with user and password."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backup_ops.engines.rclone.binary import find_binary

USER, PASSWORD = "somebody", "between the hills"
KEY_ID, KEY = "KEY00000000001", "a-secret-key-of-many-letters"
KINDS = ("sftp", "s3", "webdav")
_STARTS_WITHIN_S = 30.0


@dataclass
class Server:
    """`folder` is what it serves; for s3 each folder in it is a bucket. `variables` configure a remote of its kind."""

    kind: str
    folder: Path
    port: int = field(default_factory=lambda: _free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a test keeps its repository: not at the top, so that there is a folder above it."""
        return f"{self.kind}test:store/vault"

    @property
    def variables(self) -> dict[str, str]:
        settings = {
            "sftp": {"HOST": "127.0.0.1", "PORT": str(self.port), "USER": USER, "PASS": obscured(PASSWORD)},
            "s3": {
                "PROVIDER": "Rclone",
                "ENDPOINT": f"http://127.0.0.1:{self.port}",
                "ACCESS_KEY_ID": KEY_ID,
                "SECRET_ACCESS_KEY": KEY,
            },
            "webdav": {
                "URL": f"http://127.0.0.1:{self.port}",
                "VENDOR": "rclone",
                "USER": USER,
                "PASS": obscured(PASSWORD),
            },
        }[self.kind]
        name = f"RCLONE_CONFIG_{self.kind.upper()}TEST"
        return {f"{name}_TYPE": self.kind} | {f"{name}_{key}": value for key, value in settings.items()}

    def start(self) -> None:
        access = ["--auth-key", f"{KEY_ID},{KEY}"] if self.kind == "s3" else ["--user", USER, "--pass", PASSWORD]
        self.process = subprocess.Popen(
            [
                find_binary(), "serve", self.kind, self.folder, "--addr", f"127.0.0.1:{self.port}", *access,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"RCLONE_CONFIG": "/dev/null", "PATH": os.environ["PATH"], "HOME": str(self.folder.parent)},
        )  # fmt: skip
        end = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.process.poll() is None, f"rclone serve {self.kind} ended"
            time.sleep(0.05)
        raise AssertionError(f"rclone serve {self.kind} does not listen")

    def stop(self) -> None:
        """At once, as a machine that loses power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[Server]:
    (folder / "store").mkdir(parents=True, exist_ok=True)
    server = Server(kind, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def obscured(secret: str) -> str:
    done = subprocess.run(
        [find_binary(), "obscure", "-"], input=secret.encode(), capture_output=True, check=True,
        env={"RCLONE_CONFIG": "/dev/null", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.stdout.decode().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
