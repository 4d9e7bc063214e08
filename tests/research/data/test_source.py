"""Reading a source: in threads, as a subset, and one clear line for an invalid example."""

import numpy as np
import pytest

from research.data.buckets import Padded
from research.data.source import (
    Columns,
    Decoded,
    Subset,
    canonical,
    chunks,
    column,
    materialize,
    nbytes,
    same_length,
    shared,
    subset,
    where,
)
from research.errors import RequestError


class Squares:
    """Example i is i², decoded on access."""

    def __init__(self, n: int = 600):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return {"features": np.array([i, i * i], np.float64), "label": i % 3}

    def where(self, i):
        return f"square {i}"


def test_shared_columns_stay_with_every_part():
    class Graph(Squares):
        def shared(self):
            return {"edges": np.array([[0, 1], [1, 2]])}

    columns = Columns({"label": np.arange(6)}, Graph().shared())
    decoded = Decoded({"label": np.arange(600)}, Graph())
    padded = Padded({"x": np.ones((6, 2))}, {"x": np.full(6, 2)}, {"x": np.array([2])}, shared=Graph().shared())
    parts = [Graph(), decoded, *(subset(source, np.arange(3)) for source in (Graph(), columns, decoded, padded))]
    for part in [*parts, subset(parts[2], np.arange(2))]:
        assert shared(part)["edges"].tolist() == [[0, 1], [1, 2]] and shared(part)["edges"].dtype == np.int32
    assert shared(Squares()) == {}


class Broken(Squares):
    """A source whose example 300 is replaced."""

    def __init__(self, example):
        super().__init__()
        self.example = example

    def __getitem__(self, i):
        return self.example if i == 300 else super().__getitem__(i)


@pytest.mark.parametrize("threads", [1, 3])
def test_materialize_decodes_every_example(threads):
    columns = materialize(Squares(), threads)
    assert np.array_equal(columns["features"][:, 1], np.arange(600, dtype=np.float32) ** 2)
    assert columns["features"].dtype == np.float32 and columns["label"].dtype == np.int32
    assert np.array_equal(columns["label"], np.arange(600) % 3)


def test_several_at_once_where_a_source_can():
    asked = []

    class Source(Squares):
        def __getitems__(self, indices):
            asked.append(list(indices))
            return [self[i] for i in indices]

    assert np.array_equal(materialize(Source(300))["label"], np.arange(300) % 3)
    assert [0] in asked and len(asked) == 3


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"features": np.zeros(3), "label": 0}, r"square 300: 'features' is float32 \[3\], but that of square 0 is"),
        ({"features": np.zeros(2, np.int32), "label": 0}, r"square 300: 'features' is int32 \[2\]"),
        ({"features": np.array([1, np.nan]), "label": 0}, r"square 300: 'features' holds nan; expected finite"),
        ({"features": np.array([np.inf, 1]), "label": 0}, r"square 300: 'features' holds inf"),
        ({"features": np.zeros(2), "lable": 0}, r"square 300: no 'label'; did you mean 'lable'\?"),
        ({"features": np.zeros(2), "label": "cat"}, r"square 300: 'label' is text"),
        ({"features": np.zeros(2), "label": 2**40}, r"square 300: 'label' holds integers beyond 32 bits"),
        ({"features": np.array([None, 1]), "label": 0}, r"square 300: 'features' is of dtype object"),
    ],
)
def test_an_example_that_does_not_fit_is_named(example, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        materialize(Broken(example))


def test_columns_that_are_not_finite_are_named():
    x = np.zeros((500, 4), np.float32)
    x[417, 2] = np.nan
    with pytest.raises(RequestError, match="^example 417: 'x' holds nan"):
        materialize(Columns({"x": x}))


def test_an_empty_source():
    for source in (Columns({"x": np.zeros((0, 2))}), Squares(0)):
        with pytest.raises(RequestError, match="empty"):
            materialize(source)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "there are none"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, "differ"),
        ({"x": np.float32(0)}, "no axis of examples"),
    ],
)
def test_columns_that_are_none(columns, message):
    with pytest.raises(RequestError, match=message):
        same_length(columns)


def test_canonical_dtypes():
    kept = [np.uint8, np.int8, np.int32, np.uint32, np.float16, np.float32, np.bool_]
    assert all(canonical(np.zeros(2, dtype), "x").dtype == dtype for dtype in kept)
    assert canonical(np.zeros(2), "x").dtype == np.float32
    assert canonical(np.zeros(2, np.int64), "x").dtype == np.int32
    assert canonical(np.zeros(0, np.int64), "x").dtype == np.int32
    import jax.numpy as jnp

    assert canonical(np.zeros(2, jnp.bfloat16), "x").dtype == jnp.bfloat16


def test_subsets_of_subsets():
    for source in (Squares(20), Columns(materialize(Squares(20)))):
        part = subset(subset(source, np.array([3, 5, 7, 9])), np.array([3, 1]))
        assert len(part) == 2
        assert np.array_equal(materialize(part)["features"][:, 0], [9, 5])
        assert part[0]["label"] == 0
    assert where(Subset(Squares(), [4]), 0) == "square 4"
    assert column(Subset(Columns({"label": np.arange(5)}), [4, 2]), "label").tolist() == [4, 2]
    assert column(Subset(Squares(), [4]), "label") is None


def test_chunks_cover_in_order():
    for source in (Squares(10), Columns(materialize(Squares(10))), materialize(Squares(10))):
        parts = list(chunks(source, size=4))
        assert [len(part["label"]) for part in parts] == [4, 4, 2]
        assert np.array_equal(np.concatenate([part["features"][:, 0] for part in parts]), np.arange(10))


def test_bytes_are_known_before_decoding():
    source = Squares(10)
    assert nbytes(source) == nbytes(Columns(materialize(source))) == 10 * (8 + 4)
