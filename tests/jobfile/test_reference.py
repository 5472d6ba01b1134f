import re
import subprocess
import sys
from pathlib import Path

from backup_ops import jobfile
from backup_ops.job import Setting
from backup_ops.jobfile import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "jobs-yaml.md"


def test_the_page_is_the_one_the_parameters_make():
    made = subprocess.run(
        [sys.executable, "-m", "backup_ops.jobfile.reference"], capture_output=True, text=True, check=True
    ).stdout
    assert PAGE.read_text(encoding="utf-8") == made, "run: python -m backup_ops.jobfile.reference > docs/jobs-yaml.md"


def test_the_page_describes_every_setting():
    page = reference.page()
    for kind in Setting.__subclasses__():
        for name in kind.attributes:
            if name not in ("name", "line") and (kind.__name__, name) != ("Job", "engine"):
                assert f"| {kind.param[name].doc} |" in page, f"{kind.__name__}.{name}"


def test_the_example_of_the_page_loads_without_a_notice():
    (example,) = re.findall(r"```yaml\n(.*?)```", reference.page(), re.DOTALL)
    assert jobfile.parse(example.encode()).notices == ()


def test_links_within_the_page_lead_somewhere():
    page = reference.page()
    for target in re.findall(r"\]\(#([^)]+)\)", page):
        assert f"## `{target}`" in page
