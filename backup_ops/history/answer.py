"""An answer: what a cursor has found, as rows of plain Python or as a DataFrame."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    import pandas

_COUNTS = frozenset(
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
)  # fmt: skip
_TEXTS = frozenset(("VARCHAR", "JSON"))


def columns_of(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    return [column[0] for column in cursor.description or ()]


def rows_of(cursor: duckdb.DuckDBPyConnection, limit: int | None = None) -> list[tuple[Any, ...]]:
    """The rows, at most `limit`; times are aware and UTC."""
    kinds = [str(column[1]) for column in cursor.description or ()]
    moments = [index for index, kind in enumerate(kinds) if kind.startswith("TIMESTAMP")]
    if "TIMESTAMP WITH TIME ZONE" in kinds:
        # fetchall() would ask for pytz; as numpy they come as plain UTC.
        rows = list(zip(*(values.tolist() for values in cursor.fetchnumpy().values()), strict=True))[:limit]
    else:
        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
    if not moments:
        return rows
    aware = []
    for row in rows:
        values = list(row)
        for index in moments:
            if isinstance(values[index], datetime):
                values[index] = values[index].replace(tzinfo=UTC)
        aware.append(tuple(values))
    return aware


def frame_of(cursor: duckdb.DuckDBPyConnection) -> pandas.DataFrame:
    """A DataFrame: text str, whole numbers Int64, times datetime64[us, UTC], truth bool (boolean with gaps).

    Not DuckDB's own `df()`: it turns whole numbers into floats as soon as one is missing.
    """
    import pandas

    kinds = [str(column[1]) for column in cursor.description or ()]
    found = cursor.fetchnumpy()
    return pandas.DataFrame(
        {name: _series(values, kind) for (name, values), kind in zip(found.items(), kinds, strict=True)}
    )


def _series(values: Any, kind: str) -> pandas.Series:
    import numpy
    import pandas

    missing = numpy.ma.getmaskarray(values) if isinstance(values, numpy.ma.MaskedArray) else None
    plain = numpy.asarray(values.data if missing is not None else values)
    has_missing = missing is not None and bool(missing.any())
    if kind in _COUNTS:
        mask = missing if missing is not None else numpy.zeros(len(plain), dtype=bool)
        if has_missing:
            plain = numpy.where(mask, 0, plain)
        dtype = "uint64" if kind == "UBIGINT" else "int64"
        return pandas.Series(pandas.arrays.IntegerArray(plain.astype(dtype), mask))
    if kind == "BOOLEAN":
        if not has_missing:
            return pandas.Series(plain.astype(bool))
        return pandas.Series(pandas.arrays.BooleanArray(plain.astype(bool), missing))
    if kind.startswith("TIMESTAMP"):
        plain = plain.astype("datetime64[us]")
        if has_missing:
            plain[missing] = numpy.datetime64("NaT")
        return pandas.Series(plain).dt.tz_localize("UTC")
    if kind in _TEXTS or kind.startswith("ENUM"):
        texts = plain.astype(object)
        if has_missing:
            texts[missing] = None
        return pandas.Series(texts, dtype=pandas.StringDtype(na_value=float("nan")))
    if has_missing:
        if plain.dtype.kind == "f":
            plain = plain.copy()
            plain[missing] = numpy.nan
        elif plain.dtype.kind in "mM":
            plain = plain.copy()
            plain[missing] = "NaT"
        else:
            plain = plain.astype(object)
            plain[missing] = None
    return pandas.Series(plain)
