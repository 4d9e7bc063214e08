"""Packed rows: every token but a document's first is a target once, and no row is too long."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.text.packing import pack


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=12), st.integers(1, 8))
def test_every_pair_once(lengths, length):
    documents, start = [], 1
    for n in lengths:  # every token of the corpus is a different number
        documents.append(np.arange(start, start + n, dtype=np.int32))
        start += n
    packed = pack(documents, length)
    assert {x.shape for x in packed.values()} == {(len(packed["tokens"]), length)}
    counted = packed["segments"] > 0
    pairs = sorted(zip(packed["tokens"][counted].tolist(), packed["targets"][counted].tolist(), strict=True))
    assert pairs == [(int(a), int(b)) for document in documents for a, b in zip(document, document[1:], strict=False)]
    for tokens, targets, segments in zip(packed["tokens"], packed["targets"], packed["segments"], strict=True):
        same = (segments[1:] == segments[:-1]) & (segments[1:] > 0)
        np.testing.assert_array_equal(tokens[1:][same], targets[:-1][same])
        assert counted.any(axis=1).all()


def test_rows_are_filled_before_new_ones_begin():
    packed = pack([np.arange(n) for n in (5, 3, 4, 2)], 5)  # 4, 2, 3 and 1 pairs: two rows of 5
    assert packed["segments"].tolist() == [[1, 1, 1, 1, 2], [1, 1, 1, 2, 2]]
