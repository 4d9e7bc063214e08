"""Every number of every experiment, set to what nobody means: one line, or an experiment whose values are valid."""

import typing

import pytest

from launch.list import entries
from launch.request import read_request
from research.config.override import leaf_paths, override
from research.config.types import arms, field_types
from research.errors import RequestError, in_one_line, refusal

MEANT_BY_NOBODY = ("", "0", "-1", "nan", "-inf", "1e308", str(2**63), "9" * 400, "nan,inf", f"{'9' * 400},1")


def is_number(hint) -> bool:
    """True for numbers, and tuples of them."""
    return any(
        arm in (int, float) or (typing.get_origin(arm) is tuple and is_number(typing.get_args(arm)[0]))
        for arm in arms(hint)
    )


def numbers(experiment):
    """The paths of fields whose type has numbers."""
    for path, _ in leaf_paths(experiment):
        *holders, name = path.split(".")
        holder = experiment
        for key in holders:
            holder = holder[int(key)] if key.isdigit() else getattr(holder, key)
        if is_number(field_types(type(holder)).get(name, str)):
            yield path


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_numbers_that_nobody_means_are_one_line(name):
    base = read_request(name).experiment
    lines = []
    for path in numbers(base):
        for text in MEANT_BY_NOBODY:
            try:
                with in_one_line():
                    override(base, {path: text}, parse=True).check()
            except RequestError as error:
                lines.append(refusal(error))
                assert lines[-1].startswith(f"error: {path.partition('.')[0]}") and len(lines[-1]) < 1000, (path, text)
                assert "\n" not in lines[-1] and "Error:" not in lines[-1], (path, text)
    assert len(lines) > 100
