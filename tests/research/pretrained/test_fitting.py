"""Preprocessing of detectors: sizes as the publishers compute them, and files of transformers both ways."""

import numpy as np
import pytest

from research.errors import RequestError
from research.pretrained import FitWithin


@pytest.mark.parametrize(
    ("picture", "multiple", "expected"),
    [
        ((480, 640), 1, (800, 1066)),  # the picture of DETR's examples
        ((640, 480), 1, (1066, 800)),
        ((300, 1000), 1, (400, 1333)),  # the longest side decides
        ((480, 640), 16, (800, 1056)),
        ((500, 500), 1, (800, 800)),
    ],
)
def test_sizes(picture, multiple, expected):
    assert FitWithin(multiple=multiple).size(*picture) == expected


def test_pixels_are_normalised_and_may_be_reversed():
    picture = np.full((4, 4, 3), [255, 0, 51], np.uint8)
    x = FitWithin(shortest=4, longest=8, mean=(0.5,) * 3, std=(0.5,) * 3)(picture)
    np.testing.assert_allclose(x[0, 0], [1, -1, -0.6], rtol=1e-5)
    raw = FitWithin(letterbox=(8, 4), mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0, reverse=True)(picture)
    assert raw[0, 0].tolist() == [51, 0, 255] and raw[7, 0].tolist() == [114] * 3
    assert FitWithin().for_channels(1).mean == pytest.approx((0.449,))


def test_files_of_transformers_both_ways():
    given = FitWithin(shortest=512, longest=864, mean=(0.1, 0.2, 0.3))
    assert FitWithin().from_hf(given.to_hf()) == given
    assert FitWithin().from_hf({"size": 600, "max_size": 1000}) == FitWithin(shortest=600, longest=1000)
    plain = FitWithin().from_hf({"do_normalize": False, "do_rescale": False})
    assert (plain.mean, plain.std, plain.scale) == ((0.0,) * 3, (1.0,) * 3, 1.0)
    with pytest.raises(RequestError, match="size={'height': 3, 'shortest_edge': 'x'} in preprocessor_config.json"):
        FitWithin().from_hf({"size": {"height": 3, "shortest_edge": "x"}})
    with pytest.raises(RequestError, match="shortest=900: expected at most longest=800"):
        FitWithin().from_hf({"size": {"shortest_edge": 900, "longest_edge": 800}})
