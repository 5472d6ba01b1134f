"""What the jobs and repositories of a file say together: names that exist, places that do not lie in each other."""

from __future__ import annotations

import os

from ruamel.yaml.nodes import Node, SequenceNode

from backup_ops.job import local_folder, name_problem
from backup_ops.jobfile.place import Place, line_of, quoted
from backup_ops.jobfile.reader import Facts

Named = dict[str, tuple[Facts, Place]]


def check_jobs(jobs: Named, repositories: Named, known_repositories: tuple[str, ...]) -> None:
    """`known_repositories` holds the names of those too that could not be read."""
    offered = tuple(name for name in known_repositories if not name_problem(name))
    for facts, place in jobs.values():
        _check_what(facts, place, offered)
        _check_repository_name(facts, place, known_repositories, offered)
        _check_sources(facts, place)
        name = facts.values.get("repository")
        if name in repositories:
            _check_apart(facts, place, name, repositories[name][0])
    _check_uids(jobs)


def check_repositories(repositories: Named) -> None:
    """Two repositories in one place would be two locks for one thing."""
    seen: dict[str, tuple[str, int]] = {}
    for name, (facts, place) in repositories.items():
        url = facts.values.get("url")
        if url is None:
            continue
        folder = local_folder(url) or url
        if folder in seen:
            other, line = seen[folder]
            place.problem(
                facts.line("url"),
                f"has the url of repository {quoted(other)} (line {line}).",
                "Give it a folder of its own, or use one repository for both.",
            )
        seen.setdefault(folder, (name, facts.line("url")))


def _check_what(facts: Facts, place: Place, repositories: tuple[str, ...]) -> None:
    entries = facts.entries
    given = [name for name in ("source", "command", "heartbeat") if name in entries]
    if "heartbeat" in given and facts.values.get("heartbeat") is False:
        given.remove("heartbeat")
    if not given and not facts.misspelled & {"source", "command", "heartbeat"}:
        place.problem(
            facts.at,
            "has none of source, command and heartbeat.",
            "Write what to back up, such as source: /srv/photos.",
        )
    if len(given) > 1:
        place.problem(
            max(entries[name].line for name in given),
            f"has {' and '.join(given)}, and a job is one of them.",
            "Make two jobs.",
        )
    if given == ["source"]:
        _needs(facts, place, "repository", ", ".join(repositories[:20]) or "NAME, and the name under repositories")
    if "output" in entries and "command" not in entries:
        place.problem(entries["output"].line, "has an output, and no command that prints it.", "Remove it.")
    if given == ["command"] and "output" in entries:
        _needs(facts, place, "repository", ", ".join(repositories[:20]) or "NAME, and the name under repositories")
    if given == ["command"] and "repository" in entries:
        _needs(facts, place, "output", "the name of the file that holds what the command prints, such as orders.dump")
    if given == ["heartbeat"]:
        for name in ("repository", "exclude", "retention", "hooks", "drill"):
            if name in entries:
                place.problem(
                    entries[name].line, f"is a heartbeat, runs nothing and takes no {name}.", "Remove the line."
                )


def _needs(facts: Facts, place: Place, name: str, what: str) -> None:
    if name not in facts.entries and name not in facts.misspelled:
        place.problem(facts.at, f"has no {name}.", f"Write {name}: {what}.")


def _check_repository_name(facts: Facts, place: Place, known: tuple[str, ...], offered: tuple[str, ...]) -> None:
    name = facts.values.get("repository")
    if name is not None and name not in known:
        otherwise = f"Repositories: {', '.join(offered[:20])}." if offered else "Write it under repositories:."
        place.problem(
            facts.entries["repository"].value,
            f"has the repository {quoted(name)}, which is not in the file.",
            place.report.suggest(name, offered, otherwise),
        )


def _check_sources(facts: Facts, place: Place) -> None:
    """A snapshot keeps each source of a list under its last name, so these must differ."""
    sources = facts.values.get("source", [])
    if len(sources) < 2:
        return
    seen: dict[str, tuple[str, int]] = {}
    for source, line in zip(sources, _item_lines(facts.entries["source"].value), strict=False):
        name = os.path.basename(source)
        if not name:
            place.problem(line, "has / as one source of a list, and / has no last name.", "Give it a job of its own.")
        elif name in seen:
            other, other_line = seen[name]
            place.problem(
                line,
                f"has two sources called {quoted(name)}: {quoted(other)} (line {other_line}) and {quoted(source)}; "
                "a snapshot keeps each under that name.",
                "Put them in two jobs, or back up the folder above them.",
            )
        seen.setdefault(name, (source, line))


def _item_lines(node: Node) -> list[int]:
    return [line_of(item) for item in node.value] if isinstance(node, SequenceNode) else [line_of(node)]


def _check_apart(facts: Facts, place: Place, repository: str, repository_facts: Facts) -> None:
    """By the words of the paths; links are looked at when a run starts."""
    folder = local_folder(repository_facts.values.get("url", ""))
    if folder is None or "source" not in facts.values:
        return
    where = f"repository {quoted(repository)} ({quoted(folder)}, line {repository_facts.line('url')})"
    for source, line in zip(facts.values["source"], _item_lines(facts.entries["source"].value), strict=False):
        if _is_within(folder, source):
            place.problem(
                line,
                f"has the source {quoted(source)}, and its {where} lies in it: each run would back up the runs before.",
                "Move the repository out, or name the folders of the source without it.",
            )
        elif _is_within(source, folder):
            place.problem(
                line, f"has the source {quoted(source)}, which lies in its {where}.", "Back up what is outside of it."
            )


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _check_uids(jobs: Named) -> None:
    """A uid is what history hangs on; absent, it is the name."""
    seen: dict[str, tuple[str, int]] = {}
    # Those with a uid written in them last, so that the line reported is the one to change.
    for name, (facts, place) in sorted(jobs.items(), key=lambda item: "uid" in item[1][0].entries):
        uid, line = facts.values.get("job_uid", name), facts.line("uid")
        if uid in seen:
            other, other_line = seen[uid]
            place.problem(
                line,
                f"has the uid {quoted(uid)} of job {quoted(other)} (line {other_line}): both would share one history.",
                "Remove the uid of the newer job.",
            )
        seen.setdefault(uid, (name, line))
