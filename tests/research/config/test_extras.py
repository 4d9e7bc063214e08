"""A missing optional library is one line that says which extra to install, and every extra named in the code exists."""

import pathlib
import re
import tomllib

import pytest

from research.config.extras import from_extra
from research.errors import RequestError

ROOT = pathlib.Path(__file__).parents[3]


def test_a_missing_library_names_its_extra():
    with pytest.raises(RequestError, match=r"^reading minds needs no_such_library, .*: pip install -e '\.\[minds\]'$"):
        from_extra("no_such_library", "minds", "reading minds")
    assert from_extra("json", "text", "reading").loads("1") == 1


def test_the_extras_that_the_code_names_exist_and_hold_the_library():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    used = [
        match
        for folder in ("research", "launch", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        for match in re.findall(r'from_extra\(\s*"([\w.]+)",\s*"(\w+)"', path.read_text())
    ]
    assert used
    for module, extra in used:
        assert any(module.partition(".")[0] in requirement for requirement in extras[extra]), (module, extra)
