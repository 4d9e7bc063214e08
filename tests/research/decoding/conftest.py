"""The smallest decoder, ready to generate; shared so that its programs compile once."""

from functools import partial

import decoders
import pytest

from research.decoding import generate


@pytest.fixture(scope="package")
def tiny():
    return partial(generate, decoders.TINY, decoders.initialised(decoders.TINY))
