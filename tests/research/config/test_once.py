"""Parts that values share are converted once, to the same JSON and hashes as without."""

import dataclasses

import pytest
import toys

from research.config.once import Once, hash_of, json_of
from research.config.serialization import stable_hash, to_json
from research.optimizers import SGD


@pytest.mark.parametrize("changes", [{}, {"clip_norm": 0.5, "seed": 3}, {"optimizer": SGD(momentum=0.9)}])
def test_json_and_hashes_are_those_of_the_whole_value(changes):
    value, once = toys.experiment(**changes), Once()
    for _ in range(2):
        assert json_of(value, once) == to_json(value)
        assert hash_of(value, once) == stable_hash(value)
    assert hash_of({"a": 1}, once) == stable_hash({"a": 1})


def test_a_part_is_converted_once():
    first, calls, once = toys.experiment(), [], Once()
    second = dataclasses.replace(first, seed=1)
    for value in (first, second, first):
        once(calls.append, value.model)
    assert calls == [first.model]


def test_objects_that_are_gone_are_not_mixed_up():
    once = Once()
    assert [once(tuple, [i]) for i in range(100)] == [(i,) for i in range(100)]
