"""A failure: why something went wrong, whether it can pass by itself, and what to do."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
SEVERITIES: tuple[Severity, ...] = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
COMPONENTS = (
    "job_manager",
    "background_monitor",
    "websocket",
    "storage",
    "engine",
    "ui",
    "api",
    "scheduler",
    "notifier",
    "other",
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """`transient` says whether the same thing may work later with nothing changed by a person."""

    error_type: str
    severity: Severity
    component: str
    transient: bool
    message: str
    remedy: str


@dataclass(frozen=True)
class ErrorType:
    severity: Severity
    component: str
    transient: bool
    remedy: str


ERROR_TYPES: dict[str, ErrorType] = {
    "source_missing": ErrorType(
        "HIGH", "engine", False, "Mount or create the source folder, or correct 'source' in jobs.yaml."
    ),
    "permission_denied": ErrorType(
        "HIGH", "engine", False, "Grant this user read access, or exclude the path in jobs.yaml."
    ),
    "auth_failed": ErrorType("HIGH", "engine", False, "Check user name, key and password of the repository."),
    "wrong_password": ErrorType(
        "CRITICAL", "engine", False, "Give the password the repository was made with. Nothing was read or written."
    ),
    "password_missing": ErrorType("HIGH", "engine", False, "Put the password where jobs.yaml says that it is."),
    "repository_missing": ErrorType(
        "CRITICAL", "storage", False, "Mount or connect the repository, or correct its url."
    ),
    "repository_locked": ErrorType("MEDIUM", "storage", True, "Wait until the other run is over; it is tried again."),
    "repository_corrupt": ErrorType(
        "CRITICAL", "storage", False, "Do not write to it. Restore it from its own copy, or start a new repository."
    ),
    "disk_full": ErrorType(
        "HIGH", "storage", False, "Free space where the repository lies, or move it to a larger disk."
    ),
    "read_only": ErrorType(
        "HIGH", "storage", False, "Mount the repository's file system read-write; check the disk for errors first."
    ),
    "network_error": ErrorType("MEDIUM", "storage", True, "Check that the host is up and reachable from here."),
    "tls_error": ErrorType("HIGH", "storage", False, "Check the server's certificate and this machine's clock."),
    "rate_limited": ErrorType("MEDIUM", "storage", True, "Wait, or lower limits.bandwidth."),
    "server_error": ErrorType("MEDIUM", "storage", True, "The server failed, or is full: its own log tells."),
    "source_changed": ErrorType("LOW", "engine", True, "Back up from a file system snapshot, or when nobody writes."),
    "partial": ErrorType(
        "MEDIUM", "engine", False, "Look at the files named in the log; exclude them or make them readable."
    ),
    "timeout": ErrorType("MEDIUM", "engine", True, "Raise limits.timeout in jobs.yaml, or find what slows the run."),
    "cancelled": ErrorType("LOW", "job_manager", False, "Run it again when it suits."),
    "interrupted": ErrorType("HIGH", "job_manager", True, "Run it again; nothing half-written is used."),
    "engine_missing": ErrorType("HIGH", "engine", False, "Install the tool, or name its path under settings.engines."),
    "config_invalid": ErrorType(
        "HIGH", "job_manager", False, "Correct jobs.yaml; `backup-ops validate` shows the line."
    ),
    "too_many_deletes": ErrorType("HIGH", "job_manager", False, "If the deletions are meant, run once with --force."),
    "name_invalid": ErrorType(
        "MEDIUM", "engine", False, "Shorten or rename the file; the repository cannot hold its name."
    ),
    "io_error": ErrorType(
        "CRITICAL", "storage", False, "Check the disk: `dmesg`, `smartctl -a`. Copy what is still readable first."
    ),
    "out_of_memory": ErrorType(
        "HIGH", "engine", True, "Give the machine more memory or run fewer jobs at once (settings.max_running)."
    ),
    "hook_failed": ErrorType("HIGH", "job_manager", False, "Run the hook's command by hand and mend it."),
    "unknown": ErrorType("MEDIUM", "other", False, "No known remedy. Open the log at the first error."),
    "none": ErrorType("LOW", "other", False, ""),
}


def failure_of(error_type: str, message: str, remedy: str | None = None, **overrides: Any) -> Failure:
    """A failure of that type with the type's severity, component, transience and remedy where not given."""
    known = ERROR_TYPES.get(error_type, ERROR_TYPES["unknown"])
    failure = Failure(
        error_type=error_type,
        severity=known.severity,
        component=known.component,
        transient=known.transient,
        message=message,
        remedy=known.remedy if remedy is None else remedy,
    )
    return replace(failure, **overrides)


