"""What backup-ops raises. Every message says what happened, to which thing, with the value; `hint` says what to do.

BackupError                  base; exit code 1
 ├── UsageError              an argument is wrong, or there is nothing to do it on; exit code 2
 │    ├── UnknownJob
 │    ├── UnknownRun
 │    ├── UnknownSnapshot
 │    ├── QueryRefused       SQL that is not one SELECT, or that reaches outside
 │    └── RestoreRefused     the target is in use, or a path is not in the snapshot
 ├── ConfigInvalid           jobs.yaml cannot be used; carries every problem with its line; exit code 2
 ├── HomeError               the home cannot be used by this user; exit code 2
 ├── EngineMissing           the tool an engine drives is not installed; exit code 2
 ├── EngineError             a tool or a repository failed; carries a Failure; exit code 1
 ├── JournalFull             an event could not be written down; exit code 1
 ├── HomeBusy                another process of ours holds a lock of the home for too long; exit code 75
 ├── HistoryBusy             a foreign process holds history.duckdb; exit code 75
 ├── HistoryDamaged          history.duckdb cannot be read; it is rebuilt from the journals; exit code 1
 └── HistoryNewer            history.duckdb was written by a newer backup-ops or DuckDB; exit code 2
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from backup_ops.failure import Failure

__all__ = [
    "BackupError",
    "ConfigInvalid",
    "EngineError",
    "EngineMissing",
    "HistoryBusy",
    "HistoryDamaged",
    "HistoryNewer",
    "HomeBusy",
    "HomeError",
    "JournalFull",
    "Problem",
    "QueryRefused",
    "RestoreRefused",
    "UnknownJob",
    "UnknownRun",
    "UnknownSnapshot",
    "UsageError",
    "did_you_mean",
]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?`, or an empty string when nothing known is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else ""


class BackupError(Exception):
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # What a tool said ends as it likes.
        stop = "" if not self.hint or not self.message or self.message[-1] in ".!?:" else "."
        return f"{self.message}{stop} {self.hint}".strip()


class UsageError(BackupError):
    exit_code = 2


class UnknownJob(UsageError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        hint = did_you_mean(name, names)
        if not hint:
            hint = f"Jobs: {', '.join(names)}." if names else "jobs.yaml holds no job yet: write one into it."
        super().__init__(f"no job is named '{name}'.", hint=hint)


class UnknownRun(UsageError):
    pass


class UnknownSnapshot(UsageError):
    pass


class QueryRefused(UsageError):
    pass


class RestoreRefused(UsageError):
    pass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file: `line` counts from 1, 0 when the whole file is meant."""

    file: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message} {self.hint}".strip()


class ConfigInvalid(BackupError):
    """Every problem found, in the order of the lines."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class HomeError(BackupError):
    exit_code = 2


class EngineMissing(BackupError):
    exit_code = 2


class EngineError(BackupError):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.remedy)
        self.failure = failure


class JournalFull(BackupError):
    pass


class HomeBusy(BackupError):
    exit_code = 75


class HistoryBusy(BackupError):
    exit_code = 75


class HistoryDamaged(BackupError):
    pass


class HistoryNewer(BackupError):
    exit_code = 2
