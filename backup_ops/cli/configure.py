"""`init`, `validate`, `jobs`: the home and its jobs.yaml."""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from shlex import quote

from backup_ops import jobfile, sharing
from backup_ops.cli.cells import counted, short_path
from backup_ops.cli.shell import Shell
from backup_ops.errors import ConfigInvalid, Problem, UsageError


def init(shell: Shell, arguments: Namespace) -> int:
    path = shell.home.jobs_yaml
    if os.path.lexists(path):
        chosen = shell.home_chosen_by
        raise UsageError(
            f"{path} is there already; it was left as it is.",
            hint=f"Check it: backup-ops validate. The home is chosen by {chosen}; name another with --home.",
        )
    source = _folder(arguments.source, "--source", must_exist=True)
    repository = _folder(arguments.repository, "--repository", must_exist=False)
    text = _first_file(source, repository, str(shell.home.path))
    for notice in shell.home.make():
        shell.notice(notice)
    shell.home.check_writable()
    try:
        descriptor = sharing.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        raise UsageError(f"{path} was made by somebody else just now; it was left as it is.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    shell.say(f"wrote {path}")
    for sentence in _advice(shell, source, repository):
        shell.say(sentence)
    return 0


def _folder(given: str | None, option: str, *, must_exist: bool) -> str | None:
    """The full path. A repository elsewhere (`sftp:nas:/vault`) stays as it was typed."""
    if given is None:
        return None
    if not must_exist and ":" in given and not given.startswith(("/", ".", "~")):
        return given
    path = os.path.abspath(os.path.expanduser(given))
    if must_exist and not os.path.isdir(path):
        what = "is not a folder" if os.path.exists(path) else "is not there"
        raise UsageError(f"{option} {given} {what}.", hint="Name a folder that is there.")
    above = os.path.dirname(path)
    if not must_exist and not os.path.isdir(above):
        raise UsageError(
            f"{option} {given} cannot be made by a run: {above} is not there.", hint=f"Make or mount {above} first."
        )
    return path


def _first_file(source: str | None, repository: str | None, home: str) -> str:
    try:
        text = jobfile.template(source=source, repository=repository, home=home)
    except ValueError:
        raise UsageError(
            "a path holds bytes that are not UTF-8, which jobs.yaml cannot say.", hint="Rename it."
        ) from None
    jobfile.parse(text.encode("utf-8"))  # raises ConfigInvalid before anything is written (a repository in its source)
    return text


def _advice(shell: Shell, source: str | None, repository: str | None) -> list[str]:
    jobs = jobfile.load(shell.home.jobs_yaml).jobs
    said = [
        f"It holds {counted(len(jobs), 'job')}: {', '.join(jobs)}. Try: backup-ops run {quote(next(iter(jobs)))}"
        if jobs
        else "Its jobs are comments until you name a source and a repository in it; then: backup-ops validate"
    ]
    said.append(
        "rclone keeps whole files, unencrypted unless the repository has a password: who can read it reads them."
    )
    restic = shutil.which("restic")
    said.append(
        "restic encrypts, and stores what is equal only once; this version cannot drive it yet. "
        + (f"It is installed ({restic})." if restic else "It is not installed here.")
    )
    return said


def validate(shell: Shell, _: Namespace) -> int:
    shell.open_home()
    try:
        file = jobfile.load(shell.home.jobs_yaml)
    except ConfigInvalid as invalid:
        if not shell.as_json:
            raise
        shell.say_rows(_as_row("problem", problem) for problem in invalid.problems)
        return invalid.exit_code
    if shell.as_json:
        shell.say_rows(_as_row("notice", notice) for notice in file.notices)
        return 0
    repositories = counted(len(file.repositories), "repository", "repositories")
    shell.say(f"{counted(len(file.jobs), 'job')}, {repositories}: no problems.")
    for notice in file.notices:
        shell.notice(str(notice))
    for job in file.jobs.values():
        for source in job.source:
            if not os.path.isdir(source):
                shell.notice(f"jobs.yaml:{job.line}: job '{job.name}': source {source} is not there now, or no folder.")
    return 0


def say_what_is_not_acted_on(shell: Shell) -> None:
    """So that nobody takes a schedule that is written down for one that is kept."""
    notices = shell.ops.manager.jobfile().notices
    if notices:
        shell.notice(
            f"{counted(len(notices), 'setting')} of jobs.yaml {'is' if len(notices) == 1 else 'are'} "
            "not acted on by this version: `backup-ops validate` names them."
        )


def _as_row(kind: str, problem: Problem) -> dict[str, object]:
    return {
        "file": problem.file,
        "line": problem.line,
        "kind": kind,
        "message": problem.message,
        "hint": problem.hint,
    }


def jobs(shell: Shell, _: Namespace) -> int:
    file = shell.ops.manager.jobfile()
    say_what_is_not_acted_on(shell)
    if shell.as_json:
        shell.say_rows(
            {
                "job": job.name,
                "job_uid": job.job_uid,
                "engine": job.engine,
                "repository": job.repository,
                "source": job.source,
                "schedule": str(job.schedule) if job.schedule else None,
                "exclude": job.exclude,
            }
            for job in file.jobs.values()
        )
        return 0
    if not file.jobs:
        shell.notice(f"{shell.home.jobs_yaml} holds no job yet.")
        return 0
    from backup_ops.cli.tables import Column, Row, print_table

    columns = [
        Column("JOB", is_flexible=True),
        Column("ENGINE"),
        Column("REPOSITORY", is_flexible=True),
        Column("SCHEDULE", is_optional=True),
        Column("SOURCE", is_flexible=True),
    ]
    rows = [
        Row(
            [
                job.name,
                job.engine,
                job.repository or "",
                str(job.schedule) if job.schedule else "by hand",
                ", ".join(map(short_path, job.source)) or " ".join(job.command),
            ]
        )
        for job in file.jobs.values()
    ]
    print_table(shell, columns, rows)
    return 0
