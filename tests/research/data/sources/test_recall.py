"""Recall: the content of a sequence depends only on its split and seed."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.sources.recall import Recall
from research.errors import RequestError


@settings(max_examples=20, deadline=None)
@given(
    distance=st.integers(0, 40), symbols=st.integers(2, 9), distractors=st.integers(1, 9), seed=st.integers(0, 2**31)
)
def test_a_sequence_is_cue_distractors_query(distance, symbols, distractors, seed):
    data = Recall(
        distance=distance, symbols=symbols, distractors=distractors, examples=50, test_examples=20, split_seed=seed
    )
    data.check()
    splits = data.load()
    assert [len(split) for split in splits] == [45, 5, 20]
    for split in splits:
        tokens, label = split.arrays()["tokens"], split.arrays()["label"]
        assert tokens.shape[1] == distance + 2 and tokens.dtype == np.uint8 and label.dtype == np.int32
        assert (tokens[:, 0] == label).all() and (label < symbols).all()
        assert (tokens[:, -1] == data.vocab_size - 1).all()
        assert ((tokens[:, 1:-1] >= symbols) & (tokens[:, 1:-1] < symbols + distractors)).all()


def test_examples_are_a_function_of_the_seed():
    first, again, other = (
        Recall(distance=16, examples=500, test_examples=100, split_seed=seed).load() for seed in (3, 3, 4)
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert (a.arrays()["tokens"] == b.arrays()["tokens"]).all()
        assert (a.arrays()["tokens"] != c.arrays()["tokens"]).any()
    rows = [row.tobytes() for split in first for row in split.arrays()["tokens"]]
    assert len(set(rows)) == len(rows)  # 8 · 8¹⁶ sequences: no test sequence was trained on
    shares = np.bincount(first.train.arrays()["label"], minlength=8) / len(first.train)
    assert np.abs(shares - 1 / 8).max() < 0.06


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distance": -1}, "distance=-1: expected at least 0"),
        ({"symbols": 1}, "symbols=1: expected at least 2"),
        ({"distractors": 0}, "distractors=0: expected at least 1"),
        ({"symbols": 200, "distractors": 56}, "symbols=200, distractors=56: expected at most 255"),
    ],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        dataclasses.replace(Recall(), **fields).check()
