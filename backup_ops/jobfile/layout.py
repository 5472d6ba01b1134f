"""What may stand where in jobs.yaml: each key, the parameter it sets and how its value is written.

The one table that reading, the JSON Schema and the reference page are made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backup_ops import job
from backup_ops.jobfile import kinds
from backup_ops.jobfile.kinds import Kind


@dataclass(frozen=True)
class Key:
    """`attribute` is the parameter of the section's class; a group (`logs`) has none and sets those of its keys."""

    name: str
    attribute: str
    kind: Kind | Section


@dataclass(frozen=True)
class Section:
    """A mapping of settings that becomes one object of class `setting`."""

    setting: type[job.Setting]
    keys: tuple[Key, ...]
    required: tuple[str, ...] = ()
    is_group: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys)

    def attributes(self) -> Iterator[str]:
        for key in self.keys:
            if isinstance(key.kind, Section) and key.kind.is_group:
                yield from key.kind.attributes()
            else:
                yield key.attribute


SCHEDULE = Section(
    job.Schedule,
    (
        Key("cron", "cron", kinds.CRON),
        Key("every", "every_s", kinds.DURATION),
        Key("timezone", "timezone", kinds.TIMEZONE),
        Key("jitter", "jitter_s", kinds.DURATION),
        Key("grace", "grace_s", kinds.DURATION),
    ),
)
RETENTION = Section(
    job.Retention,
    tuple(Key(name, name, kinds.INTEGER) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")),
)
LIMITS = Section(
    job.Limits,
    (
        Key("timeout", "timeout_s", kinds.DURATION),
        Key("bandwidth", "bandwidth_bytes_s", kinds.SIZE),
        Key("priority", "priority", kinds.INTEGER),
    ),
)
RETRY = Section(
    job.Retry,
    (
        Key("max_retries", "max_retries", kinds.INTEGER),
        Key("delay", "delay_s", kinds.DURATION),
        Key("max_delay", "max_delay_s", kinds.DURATION),
    ),
)
GUARD = Section(
    job.Guard,
    (Key("min_files", "min_files", kinds.INTEGER), Key("max_delete_percent", "max_delete_percent", kinds.NUMBER)),
)
HOOKS = Section(
    job.Hooks,
    (
        Key("before", "before", kinds.COMMANDS),
        Key("after", "after", kinds.COMMANDS),
        Key("on_failure", "on_failure", kinds.COMMANDS),
        Key("timeout", "timeout_s", kinds.DURATION),
    ),
)
DRILL = Section(
    job.Drill, (Key("every", "every_s", kinds.DURATION), Key("sample", "sample", kinds.INTEGER)), required=("every",)
)
JOB = Section(
    job.Job,
    (
        Key("source", "source", kinds.PATHS),
        Key("repository", "repository", kinds.REPOSITORY_NAME),
        Key("exclude", "exclude", kinds.PATTERNS),
        Key("schedule", "schedule", SCHEDULE),
        Key("retention", "retention", RETENTION),
        Key("limits", "limits", LIMITS),
        Key("retry", "retry", RETRY),
        Key("guard", "guard", GUARD),
        Key("hooks", "hooks", HOOKS),
        Key("drill", "drill", DRILL),
        Key("command", "command", kinds.WORDS),
        Key("output", "output", kinds.FILE_NAME),
        Key("heartbeat", "heartbeat", kinds.BOOLEAN),
        Key("uid", "job_uid", kinds.UID),
    ),
)
REPOSITORY = Section(
    job.Repository,
    (
        Key("engine", "engine", kinds.ENGINE),
        Key("url", "url", kinds.URL),
        Key("password", "password", kinds.SECRET),
    ),
    required=("url",),
)
NOTIFY = Section(
    job.Notify,
    (Key("url", "url", kinds.SECRET), Key("min_severity", "min_severity", kinds.SEVERITY)),
    required=("url",),
)
LOGS = Section(
    job.Settings, (Key("keep", "logs_keep", kinds.INTEGER), Key("cap", "logs_cap_bytes", kinds.SIZE)), is_group=True
)
SETTINGS = Section(
    job.Settings,
    (
        Key("max_running", "max_running", kinds.INTEGER),
        Key("restore_roots", "restore_roots", kinds.PATHS),
        Key("logs", "", LOGS),
        Key("engines", "engines", kinds.TOOLS),
    ),
)

TOP = ("version", "settings", "repositories", "jobs", "notify")
