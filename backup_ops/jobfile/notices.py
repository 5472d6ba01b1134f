"""What jobs.yaml may hold already and this version does not act on yet. A version that learns one removes its line."""

from __future__ import annotations

from collections.abc import Iterator

from backup_ops.errors import Problem
from backup_ops.jobfile.place import quoted
from backup_ops.jobfile.reader import Facts

# What is written → what happens meanwhile.
NOT_YET: dict[str, str] = {
    "job.schedule": "Start the job by hand or from cron: backup-ops run NAME.",
    "job.retention": "Nothing is deleted.",
    "job.retry": "A run that fails is not tried again.",
    "job.hooks": "No command runs before or after a backup.",
    "job.drill": "Restore to an empty folder by hand now and then.",
    "job.command": "The job cannot be run.",
    "job.heartbeat": "Pings are not received.",
    "repository.engine: restic": "Its jobs cannot be run.",
    "settings.restore_roots": "The dashboard restores nothing yet; the shell command restores anywhere.",
    "notify": "Nobody is told.",
}


def notices(
    file: str, jobs: dict[str, Facts], repositories: dict[str, Facts], settings: Facts, notify_line: int
) -> tuple[Problem, ...]:
    """One notice per setting, at the line it stands in first, in the order of the lines."""
    found: dict[str, list[tuple[int, str]]] = {}
    for key, line, whose in _uses(jobs, repositories, settings, notify_line):
        if key in NOT_YET:
            found.setdefault(key, []).append((line, whose))
    collected = []
    for key, uses in found.items():
        line, whose = min(uses)
        others = f" (and {len(uses) - 1} more)" if len(uses) > 1 else ""
        owner = f" of {whose}{others}" if whose else others
        what = key.rpartition(".")[2]
        collected.append(
            Problem(file, line, f"'{what}'{owner} is read, and this version does not act on it yet.", NOT_YET[key])
        )
    return tuple(sorted(collected, key=lambda problem: problem.line))


def _uses(
    jobs: dict[str, Facts], repositories: dict[str, Facts], settings: Facts, notify_line: int
) -> Iterator[tuple[str, int, str]]:
    for name, facts in jobs.items():
        for key, entry in facts.entries.items():
            if key == "retry" and facts.values["retry"].max_retries == 0:
                continue  # which is what happens
            yield f"job.{key}", entry.line, f"job {quoted(name)}"
    for name, facts in repositories.items():
        whose = f"repository {quoted(name)}"
        if facts.values.get("engine") == "restic":
            yield "repository.engine: restic", facts.line("engine"), whose
    for key, entry in settings.entries.items():
        yield f"settings.{key}", entry.line, ""
    if notify_line:
        yield "notify", notify_line, ""
