"""`import backup_ops` is cheap: a shell command or a decorator must not pay for a dashboard or a database."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import Place

HEAVY = ("panel", "pandas", "duckdb", "numpy", "bokeh")


def loaded_after(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after the statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import backup_ops",
        "import backup_ops; dir(backup_ops)",
        "from backup_ops import classify; classify(engine='rclone', exit_code=3)",
        "import backup_ops.journal, backup_ops.event",
    ],
)
def test_import_loads_nothing_heavy(statement: str) -> None:
    assert loaded_after(statement).isdisjoint(HEAVY)


def test_every_public_name_is_there() -> None:
    import backup_ops

    assert [name for name in backup_ops.__all__ if not hasattr(backup_ops, name)] == []


def test_a_name_that_is_not_there_is_refused_with_the_name() -> None:
    import backup_ops

    with pytest.raises(AttributeError, match="'backup_ops' has no attribute 'Jop'"):
        backup_ops.Jop  # noqa: B018


# Stands before the program: what a plain `pip install backup-ops` does not bring cannot be imported.
ONLY_CORE = """
import importlib.metadata as metadata, re, sys
def closure(name, seen):
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:  # of another platform
        return
    if package.name not in seen:
        seen.add(package.name)
        for line in package.requires or []:
            if "extra ==" not in line:
                closure(re.match(r"[A-Za-z0-9_.-]+", line)[0], seen)
core = set()
for name in CORE:
    closure(name, core)
installed = metadata.packages_distributions()
refused = {top for top, names in installed.items() if not core.intersection(names)} - {"backup_ops", "_distutils_hack"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from backup_ops.cli import main
sys.exit(main(sys.argv[1:]))
"""


def call_without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [re.split("[<>=]", wanted)[0] for wanted in project["dependencies"]]
    code = f"CORE = {core!r}\n{ONLY_CORE}"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_the_command_works_without_the_extras(tmp_path: Path) -> None:
    for name in ("source", "disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "letter.txt").write_text("dear all")
    home = ["--home", str(tmp_path / "home")]
    source, disk = str(tmp_path / "source"), str(tmp_path / "disk" / "mirror")
    for arguments in (
        ["--help"],
        [*home, "init", "--source", source, "--repository", disk],
        [*home, "validate"],
        [*home, "run", "source"],
        [*home, "status"],
        [*home, "errors"],
        [*home, "snapshots", "source"],
        [*home, "sql", "SELECT job, outcome FROM runs"],
        [*home, "export", "runs", str(tmp_path / "runs.parquet")],
        [*home, "restore", "source", "--target", str(tmp_path / "restored")],
    ):
        done = call_without_extras(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    assert (tmp_path / "restored" / "letter.txt").read_text() == "dear all"


def test_the_dashboard_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    assert call_without_extras("--home", str(tmp_path / "home"), "init").returncode == 0
    done = call_without_extras("--home", str(tmp_path / "home"), "serve")
    assert done.returncode == 2
    assert "pip install 'backup-ops[dashboard]'" in done.stderr


# numpy comes slowly, and stands half loaded among the modules meanwhile: a machine with much else to do.
SLOW_NUMPY = """
import os, sys, threading, time
import backup_ops as bo
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy._core":
            time.sleep(1)
ops = bo.open(sys.argv[1])
sys.meta_path.insert(0, Slow())
"""
USE_JOBS = """
end = time.monotonic() + 2
while time.monotonic() < end:
    os.utime(ops.home.jobs_yaml)
    assert "photos" in ops.jobs
    time.sleep(0.01)
assert "numpy" in sys.modules
ops.close()
"""


@pytest.mark.parametrize(
    "ask",
    [
        "ops.manager.watch()",
        "threading.Thread(target=ops.runs).start(); time.sleep(0.8)",
    ],
)
def test_a_thread_that_loads_pandas_harms_no_other(place: Place, ask: str) -> None:
    place.write_jobs()
    code = SLOW_NUMPY + ask + USE_JOBS
    done = subprocess.run([sys.executable, "-c", code, place.home], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1:] == []
