"""A tiny decoder, ready to generate; shared by all tests so that its programs are compiled once."""

from functools import partial

import decoders
import pytest

from research.decoding import generate


@pytest.fixture(scope="package")
def tiny():
    return partial(generate, decoders.TINY, decoders.initialised(decoders.TINY))
