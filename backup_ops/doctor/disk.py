"""The disks of the home and of its repositories: whether they answer, and what room they have."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from backup_ops.finding import Finding
from backup_ops.home import Home
from backup_ops.job import Repository, local_folder
from backup_ops.jobfile import JobFile
from backup_ops.quantity import format_bytes
from backup_ops.repositories import is_known

WARN_BELOW_BYTES, WARN_BELOW_SHARE = 1 << 30, 0.05
PROBLEM_BELOW_BYTES = 100 << 20
ANSWER_WITHIN_S = 5.0
"""A dead network mount never answers."""

Answer = TypeVar("Answer")


def disks(home: Home, file: JobFile | None) -> Iterator[Finding]:
    yield _disk("home", home.path)
    for repository in file.repositories.values() if file is not None else ():
        folder = local_folder(repository.url)
        if folder is not None:
            yield _repository_disk(home, repository, Path(folder))


def _repository_disk(home: Home, repository: Repository, folder: Path) -> Finding:
    name = f"repository {repository.name}"
    try:
        if answer(folder.is_dir):
            return _disk(name, folder)
        if is_known(home, repository.url):
            return Finding(
                "disk", "problem", f"{name} is not at {folder}, where runs have committed before.", "Mount its disk."
            )
        nearest = next(path for path in folder.parents if answer(path.is_dir))
        return _disk(f"{name} (not made yet)", nearest)
    except TimeoutError:
        return silent(name, folder)


def _disk(what: str, path: Path) -> Finding:
    try:
        about = answer(lambda: os.statvfs(path))
    except TimeoutError:
        return silent(what, path)
    free, total = about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize
    share = free / total if total else 0.0
    said = f"{what}: {format_bytes(free)} free of {format_bytes(total)} ({share:.0%}) at {path}"
    if free < PROBLEM_BELOW_BYTES:
        return Finding("disk", "problem", f"{said}; that is all but full.", "Free space.")
    if about.f_files and about.f_favail == 0:
        return Finding("disk", "problem", f"{said}, but no file can be made: its inodes are used up.", "Remove files.")
    if free < WARN_BELOW_BYTES or share < WARN_BELOW_SHARE:
        return Finding("disk", "warning", f"{said}; that is little.", "Free space soon.")
    return Finding("disk", "ok", f"{said}.")


def silent(what: str, path: Path, subject: str = "disk") -> Finding:
    said = f"{what}: {path} does not answer within {ANSWER_WITHIN_S:.0f} s."
    return Finding(subject, "problem", said, "A network mount that is gone? Look: findmnt")


def answer(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns or raises, or TimeoutError: no caller can be saved from a dead mount but by leaving it."""
    answers: list[Answer] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="doctor-asks", daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN_S)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]
