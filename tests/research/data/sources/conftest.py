"""Fixtures that the tests of several sources share."""

import pytest

from research import errors


@pytest.fixture
def nothing_misspelled(monkeypatch):
    """Fails if spellings are compared, which is slow: for errors only, not for every row that is read."""

    def compared(*_):
        raise AssertionError("spellings were compared although nothing is wrong")

    monkeypatch.setattr(errors.difflib, "get_close_matches", compared)
