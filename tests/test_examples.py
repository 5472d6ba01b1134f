"""The examples in docstrings say what the code does. Importing every module on its own shows that each can be."""

import doctest
import importlib
import pkgutil

import pytest

import backup_ops

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(backup_ops.__path__, "backup_ops.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for examples in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        runner.run(examples, out=said.append)
    assert runner.failures == 0, "".join(said)
