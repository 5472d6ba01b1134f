"""The manifest while a run makes it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bench_of_engines import Bench


def test_names_are_for_this_user_alone_while_a_run_in_a_shared_home_writes_them(small: Bench) -> None:
    """The scratch folder of a shared home is open to its group, and the manifest of an encrypted repository plain."""
    found: dict[str, bool] = {}

    def look(_: int | None) -> None:
        for path in scratch.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[path.suffix] = found.get(path.suffix, False) or is_open_to_others(path)

    def is_open_to_others(path: Path) -> bool:
        ways = [path, *(above for above in path.parents if above.is_relative_to(scratch) and above != scratch)]
        return all(stat.S_IMODE(way.stat().st_mode) & 0o077 for way in ways)

    umask = os.umask(0o027)
    try:
        context = small.context(on_tool=look)
        scratch = context.scratch
        scratch.chmod(0o2750)
        small.engine.backup(small.job(), small.repository, context)
    finally:
        os.umask(umask)
    assert found == {".parquet": False, ".json": False}
    assert list(scratch.iterdir()) == []
