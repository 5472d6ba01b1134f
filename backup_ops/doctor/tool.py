"""The tools that engines drive: which one is used, its version, and the checksum of its binary."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from backup_ops.engines.rclone.binary import find_binary
from backup_ops.errors import EngineMissing
from backup_ops.finding import Finding
from backup_ops.jobfile import JobFile


def engines(file: JobFile | None, *, is_own: bool) -> Iterator[Finding]:
    """Every binary is run to ask for its version, but for one that another user names: the file is not `is_own`."""
    configured = file.settings.engines.get("rclone") if file is not None else None
    if configured and not is_own:
        said = f"settings.engines, which another user wrote, names {configured}; it is not run here."
        yield Finding("engine", "ok", said)
        configured = None
    used: Path | None = None
    try:
        used = find_binary(configured)
    except EngineMissing as error:
        yield Finding("engine", "problem", error.message, error.hint)
    else:
        yield _binary("rclone", used, "")
    seen = {os.path.realpath(used)} if used is not None else set()
    beside = _or_none(find_binary) if configured else None
    for other in (beside, shutil.which("rclone")):
        if other is not None and os.path.realpath(other) not in seen:
            seen.add(os.path.realpath(other))
            yield _binary("rclone", Path(other), "found, not used: ")
    restic = shutil.which("restic")
    if restic is not None:
        yield _binary("restic", Path(restic), "found, not used by this version yet: ")


def _or_none(find: Callable[[], Path]) -> Path | None:
    try:
        return find()
    except EngineMissing:
        return None


def _binary(tool: str, path: Path, before: str) -> Finding:
    try:
        done = subprocess.run(
            [path, "version"], capture_output=True, text=True, errors="replace", timeout=20, stdin=subprocess.DEVNULL
        )
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else "it does not answer within 20 s"
        hint = f"Install {tool} anew, or name another under settings.engines."
        return Finding("engine", "warning" if before else "problem", f"{before}{path} cannot be run: {why}.", hint)
    words = (done.stdout.splitlines() or [""])[0].split()
    version = next((word.lstrip("v") for word in words[1:] if word.lstrip("v")[:1].isdigit()), "")
    if done.returncode != 0 or not version:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Finding(
            "engine", "warning" if before else "problem", f"{before}{path} is no {tool} that works: {said[0]}."
        )
    return Finding("engine", "ok", f"{before}{tool} {version}, {path}, sha256 {digest}.")
