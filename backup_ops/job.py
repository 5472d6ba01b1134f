"""A job, its repository and their settings, as constant objects: what jobs.yaml says, in seconds, bytes and full paths.

Setting
 ├── Job             what to back up, where to, when; holds the seven below it
 │    ├── Schedule   Retention   Limits   Retry   Guard   Hooks   Drill
 ├── Repository      where snapshots go
 ├── Notify          whom to tell
 └── Settings        what holds for all jobs
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import param

from backup_ops.errors import UsageError
from backup_ops.quantity import format_duration

GIB = 1024**3

SecretKind = Literal["env", "file", "command", "keyring"]
SECRET_KINDS: tuple[SecretKind, ...] = ("env", "file", "command", "keyring")
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
REPOSITORY_ENGINES = ("rclone", "restic")

# ASCII: letters, digits, . _ - and spaces inside, so that a name is safe in a shell's quotes, in a path and behind
# #/jobs/ in an address. Above ASCII the pattern takes everything and `name_problem` looks at the category.
NAME_PATTERN = r"^[^\x00-/:-@\[-`{-\x7f]([^\x00-,/:-@\[-^`{-\x7f]| (?! |$)){0,63}$"
_NAME = re.compile(NAME_PATTERN)
_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")

SettingT = TypeVar("SettingT", bound="Setting")


def name_problem(name: str) -> str:
    """Why a job or a repository cannot be called this; empty when it can.

    A name is 1 to 64 letters, digits, `.`, `_`, `-` and single spaces inside, of any script; it starts with a letter or
    a digit.

    >>> name_problem("orders-db"), name_problem("Mail spool")
    ('', '')
    >>> name_problem("my/photos")
    "holds '/'"
    """
    if not name:
        return "is empty"
    if len(name) > 64:
        return f"is {len(name)} characters long, and 64 are allowed"
    for character in name:
        if character not in "._- " and unicodedata.category(character)[0] not in "LNM":
            return f"holds {character!r}"
    if unicodedata.category(name[0])[0] not in "LN":
        return f"starts with {name[0]!r}"
    if name[-1] == " " or "  " in name:
        return "has a space at its end or two in a row"
    if _RUN_ID.fullmatch(name):
        return "looks like the id of a run"
    return "" if _NAME.match(name) else "cannot be used"


def local_folder(url: str) -> str | None:
    """The folder a repository's url means on this machine; None for a remote one.

    >>> local_folder("/mnt/disk"), local_folder("local:/mnt/disk"), local_folder("sftp:nas:/vault")
    ('/mnt/disk', '/mnt/disk', None)
    """
    folder = re.sub(r"^:?local:(?=/)", "", url)
    return folder if folder.startswith("/") else None


@dataclass(frozen=True)
class SecretReference:
    """Where a secret is found, never the secret. `value`: a variable, path, keyring `service/user`, or command."""

    kind: SecretKind
    value: str | tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.value if isinstance(self.value, str) else ' '.join(self.value)}"

    def as_data(self) -> dict[str, Any]:
        return {self.kind: self.value if isinstance(self.value, str) else list(self.value)}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> SecretReference:
        ((kind, value),) = data.items()
        if kind not in SECRET_KINDS:
            raise ValueError(f"'{kind}' is none of {', '.join(SECRET_KINDS)}")
        return cls(kind, value if isinstance(value, str) else tuple(value))


class Setting(param.Parameterized):
    """Base of all settings: constant once made; `as_data` and `from_data` carry them as plain JSON data."""

    attributes: ClassVar[tuple[str, ...]] = ()
    """The names of the settings, in the order they are written in the class."""

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, param.Parameter)}
        for parameter in own.values():
            parameter.constant = True
        cls.attributes = tuple(own)

    def __init__(self, **values: Any) -> None:
        # param looks for numpy among the loaded modules, and takes one that another thread is still loading. An import
        # statement waits for that thread.
        if "numpy" in sys.modules:
            import numpy  # noqa: F401
        super().__init__(**values)  # type: ignore[no-untyped-call]  # param annotates its parameters, not __init__

    def as_data(self) -> dict[str, Any]:
        return {name: _as_data(getattr(self, name)) for name in self.attributes}

    @classmethod
    def from_data(cls: type[SettingT], data: dict[str, Any]) -> SettingT:
        """Raises UsageError when the data holds a setting this version does not know, or a value it cannot take."""
        known = cls.attributes
        unknown = [name for name in data if name not in known]
        if unknown:
            raise UsageError(
                f"{cls.__name__} data holds '{unknown[0]}', which this version does not know.",
                hint="Update backup-ops, or submit the job again.",
            )
        try:
            return cls(**{name: _from_data(cls.param[name], value) for name, value in data.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{cls.__name__} data cannot be used: {error}", hint="Submit the job again.") from error


def _as_data(value: Any) -> Any:
    if isinstance(value, (Setting, SecretReference)):
        return value.as_data()
    if isinstance(value, (list, tuple)):
        return [_as_data(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


def _from_data(parameter: param.Parameter[Any], value: Any) -> Any:
    kind = getattr(parameter, "class_", None)
    if value is not None and isinstance(kind, type) and issubclass(kind, (Setting, SecretReference)):
        return kind.from_data(value)
    return value


class Schedule(Setting):
    cron = param.String(
        default=None, allow_None=True, doc="Due times as five cron fields: minute hour day month weekday."
    )
    every_s = param.Number(
        default=None,
        allow_None=True,
        bounds=(60, None),
        doc="Due this long after the last due time; instead of `cron`.",
    )
    timezone = param.String(
        default=None, allow_None=True, doc="Time zone the cron fields are read in; absent: this machine's."
    )
    jitter_s = param.Number(default=0.0, bounds=(0, None), doc="A due time is moved later by up to this, at random.")
    grace_s = param.Number(
        default=None,
        allow_None=True,
        bounds=(0, None),
        doc="How late a heartbeat may come before the run counts as missed.",
    )

    def __str__(self) -> str:
        """As people read it: `every 6 h`, `0 2 * * * Europe/Berlin`."""
        if self.every_s is not None:
            return f"every {format_duration(self.every_s)}"
        return " ".join(part for part in (self.cron, self.timezone) if part)


class Retention(Setting):
    last = param.Integer(default=0, bounds=(0, None), doc="How many of the newest snapshots are kept.")
    hourly = param.Integer(default=0, bounds=(0, None), doc="For how many hours the newest snapshot of each is kept.")
    daily = param.Integer(default=0, bounds=(0, None), doc="For how many days the newest snapshot of each is kept.")
    weekly = param.Integer(default=0, bounds=(0, None), doc="For how many weeks the newest snapshot of each is kept.")
    monthly = param.Integer(default=0, bounds=(0, None), doc="For how many months the newest snapshot of each is kept.")
    yearly = param.Integer(default=0, bounds=(0, None), doc="For how many years the newest snapshot of each is kept.")


class Limits(Setting):
    timeout_s = param.Number(
        default=None,
        allow_None=True,
        bounds=(0, None),
        inclusive_bounds=(False, True),
        doc="A run that takes longer is stopped and has failed; absent: no limit.",
    )
    bandwidth_bytes_s = param.Integer(
        default=None, allow_None=True, bounds=(1, None), doc="Bytes per second the run may move; absent: no limit."
    )
    priority = param.Integer(default=5, bounds=(0, 9), doc="Order in which waiting runs start, higher first.")


class Retry(Setting):
    max_retries = param.Integer(
        default=2, bounds=(0, 100), doc="How often a run is tried again after a failure that may pass by itself."
    )
    delay_s = param.Number(default=60.0, bounds=(0, None), doc="Wait before the first retry; it doubles with each.")
    max_delay_s = param.Number(default=900.0, bounds=(0, None), doc="The longest wait between two tries.")


class Guard(Setting):
    min_files = param.Integer(
        default=1, bounds=(0, None), doc="A source with fewer files than this fails the run before anything is written."
    )
    max_delete_percent = param.Number(
        default=None,
        allow_None=True,
        bounds=(0, 100),
        doc="A run that finds more than this share of the last snapshot's files gone fails; absent: no limit.",
    )


class Hooks(Setting):
    before = param.List(
        default=[], item_type=list, doc="Commands that run before the backup, in order. Exit code 75 skips the run."
    )
    after = param.List(default=[], item_type=list, doc="Commands that run after a backup that succeeded.")
    on_failure = param.List(default=[], item_type=list, doc="Commands that run after a backup that failed.")
    timeout_s = param.Number(
        default=300.0, bounds=(0, None), inclusive_bounds=(False, True), doc="A command that takes longer is stopped."
    )


class Drill(Setting):
    every_s = param.Number(
        default=None, allow_None=True, bounds=(3600, None), doc="How often a restore is tried, to prove that it works."
    )
    sample = param.Integer(default=20, bounds=(1, None), doc="How many files a drill restores and compares.")


class Notify(Setting):
    url = param.ClassSelector(
        class_=SecretReference, default=None, doc="Apprise address that is told, by reference: it holds secrets."
    )
    min_severity = param.Selector[str](
        objects=list(SEVERITIES), default="HIGH", doc="Errors below this severity are not told."
    )


class Repository(Setting):
    name = param.String(default="", doc="The name jobs use.")
    engine = param.Selector[str](
        objects=list(REPOSITORY_ENGINES), default="rclone", doc="The tool that writes and reads the snapshots."
    )
    url = param.String(default="", doc="Where snapshots are kept: a folder's full path, or the tool's own address.")
    password = param.ClassSelector(
        class_=SecretReference,
        default=None,
        doc="Encrypts the snapshots (restic, rclone crypt); by reference, never the password itself.",
    )
    line = param.Integer(default=0, bounds=(0, None), doc="Line of jobs.yaml it starts at; 0: it is from elsewhere.")

    @property
    def folder(self) -> str | None:
        """The folder on this machine, or None for a remote repository."""
        return local_folder(self.url)


class Job(Setting):
    name = param.String(default="", doc="The name it is called by.")
    job_uid = param.String(default="", doc="What its history hangs on, so that it outlives a rename; absent: the name.")
    source = param.List(default=[], item_type=str, doc="Folders to back up, full paths.")
    repository = param.String(default=None, allow_None=True, doc="Name of the repository its snapshots go to.")
    engine = param.Selector[str](
        objects=[*REPOSITORY_ENGINES, "command", "heartbeat"], default="rclone", doc="What moves the bytes."
    )
    exclude = param.List(
        default=[],
        item_type=str,
        doc="What is left out: `*.tmp` or `cache` at any depth, `/build` or `var/*.log` from the top of the source, "
        "`cache/` only as a folder; `**` crosses folders, `[a-z]` is a set. Nothing is taken back in with `!`.",
    )
    schedule = param.ClassSelector(class_=Schedule, default=None, doc="When it runs; absent: by hand.")
    retention = param.ClassSelector(
        class_=Retention, default=None, doc="Which snapshots are kept; absent: nothing is ever deleted."
    )
    limits = param.ClassSelector(class_=Limits, default=Limits(), instantiate=False, doc="What a run may use.")
    retry = param.ClassSelector(
        class_=Retry, default=Retry(), instantiate=False, doc="What happens after a failure that may pass by itself."
    )
    guard = param.ClassSelector(
        class_=Guard, default=Guard(), instantiate=False, doc="What stops a run that would back up a wrong source."
    )
    hooks = param.ClassSelector(
        class_=Hooks, default=Hooks(), instantiate=False, doc="Commands that run around the backup."
    )
    drill = param.ClassSelector(class_=Drill, default=None, doc="Restores that are tried by themselves; absent: none.")
    command = param.List(
        default=[], item_type=str, doc="Program and arguments; what it prints becomes the file `output`."
    )
    output = param.String(default=None, allow_None=True, doc="File name that holds what `command` prints.")
    heartbeat = param.Boolean(default=False, doc="The backup runs elsewhere and tells us: nothing is run here.")
    line = param.Integer(default=0, bounds=(0, None), doc="Line of jobs.yaml it starts at; 0: it is from elsewhere.")

    def __init__(self, **values: Any) -> None:
        super().__init__(**{**values, "job_uid": values.get("job_uid") or values.get("name", "")})


class Settings(Setting):
    max_running = param.Integer(default=4, bounds=(1, 256), doc="How many runs may go on at once.")
    restore_roots = param.List(
        default=[], item_type=str, doc="Folders the dashboard may restore below; absent: `restores` in the home."
    )
    logs_keep = param.Integer(default=30, bounds=(1, None), doc="For how many runs of a job the full log is kept.")
    logs_cap_bytes = param.Integer(
        default=5 * GIB, bounds=(0, None), doc="Space all full logs may take; the oldest go first."
    )
    engines = param.Dict(default={}, doc="Full path of a tool, where it is not the one that would be found.")


def config_version(job: Job, repository: Repository | None) -> str:
    """12 hex digits that change when source, exclude, engine or repository (its name or url) change, and only then."""
    place = None if repository is None else [repository.name, repository.engine, repository.url]
    # surrogatepass: a hash must not fail on a string, wherever it came from.
    facts = json.dumps([sorted(job.source), job.exclude, job.engine, place], ensure_ascii=False)
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def job_as_data(job: Job, repository: Repository | None) -> dict[str, Any]:
    """Job and repository as JSON data, every setting written out: a queued run keeps today's defaults too."""
    return {"job": job.as_data(), "repository": None if repository is None else repository.as_data()}


def job_from_data(data: dict[str, Any]) -> tuple[Job, Repository | None]:
    """The reverse of `job_as_data`. Raises UsageError, never anything else."""
    if not isinstance(data, dict) or not isinstance(data.get("job"), dict):
        raise UsageError("the data of a job is not what `job_as_data` writes.", hint="Submit the job again.")
    repository = data.get("repository")
    if repository is not None and not isinstance(repository, dict):
        raise UsageError("the data of a repository is not what `job_as_data` writes.", hint="Submit the job again.")
    return Job.from_data(data["job"]), None if repository is None else Repository.from_data(repository)
