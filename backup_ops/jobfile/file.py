"""jobs.yaml as a whole: reading it, and what was read."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from backup_ops.errors import ConfigInvalid, Problem
from backup_ops.job import Job, Notify, Repository, Settings, name_problem
from backup_ops.jobfile import checks, layout
from backup_ops.jobfile.document import compose, read_bytes
from backup_ops.jobfile.layout import Section
from backup_ops.jobfile.names import Entry, names_of
from backup_ops.jobfile.notices import notices
from backup_ops.jobfile.place import Place, Refused, Report, is_nothing, line_of, quoted, shown, tag_of
from backup_ops.jobfile.reader import Facts, built, read_section

VERSION = 1
_NAME_HINT = "Use letters, digits, `.`, `_`, `-` and spaces; the first is a letter or a digit."
_EMPTY = "Write `version: 1` as its first line, or make a first file with `backup-ops init`."


@dataclass(frozen=True)
class JobFile:
    """What jobs.yaml says, in the order of the file. `notices`: settings this version does not act on yet."""

    path: Path
    jobs: dict[str, Job]
    repositories: dict[str, Repository]
    settings: Settings
    notify: tuple[Notify, ...] = ()
    notices: tuple[Problem, ...] = ()


def load(path: str | os.PathLike[str]) -> JobFile:
    """Reads jobs.yaml. Raises ConfigInvalid with every problem found, in the order of the lines; nothing else."""
    path = Path(path)
    return parse(read_bytes(path), path)


def parse(data: bytes, path: str | os.PathLike[str] = "jobs.yaml") -> JobFile:
    """The same of a text that is not, or not yet, in the file. `path` is what problems name and JobFile carries."""
    path = Path(path)
    report = Report(path.name)
    root = compose(data, path.name)
    if root is None or is_nothing(root):
        report.add(0, "the file is empty.", _EMPTY)
    elif not isinstance(root, MappingNode):
        report.add(line_of(root), f"the file holds {shown(root)}, and it must hold settings.", _EMPTY)
    elif _is_version_read(root, report):
        file = _read(root, path, report)
        if file is not None:
            return file
    raise ConfigInvalid(report.problems)


def _read(root: MappingNode, path: Path, report: Report) -> JobFile | None:
    """None when the report holds a problem."""
    top = Place(report)
    entries = names_of(root, top, layout.TOP)
    settings = _settings(entries.get("settings"), top)
    repositories, repository_names = _named(layout.REPOSITORY, entries.get("repositories"), "repository", top)
    jobs, _ = _named(layout.JOB, entries.get("jobs"), "job", top)
    notify = _notify(entries.get("notify"), top)
    checks.check_repositories(repositories)
    checks.check_jobs(jobs, repositories, repository_names)
    if report.problems:
        return None
    made: dict[str, Repository] = {}
    made_jobs: dict[str, Job] = {}
    try:
        for name, (facts, place) in repositories.items():
            made[name] = built(layout.REPOSITORY, facts, place, name=name, line=facts.at)
        for name, (facts, place) in jobs.items():
            made_jobs[name] = _job(name, facts, place, made)
        made_settings = built(layout.SETTINGS, settings, top)
        rules = tuple(built(layout.NOTIFY, facts, place) for facts, place in notify)
    except Refused:
        return None
    found = notices(
        path.name,
        {name: facts for name, (facts, _) in jobs.items()},
        {name: facts for name, (facts, _) in repositories.items()},
        settings,
        entries["notify"].line if notify else 0,
    )
    return JobFile(path, made_jobs, made, made_settings, rules, found)


def _is_version_read(root: MappingNode, report: Report) -> bool:
    """Of a newer version nothing is read: its settings would be called unknown here."""
    versions = [
        (line_of(key), value) for key, value in root.value if isinstance(key, ScalarNode) and key.value == "version"
    ]
    if not versions:
        report.add(line_of(root), "the file has no version.", f"Write `version: {VERSION}` as its first line.")
        return True
    line, node = versions[0]
    if tag_of(node) != "int" or not str(node.value).isascii() or not str(node.value).isdigit():
        report.add(line, f"version must be {VERSION}, not {shown(node)}.", f"Write `version: {VERSION}`.")
        return True
    written = str(node.value).lstrip("0")
    if written != str(VERSION):
        is_newer = bool(written)
        report.add(
            line,
            f"version {quoted(node.value)} of jobs.yaml is not read: this backup-ops reads version {VERSION}.",
            "Update backup-ops." if is_newer else f"Write `version: {VERSION}`.",
        )
        return not is_newer
    return True


def _settings(entry: Entry | None, top: Place) -> Facts:
    if entry is not None and not is_nothing(entry.value):
        try:
            return read_section(layout.SETTINGS, entry, top.inside("settings"))
        except Refused:
            pass
    return Facts(0)


def _named(section: Section, entry: Entry | None, noun: str, top: Place) -> tuple[checks.Named, tuple[str, ...]]:
    """The sections below `jobs:` or `repositories:`, and all names there, also of those that cannot be read."""
    read: checks.Named = {}
    lines: dict[str, int] = {}
    if entry is None or is_nothing(entry.value):
        return read, ()
    place = top.inside(entry.name)
    if not isinstance(entry.value, MappingNode):
        words = f"must hold names and the settings of each, not {shown(entry.value)}."
        place.problem(entry.line, words, f"Write the name of a {noun}, a colon, and its settings below.")
        return read, ()
    for written, below in names_of(entry.value, place).items():
        # As compounds.named.
        name = unicodedata.normalize("NFC", written)
        subject = Place(top.report, f"{noun} {quoted(name)}")
        problem = name_problem(name)
        if problem:
            subject.problem(below.line, f"cannot be called this: the name {problem}.", _NAME_HINT)
        if name in lines:
            subject.problem(below.line, f"is in the file twice, here and in line {lines[name]}.", "Rename one.")
            continue
        lines[name] = below.line
        try:
            read[name] = (read_section(section, below, subject), subject)
        except Refused:
            continue
    return read, tuple(lines)


def _notify(entry: Entry | None, top: Place) -> list[tuple[Facts, Place]]:
    if entry is None or is_nothing(entry.value):
        return []
    place = top.inside("notify")
    if not isinstance(entry.value, SequenceNode):
        words = f"must be a list, not {shown(entry.value)}."
        place.problem(entry.line, words, "Write - {url: {env: APPRISE_URL}, min_severity: HIGH}.")
        return []
    rules = []
    for number, node in enumerate(entry.value.value, start=1):
        rule = Place(top.report, f"notify rule {number}")
        try:
            rules.append((read_section(layout.NOTIFY, Entry("notify", node, node), rule), rule))
        except Refused:
            continue
    return rules


def _job(name: str, facts: Facts, place: Place, repositories: dict[str, Repository]) -> Job:
    values = facts.values
    if values.get("heartbeat"):
        engine = "heartbeat"
    elif values.get("command"):
        engine = "command"
    else:
        engine = repositories[values["repository"]].engine
    job: Job = built(layout.JOB, facts, place, name=name, engine=engine, line=facts.at)
    return job
