"""What a command costs to start: `--help` and a usage error load nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = {"pandas", "duckdb", "panel", "rich", "numpy", "bokeh", "param", "ruamel", "tenacity", "zstandard"}


def loaded_by(*words: str) -> set[str]:
    script = (
        "import sys\nfrom backup_ops.cli import main\n"
        f"main({list(words)!r})\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["--version"], ["nonsense"], ["runs", "--limit", "0"]]
)
def test_help_and_usage_errors_load_nothing_heavy(words):
    assert loaded_by(*words) & HEAVY == set()


def test_jobs_and_validate_load_no_database(filled):
    for command in ("jobs", "validate"):
        assert loaded_by("--home", str(filled.home), command) & {"duckdb", "pandas", "panel"} == set()
