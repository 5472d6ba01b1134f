"""The first jobs.yaml, written by `backup-ops init`."""

from __future__ import annotations

import os
import re
import unicodedata

from backup_ops.job import name_problem

_PLAIN = re.compile(r"[/A-Za-z0-9][A-Za-z0-9/._-]*")


def template(
    *, source: str | None = None, repository: str | None = None, home: str | None = None, schema: str | None = None
) -> str:
    """A commented jobs.yaml that loads. Without `source` and `repository` their lines are there as comments.

    `repository` is a folder or an address, `home` adds a job that backs up the home itself, `schema` is the path or
    address of the JSON Schema that editors complete by. Raises ValueError for a path that is not UTF-8.
    """
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += [
        "# What is backed up, and where to. Check it with `backup-ops validate`, run a job with `backup-ops run NAME`.",
        "# Every setting is described in docs/jobs-yaml.md.",
        "version: 1",
        "",
        "# Where snapshots are kept. The first run makes the folder; the folder above it must be there.",
        "# rclone keeps whole files, unencrypted unless it has a password: {..., password: {env: BACKUPS_PASSWORD}}",
        "repositories:",
        _commented(
            repository is None, f"  backups: {{engine: rclone, url: {_text(repository or '/mnt/disk/backups')}}}"
        ),
        "",
        "jobs:",
    ]
    name = _job_name(source)
    is_comment = source is None or repository is None
    lines += [
        _commented(is_comment, line)
        for line in (
            f"  {name}:",
            f"    source: {_text(source or '/srv/photos')}",
            "    repository: backups",
        )
    ]
    optional = "  #   " if is_comment else "    # "
    lines += [
        optional + 'exclude: ["*.tmp", .cache]',
        optional + "limits: {timeout: 2h, bandwidth: 20M, priority: 5}   # priority 0-9, higher starts first",
        optional + "guard: {min_files: 1, max_delete_percent: 50}        # stops a run whose source looks wrong",
    ]
    if home is not None:
        own = "backup-ops-home" if name != "backup-ops-home" else "backup-ops-own-home"
        lines += [
            "",
            "  # The history and this file: what a restore on a new machine starts from.",
            "  # Left out is what is made anew, and the keys of the dashboard.",
            *(
                _commented(repository is None, line)
                for line in (
                    f"  {own}:",
                    f"    source: {_text(home)}",
                    "    repository: backups",
                    '    exclude: ["/history.duckdb*", "/operate.*", /locks/, /queue/, /runs/]',
                )
            ),
        ]
    return "\n".join(lines) + "\n"


def _commented(is_comment: bool, line: str) -> str:
    return f"  # {line[2:]}" if is_comment else line


def _text(value: str) -> str:
    """The value as YAML reads it back: plain where that is safe, else in double quotes."""
    value.encode()  # a path whose bytes are not UTF-8 raises here, as a ValueError
    if not re.match(r"[/~]|[\w.-]+:", value):
        value = os.path.abspath(value)
    if _PLAIN.fullmatch(value):
        return value
    letters = (
        "\\" + letter if letter in '"\\' else letter if letter.isprintable() else f"\\U{ord(letter):08x}"
        for letter in value
    )
    return '"' + "".join(letters) + '"'


def _job_name(source: str | None) -> str:
    """The last name of the source, without what a name cannot hold."""
    name = unicodedata.normalize("NFC", os.path.basename((source or "photos").rstrip("/")))
    name = "-".join("".join(letter if not name_problem(f"a{letter}") else " " for letter in name).split()).lstrip("._-")
    return name[:64] if name and not name_problem(name[:64]) else "files"
