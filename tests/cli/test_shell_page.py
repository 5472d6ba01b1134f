"""docs/shell.md says what the parser takes and what the program exits with."""

import re

import pytest

from backup_ops.cli.parser import COMMANDS
from backup_ops.run import OUTCOMES, Run
from tests.cli.shell_page import GLOBAL, PAGE, block_of, made_anew, names_in

TEXT = PAGE.read_text(encoding="utf-8")


def test_every_command_has_its_place_in_order():
    assert names_in(TEXT) == [GLOBAL, *(command.name for command in COMMANDS)]


def test_page_is_what_the_parser_says():
    assert made_anew(TEXT) == TEXT, "run `python tests/cli/shell_page.py` and read what it changed"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_argument_has_a_sentence(command):
    for line in block_of(command).splitlines():
        assert not line.endswith("| None |"), line


def test_exit_codes_are_those_of_the_program():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    used = {Run(run_id="r", job="j", job_uid="j", outcome=outcome).shell_exit_code for outcome in OUTCOMES}
    assert codes == used | {2, 129, 143}
