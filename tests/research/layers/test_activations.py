import pytest

from research.errors import RequestError
from research.layers.activations import Activation, activation


@pytest.mark.parametrize("name", Activation.__args__)
def test_every_name_is_a_function_that_keeps_zero_finite(name):
    assert abs(float(activation(name)(0.0))) < 1


def test_another_name_is_told_the_nearest():
    with pytest.raises(RequestError, match="^activation='gleu': did you mean 'gelu'"):
        activation("gleu")
