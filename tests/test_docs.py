"""The pages are read by tests, so that they stay true: commands exist, links lead somewhere, versions agree."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import backup_ops
from backup_ops.cli.parser import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced code blocks in one of the languages."""
    return [
        body
        for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if language in languages
    ]


def commands_in(page: Path) -> list[list[str]]:
    """Every complete `backup-ops …` command line of the page's shell blocks, as argv without the program."""
    found = []
    for block in blocks(text_of(page), "sh", "console"):
        for line in re.findall(r"^(?:\$ )?(?:\S*/)?backup-ops (.*)$", block.replace("\\\n", " "), re.MULTILINE):
            # What a shell would take for itself ends the command; quotes keep it together.
            words = list(shlex.shlex(line, posix=True, punctuation_chars="|&;<>"))
            end = next((at for at, word in enumerate(words) if set(word) <= set("|&;<>")), None)
            found.append(shlex.split(line, comments=True) if end is None else words[:end])
    return found


def is_accepted(argv: list[str]) -> bool:
    try:
        build_parser().parse_args(argv)
    except SystemExit as ended:
        return ended.code == 0
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_of_a_page_is_accepted(page: Path) -> None:
    for argv in commands_in(page):
        assert is_accepted(argv), f"{name_of(page)}: backup-ops {' '.join(argv)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_named_in_a_sentence_exists(page: Path) -> None:
    named = set(re.findall(r"`backup-ops ([a-z]+)", text_of(page)))
    assert named <= {command.name for command in COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text_of(linked), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", text_of(page)))
    for block in blocks(text_of(page), "sh"):
        named |= set(re.findall(r"^make ([a-z]+)", block, re.MULTILINE))
    assert named <= targets


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    to_read = [ROOT / "docs" / "index.md"]
    while to_read:
        page = to_read.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+)", text_of(page))
        to_read += [(page.parent / target).resolve() for target in links if not target.startswith("http")]
    assert [name_of(page) for page in PAGES if page not in seen] == []


def test_the_two_commands_stand_in_the_readme() -> None:
    first = blocks(text_of(ROOT / "README.md"), "sh")[0]
    assert re.findall(r"^make \w+", first, re.MULTILINE) == ["make demo", "make test"]


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    assert backup_ops.__version__ == version
    assert re.findall(r"^## (\d+\.\d+\.\d+)", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)[0] == version


def test_the_python_that_is_needed_is_the_same_everywhere() -> None:
    needed = PROJECT["project"]["requires-python"].removeprefix(">=")
    for page in (ROOT / "README.md", ROOT / "docs" / "installation.md"):
        assert re.findall(r"Python (\d+\.\d+)", text_of(page)) == [needed], name_of(page)
    assert PROJECT["tool"]["mypy"]["python_version"] == needed
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + needed.replace(".", "")


def test_every_extra_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", text_of(ROOT / "docs" / "installation.md"), re.MULTILINE))
    assert set(PROJECT["project"]["optional-dependencies"]) <= explained


def test_constraints_pin_every_package_with_hashes_and_name_no_host() -> None:
    text = text_of(ROOT / "constraints.txt")
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==\S+(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(pins) > 100
    assert [name for name, rest in pins if "--hash=sha256:" not in rest] == []
    assert "://" not in text
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name, _ in pins}
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[]", want)[0]).lower() for want in wanted} - {"backup-ops"}
    assert names <= pinned
