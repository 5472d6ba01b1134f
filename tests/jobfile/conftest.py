"""A good file, and what `load` says of a bad one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backup_ops import jobfile
from backup_ops.errors import ConfigInvalid


@pytest.fixture
def problems(tmp_path: Path) -> Callable[[str | bytes], list[str]]:
    """Writes the text to a jobs.yaml, loads it, and gives the lines of what is wrong with it."""

    def of(text: str | bytes) -> list[str]:
        path = tmp_path / "jobs.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(ConfigInvalid) as caught:
            jobfile.load(path)
        assert caught.value.exit_code == 2
        return str(caught.value).splitlines()

    return of
