"""A question: a query with a name, in sql/NAME.sql. Its parameters are filters; one not given does not filter."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup_ops.errors import UsageError, did_you_mean

_FOLDER = Path(__file__).parent / "sql"


@dataclass(frozen=True)
class Question:
    name: str
    sql: str
    parameters: frozenset[str]
    lists: frozenset[str]
    """Those of the parameters that take one value or several."""

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as DuckDB takes them. Raises UsageError for an unknown one."""
        for name in given:
            if name not in self.parameters:
                raise UsageError(
                    f"'{self.name}' cannot be filtered by '{name}'.",
                    hint=did_you_mean(name, self.parameters) or f"It knows: {', '.join(sorted(self.parameters))}.",
                )
        bound = {name: self._value(name, given.get(name)) for name in self.parameters}
        limit = bound.get("limit")
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise UsageError(f"limit {limit!r} is no number of rows.", hint="Give a whole number, 0 or more.")
        return bound

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, datetime):
            return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        if name in self.lists and value is not None:
            return [value] if isinstance(value, str) else list(value)
        return value


def names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.sql"))


@functools.cache
def find(name: str) -> Question:
    """Raises UsageError when there is no such question."""
    if name not in names():
        known = names()
        raise UsageError(
            f"there is no question '{name}'.", hint=did_you_mean(name, known) or f"There are: {', '.join(known)}."
        )
    sql = (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    code = re.sub(r"--.*", "", sql)
    return Question(
        name=name,
        sql=sql,
        parameters=frozenset(re.findall(r"\$(\w+)", code)),
        lists=frozenset(re.findall(r"\$(\w+)::VARCHAR\[\]", code)),
    )