# Cause before consequence: the first rule that matches anywhere in the output wins over all below it.
_RULES: tuple[tuple[str, str], ...] = (
    # Of crypt, which adds "bad password?" to what is damaged: a wrong password is found out before by other means. The
    # last two are of what a power cut left short.
    (
        "repository_corrupt",
        (
            r"failed to authenticate decrypted block|not an encrypted file|file is too short to be encrypted"
            r"|truncated block header"
        ),
    ),
    ("out_of_memory", r"out of memory|cannot allocate memory|fatal error: runtime: cannot allocate"),
    (
        "auth_failed",
        (
            r"unable to authenticate|permission denied \((?:publickey|password|keyboard-interactive)|401 unauthorized"
            r"|wrong password or no key|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|403 forbidden"
            r"|bad password"
        ),
    ),
    (
        "disk_full",
        r"no space left on device|file too big for remaining disk space|quota exceeded|insufficient storage",
    ),
    ("read_only", r"read-only file system"),
    ("io_error", r"input/output error"),
    ("tls_error", r"x509:|certificate (?:has expired|verify failed|signed by unknown)|tls: |ssl handshake"),
    ("rate_limited", r"rate ?limit|too many requests|\b429\b|slow ?down"),
    ("repository_locked", r"already locked|unable to create lock|failed to create/acquire the lock"),
    (
        "repository_corrupt",
        r"ciphertext verification failed|invalid data returned|integrity error",
    ),
    ("source_missing", r"error reading source root directory|source director(?:y|ies)/?\w* do(?:es)? not exist"),
    (
        "repository_missing",
        r"is there a repository at|repository .{0,200}does not exist|error reading destination root directory",
    ),
    (
        "network_error",
        (
            r"connection refused|connection reset|connection lost|no such host|no route to host|network is unreachable"
            r"|broken pipe|failed to send packet|use of closed network connection"
            r"|i/o timeout|awaiting response headers|connection timed out|unexpected eof|: eof\b"
        ),
    ),
    (
        "server_error",
        r"\b50[0234]\b .{0,40}(?:error|unavailable|gateway|timeout)|statuscode: 50[0234]\b|api error internalerror",
    ),
    ("timeout", r"max transfer duration reached|deadline exceeded"),
    ("too_many_deletes", r"max-delete threshold"),
    ("source_changed", r"source file is being updated|file changed as we read it|changed while"),
    ("name_invalid", r"file name too long|invalid file name"),
    ("permission_denied", r"permission denied|operation not permitted"),
    ("config_invalid", r"unknown flag|didn't find section in config file|unknown command|didn't find backend"),
    ("source_missing", r"no such file or directory|directory not found"),
)
_COMPILED = tuple((error_type, re.compile(pattern, re.IGNORECASE)) for error_type, pattern in _RULES)

_ERRNO_TYPES = {
    errno.ENOENT: "source_missing",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EIO: "io_error",
    errno.ENAMETOOLONG: "name_invalid",
    errno.ENOMEM: "out_of_memory",
    errno.ETIMEDOUT: "network_error",
    errno.ECONNREFUSED: "network_error",
    errno.ECONNRESET: "network_error",
    errno.EPIPE: "network_error",
    errno.EHOSTUNREACH: "network_error",
    errno.ENETUNREACH: "network_error",
}
_RCLONE_EXIT_TYPES = {3: "source_missing", 8: "partial", 10: "timeout"}
_STOPPED_EXIT_CODES = (130, -2)


def classify(engine: str = "", exit_code: int | None = None, output: str | bytes = "") -> Failure:
    """What a tool's exit code and output mean: an end by signal first, then the messages, then the tool's own codes.

    Lines of rclone's and restic's JSON logs are read for their `msg`, `message` and `error`; only lines that report an
    error are looked at when there are any. Never raises; what nothing explains is `unknown`.
    """
    text = output.decode("utf-8", "backslashreplace") if isinstance(output, bytes) else str(output)
    messages = _messages(text)
    if not messages and exit_code in (0, None):
        return failure_of("none", "The tool reported nothing.")
    if exit_code in _STOPPED_EXIT_CODES:
        return failure_of("cancelled", f"{engine or 'the tool'} was stopped by an interrupt.")
    if exit_code is not None and exit_code < 0:
        return failure_of("interrupted", f"{engine or 'the tool'} was killed by signal {-exit_code}.")
    searched = "\n".join(messages)
    for error_type, pattern in _COMPILED:
        match = pattern.search(searched)
        if match:
            line = next((message for message in messages if pattern.search(message)), messages[0])
            return failure_of(error_type, _clip(line))
    if engine == "rclone" and exit_code in _RCLONE_EXIT_TYPES:
        return failure_of(
            _RCLONE_EXIT_TYPES[exit_code], _clip(messages[-1] if messages else f"rclone exited with {exit_code}")
        )
    last = messages[-1] if messages else f"{engine or 'the tool'} exited with {exit_code} and said nothing."
    return failure_of("unknown", _clip(last))


def failure_of_os_error(error: OSError, message: str, remedy: str | None = None) -> Failure:
    """The failure behind an OSError, by its errno."""
    return failure_of(_ERRNO_TYPES.get(error.errno or 0, "unknown"), message, remedy)


def _messages(text: str) -> list[str]:
    errors: list[str] = []
    others: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line:
            continue
        if line.startswith("{"):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            if isinstance(fields, dict):
                said = fields.get("msg") or fields.get("message") or fields.get("error") or ""
                if isinstance(said, dict):
                    said = said.get("message", "")
                thing = fields.get("object") or fields.get("item")
                said = f"{thing}: {said}" if thing and said else str(said)
                is_error = fields.get("level") in ("error", "critical", "fatal") or fields.get("message_type") in (
                    "error",
                    "exit_error",
                )
                if said:
                    (errors if is_error else others).append(said)
                continue
        others.append(line)
    return errors or others


def _clip(line: str) -> str:
    return line if len(line) <= 500 else line[:500] + " …"
