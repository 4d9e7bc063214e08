"""Every published size of the table fits together, without any data."""

import jax
import pytest

from experiments import published_sizes
from launch.compiled import known
from launch.request import read_request
from research.training.abstract import abstract_state


@pytest.mark.parametrize("name", published_sizes.sizes())
def test_a_published_size_takes_a_batch_of_its_shapes(name):
    experiment, example = known(read_request("published_sizes", sweep=name).trials[0].experiment)
    batch = {"weight": jax.ShapeDtypeStruct((1,), "float32")}
    batch |= {column: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for column, x in example.items()}
    assert abstract_state(experiment, batch).params
