"""The shell one command talks to: results on stdout, everything else on stderr, and the home it works in."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from backup_ops.home import HOME_VARIABLE, Home

if TYPE_CHECKING:
    from rich.console import Console

    from backup_ops.ops import Ops

UPKEEP_TAKES_AT_MOST_S = 1.0
_UNLIMITED_COLUMNS = 100_000
"""A pipe has no width: folded lines would tear what grep and awk look at."""


class StdoutGone(Exception):
    """Nothing more can be written to stdout. It is no fault when its reader had enough and closed it."""

    def __init__(self, *, is_fault: bool) -> None:
        super().__init__()
        self.is_fault = is_fault


class Shell:
    def __init__(
        self, home: str | None = None, *, as_json: bool = False, is_quiet: bool = False, is_verbose: bool = False
    ) -> None:
        self.home = Home.locate(home)
        is_by_variable = home is None and bool(os.environ.get(HOME_VARIABLE))
        self.home_chosen_by = f"${HOME_VARIABLE}" if is_by_variable else "--home" if home is not None else "default"
        self.as_json = as_json
        self.is_quiet = is_quiet
        self.is_verbose = is_verbose
        # Both may be missing altogether: `backup-ops jobs >&-`.
        sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            # A file name that this terminal's encoding cannot say is no reason to stop.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    @cached_property
    def ops(self) -> Ops:
        """The operations of the home, which must be there already. Raises HomeError."""
        self.open_home()
        from backup_ops.ops import Ops

        return Ops(self.home)

    def move_to(self, home: os.PathLike[str]) -> None:
        """Works in another home from now on."""
        self.close()
        self.__dict__.pop("ops", None)
        self.home = Home(home)

    def open_home(self) -> None:
        """Checks the home, which must be there already. Raises HomeError."""
        for notice in self.home.open():
            self.notice(notice)

    def close(self) -> None:
        if "ops" in self.__dict__:
            self.ops.close()

    def look_after_home(self, command: str) -> None:
        """What the home needs now and then, once a command has said all it has to say. A Ctrl-C ends it quietly."""
        if "ops" in self.__dict__ and (command == "run" or self.ops.manager.has_read_history):
            with contextlib.suppress(KeyboardInterrupt):
                self.ops.manager.upkeep(max_s=UPKEEP_TAKES_AT_MOST_S)

    # --- stdout

    @property
    def stdout_is_terminal(self) -> bool:
        return _is_terminal(sys.stdout)

    @property
    def stderr_is_terminal(self) -> bool:
        return _is_terminal(sys.stderr)

    @cached_property
    def columns(self) -> int:
        """As wide as the terminal; without limit into a pipe, unless $COLUMNS says otherwise."""
        if self.stdout_is_terminal or os.environ.get("COLUMNS", "").isdigit():
            return shutil.get_terminal_size().columns
        return _UNLIMITED_COLUMNS

    @cached_property
    def console(self) -> Console:
        """Draws tables, in memory: rich ends the process when a pipe closes. No colour unless a terminal wants it."""
        from rich.console import Console

        has_colour = self.stdout_is_terminal and not os.environ.get("NO_COLOR")
        return Console(
            file=io.StringIO(),
            force_terminal=self.stdout_is_terminal,
            color_system="auto" if has_colour else None,
            width=self.columns,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def say_sentence(self, text: str) -> None:
        """A line folded at words in a terminal."""
        self.say("\n".join(textwrap.wrap(text, self.columns, break_on_hyphens=False)) if text else "")

    def say(self, text: str = "") -> None:
        """A line of the result. Raises StdoutGone."""
        with self._writing():
            print(text)

    def flush(self) -> None:
        with self._writing():
            sys.stdout.flush()

    def say_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """A JSON array, one object a line, written as the rows come."""
        from backup_ops.cli.jsontext import json_text

        before = "["
        for row in rows:
            self.write(before + json_text(row))
            before = ",\n "
        self.write("[]\n" if before == "[" else "]\n")

    def say_object(self, row: Mapping[str, Any]) -> None:
        from backup_ops.cli.jsontext import json_text

        self.say(json_text(row, indent=2))

    def write(self, text: str) -> None:
        """Text of the result, as it is. Raises StdoutGone."""
        with self._writing():
            sys.stdout.write(text)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What Python still holds for stdout must not be tried once more when it exits.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            is_fault = not isinstance(error, BrokenPipeError)
            if is_fault:
                self.complain(f"stdout could not be written: {error.strerror}.")
            raise StdoutGone(is_fault=is_fault) from None

    # --- stderr

    def notice(self, text: str) -> None:
        """Something worth knowing that is not the result; `-q` keeps it back."""
        if not self.is_quiet:
            self.complain(text, is_prefixed=False)

    def complain(self, text: str, hint: str = "", *, is_prefixed: bool = True) -> None:
        """What went wrong and what to do. A terminal that is gone is no reason to stop."""
        from backup_ops.cli.cells import printable

        said = printable(f"{text} {hint}".strip(), keep="\n")
        with contextlib.suppress(OSError, ValueError):
            print(f"backup-ops: {said}" if is_prefixed else said, file=sys.stderr, flush=True)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
