"""Tables for people: aligned columns, and a line of words below the rows that need one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from backup_ops.cli.cells import printable

if TYPE_CHECKING:
    from backup_ops.cli.shell import Shell

_GAP = 2
_NOTE_INDENT = "    "
_NARROWEST = 8

STYLES = {
    "succeeded": "green", "warning": "yellow", "failed": "red", "interrupted": "red", "lost": "red", "missed": "red",
    "cancelled": "magenta", "skipped": "dim", "running": "cyan", "queued": "cyan",
    "CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "dim",
}  # fmt: skip
"""Words that have a colour wherever they fill a cell."""


@dataclass(frozen=True)
class Column:
    """`is_optional` columns go first when the terminal is narrow, `is_flexible` ones are folded next, never cut."""

    title: str
    align: Literal["left", "right"] = "left"
    is_flexible: bool = False
    is_optional: bool = False


@dataclass(frozen=True)
class Row:
    """`note` stands below the row, folded at words."""

    cells: Sequence[str]
    note: str = ""


def print_table(shell: Shell, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """The rows below a line of titles. Nothing is cut: what does not fit is folded, in the terminal's width."""
    console = shell.console
    # Titles too: those of `sql` are whatever somebody typed.
    columns = [replace(column, title=printable(column.title)) for column in columns]
    shown = [Row([printable(cell) for cell in row.cells], printable(row.note)) for row in rows]
    kept, widths = _fit(columns, shown, console.width)
    lines = [_line([columns[index].title for index in kept], columns, kept, widths, header=True)]
    for row in shown:
        lines += _fold([row.cells[index] for index in kept], columns, kept, widths)
        if row.note:
            lines += _note(row.note, console)
    with console.capture() as drawn:
        for line in lines:
            console.print(line, soft_wrap=True)
    shell.write(drawn.get())


def _fit(columns: Sequence[Column], rows: Sequence[Row], width: int) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide each is."""
    natural = [
        max([cell_len(column.title), *(cell_len(row.cells[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    # A column that holds nothing says nothing.
    kept = [
        index for index, column in enumerate(columns) if not column.is_optional or any(row.cells[index] for row in rows)
    ]

    def total(widths: Sequence[int]) -> int:
        return sum(widths) + _GAP * (len(widths) - 1)

    for index in reversed(range(len(columns))):
        if columns[index].is_optional and index in kept and total([natural[i] for i in kept]) > width:
            kept.remove(index)
    widths = [natural[index] for index in kept]
    while total(widths) > width:
        flexible = [
            place for place, index in enumerate(kept) if columns[index].is_flexible and widths[place] > _NARROWEST
        ]
        if not flexible:
            break  # the terminal itself folds such a line
        widest = max(flexible, key=lambda place: widths[place])
        widths[widest] -= 1
    return kept, widths


def _fold(cells: Sequence[str], columns: Sequence[Column], kept: Sequence[int], widths: Sequence[int]) -> list[Text]:
    folded = [
        [cell] if cell_len(cell) <= width or not columns[index].is_flexible else chop_cells(cell, width)
        for cell, index, width in zip(cells, kept, widths, strict=True)
    ]
    height = max(len(parts) for parts in folded)
    return [
        _line([parts[row] if row < len(parts) else "" for parts in folded], columns, kept, widths)
        for row in range(height)
    ]


def _line(
    cells: Sequence[str], columns: Sequence[Column], kept: Sequence[int], widths: Sequence[int], *, header: bool = False
) -> Text:
    line = Text()
    for place, (cell, index, width) in enumerate(zip(cells, kept, widths, strict=True)):
        space = " " * max(0, width - cell_len(cell))
        line.append(" " * _GAP if place else "")
        line.append(space if columns[index].align == "right" else "")
        line.append(cell, style="bold" if header else STYLES.get(cell, ""))
        line.append(space if columns[index].align == "left" else "")
    line.rstrip()
    return line


def _note(note: str, console: Console) -> list[Text]:
    text = Text(note, style="dim")
    width = max(20, console.width - len(_NOTE_INDENT))
    lines = text.wrap(console, width)
    for line in lines:
        line.rstrip()
    return [Text(_NOTE_INDENT) + line for line in lines]
