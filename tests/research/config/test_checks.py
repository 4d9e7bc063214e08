"""Checks of fields against their types, with the messages of overrides."""

import dataclasses
from typing import Literal

import numpy as np
import pytest

from research.config.checks import check_part, check_types
from research.config.override import override
from research.errors import RequestError
from research.models.efficientnet import EfficientNet
from research.models.gpt import GPT
from research.models.resnet import ResNet
from research.models.rnn import RNNLanguageModel

Mode = Literal["fast", "slow"]


@dataclasses.dataclass(frozen=True)
class Spec:
    mode: Mode = "fast"
    other: Mode | None = None
    modes: tuple[Mode, ...] = ()
    size: int | tuple[int, int] = 3
    rate: float = 0.5


@pytest.mark.parametrize(
    "fields", [{}, {"other": "slow"}, {"modes": ("fast", "slow")}, {"size": (1, 2)}, {"rate": 1}, {"size": np.int64(3)}]
)
def test_what_is_of_its_type_passes(fields):
    check_types(Spec(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "fats"}, "mode='fats': expected one of fast, slow; did you mean 'fast'?"),
        ({"mode": None}, "mode=None: expected one of fast, slow"),
        ({"other": "quick"}, "other='quick': expected one of fast, slow or none"),
        ({"modes": ("fast", "slwo")}, "modes.1='slwo': expected one of fast, slow; did you mean 'slow'?"),
        ({"size": 2.5}, "size=2.5: expected a whole number or a tuple (a whole number, a whole number)"),
        ({"rate": "high"}, "rate='high': expected a number"),
    ],
)
def test_what_is_not_is_told_as_an_override_tells_it(fields, message):
    with pytest.raises(RequestError) as checked:
        check_types(Spec(**fields))
    with pytest.raises(RequestError) as overridden:
        override(Spec(), fields)
    assert str(checked.value) == str(overridden.value) == message


@dataclasses.dataclass(frozen=True)
class Part:
    size: int

    def check(self, most: int) -> None:
        if self.size > most:
            raise RequestError(f"size={self.size}: expected at most {most}")


def test_the_error_of_a_part_begins_with_its_path():
    check_part("stages.0", Part(3), 3)
    check_part("stages.0", None, 3)
    with pytest.raises(RequestError, match=r"^stages\.0\.size=4: expected at most 3$"):
        check_part("stages.0", Part(4), 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (GPT(vocab_size=5, depth=10**6), "depth=1000000: expected at most 2,000 layers"),
        (ResNet(depths=(1, 1, 1, 2**31)), "depths=(1, 1, 1, 2147483648): expected at most 2,000 layers"),
        (RNNLanguageModel(vocab_size=5, depth=0), "depth=0: expected at least 1"),
        (EfficientNet(depth=1e30), "depth=1e+30: "),
    ],
)
def test_a_model_of_a_million_layers_is_refused_before_it_is_built(model, message):
    with pytest.raises(RequestError) as error:
        model.check()
    assert str(error.value).startswith(message)
