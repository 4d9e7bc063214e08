"""Runs the `>>>` examples in docstrings of `research`."""

import doctest
import importlib
from pathlib import Path

import pytest

import research

ROOT = Path(research.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "    >>> " in path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_give_what_they_show(path):
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0
