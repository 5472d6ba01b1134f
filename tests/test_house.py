"""The rules of the house, and that each contract of the linter catches what it is there for."""

import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "backup_ops").rglob("*.py"))


def test_no_module_is_longer_than_one_reads_in_a_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) <= 150


def test_no_room_is_a_dumping_ground() -> None:
    rooms = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(ROOT).parts}
    assert rooms.isdisjoint({"utils", "util", "helpers", "helper", "common", "core", "misc"})


@pytest.fixture(scope="module")
def copy_of_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "backup_ops", folder / "backup_ops", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the tree in `folder`, not on the installed one."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
    )


def test_the_house_keeps_its_contracts(copy_of_house: Path) -> None:
    done = lint(copy_of_house)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("room", "bad_import", "broken"),
    [
        ("home.py", "import backup_ops.ops", "Each room stands on its floor"),
        ("jobfile/__init__.py", "import backup_ops.engines", "Each room stands on its floor"),
        ("event.py", "import threading", "Words are pure"),
        ("journal.py", "import zstandard", "The journal's writer needs the standard library only"),
        ("manager.py", "import duckdb", "DuckDB only in history"),
        ("ops.py", "import panel", "Panel only in the dashboard"),
        ("manager.py", "import pandas", "pandas only in history and ops"),
    ],
)
def test_each_contract_catches_a_bad_import(copy_of_house: Path, room: str, bad_import: str, broken: str) -> None:
    path = copy_of_house / "backup_ops" / room
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n\ndef _bad():\n    {bad_import}\n", encoding="utf-8")
    try:
        done = lint(copy_of_house)
    finally:
        path.write_text(before, encoding="utf-8")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith(broken) and "BROKEN" in line], done.stdout


def test_a_room_without_a_floor_is_noticed(copy_of_house: Path) -> None:
    stray = copy_of_house / "backup_ops" / "stray.py"
    stray.write_text("", encoding="utf-8")
    try:
        done = lint(copy_of_house)
    finally:
        stray.unlink()
    assert done.returncode == 1
    assert "stray" in done.stdout


def test_every_file_of_the_package_is_installed_with_it() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]["*"]
    files = [path for path in (ROOT / "backup_ops").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [
        path for path in files if path.suffix != ".py" and not any(path.match(pattern) for pattern in patterns)
    ] == []
