"""Means and paired intervals: against SciPy, by hand, and by their properties; and number formats."""

import functools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from research.report import numbers
from research.report.read import read_run
from research.report.statistics import Difference, Summary, by_pair, paired_difference, summarize

values = st.floats(-1e6, 1e6, allow_nan=False)


def test_summary_by_hand():
    found = summarize([1.0, 2.0, 4.0])
    assert (found.mean, found.std, found.n) == (pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)), 3)
    assert summarize([0.5]) == Summary(0.5, None, 1)
    assert summarize([]) == Summary(None, None, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(values, values), min_size=2, max_size=12))
def test_paired_difference_is_scipys(pairs):
    variant, baseline = (dict(enumerate(column)) for column in zip(*pairs, strict=True))
    difference = np.subtract(*np.transpose(pairs))
    assume(np.ptp(difference) > 1e-6 * (1 + np.abs(pairs).max()))
    found = paired_difference(variant, baseline)
    expected = scipy.stats.ttest_rel(list(variant.values()), list(baseline.values())).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.mean, difference.mean(), rtol=1e-9, atol=1e-9)
    assert found.n == len(pairs)
    assert found.excludes_zero == (found.low > 0 or found.high < 0)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 9), values),
    st.dictionaries(st.integers(0, 9), values),
    st.floats(-1e3, 1e3, allow_nan=False),
)
def test_paired_difference_properties(variant, baseline, shift):
    found, back = paired_difference(variant, baseline), paired_difference(baseline, variant)
    assert found.n == back.n == len(variant.keys() & baseline.keys())
    if found.n == 0:
        assert found == Difference(None, None, None, 0)
        return
    near = functools.partial(pytest.approx, abs=1e-12 * max(map(abs, [1, *variant.values(), *baseline.values()])))
    assert back.mean == near(-found.mean)
    assert (found.low is None) == (found.high is None)
    assert found.low is None or found.n > 1
    if found.low is not None:
        assert found.low <= found.mean <= found.high
        assert (back.low, back.high) == near((-found.high, -found.low))
    moved = paired_difference({key: x + shift for key, x in variant.items()}, baseline)
    assert moved.mean == pytest.approx(found.mean + shift, abs=1e-6)


def test_pairing_removes_what_seeds_share():
    """Seeds differ by far more than variants do; paired, the difference is exact."""
    baseline = {seed: 10.0 * seed for seed in range(5)}
    variant = {seed: 10.0 * seed + 1 + 0.01 * seed for seed in range(5)}
    found = paired_difference(variant, baseline)
    assert found.excludes_zero
    assert found.high - found.low < 0.1


def test_the_same_difference_in_every_pair_is_no_certainty():
    """Two seeds are each worse by one example of 360: an interval of zero width would exclude zero."""
    baseline = {0: 350 / 360, 1: 347 / 360}
    found = paired_difference({seed: score - 1 / 360 for seed, score in baseline.items()}, baseline)
    assert found == Difference(pytest.approx(-1 / 360), None, None, 2)
    assert not found.excludes_zero
    rounded = paired_difference({0: np.float32(349 / 360).item(), 1: np.float32(346 / 360).item()}, baseline)
    assert rounded.low is None


def test_pairs_are_seeds_and_splits(make_run):
    def scores(variant, seed):
        return {"test/accuracy": float(seed)}

    variants = {"baseline": {}, "deep": {"model.depth": 8, "model.width": 3}}
    run = read_run(make_run(variants=variants, scores=scores, splits=(7, 8)))
    assert run.crossed == ("seed", "data.split_seed")
    pairs = by_pair(run.of("deep"), "test/accuracy", run.crossed)
    assert len(pairs) == 6
    assert pairs.keys() == by_pair(run.of("baseline"), "test/accuracy", run.crossed).keys()
    assert run.varied == ("model.depth", "model.width")


def test_only_finished_trials_are_paired(make_run):
    ends = {"baseline-s0": "diverged", "deep-s1": "failed", "deep-s2": {"pruned_at_step": 3}}
    run = read_run(
        make_run(
            variants={"baseline": {}, "deep": {"model.depth": 8}},
            scores=lambda variant, seed: {"test/accuracy": 1.0},
            seeds=range(5),
            ends=ends,
        )
    )
    mine, theirs = (by_pair(run.of(variant), "test/accuracy", ("seed",)) for variant in ("deep", "baseline"))
    assert paired_difference(mine, theirs).n == 2


# How numbers are written --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (Summary(0.97214, 0.00381, 5), "0.972 ± 0.004 (5)"),
        (Summary(0.97214, 0.00121, 5), "0.9721 ± 0.0012 (5)"),
        (Summary(0.97214, None, 1), "0.9721 (1)"),
        (Summary(None, None, 0), "– (0)"),
        (Summary(1234.5, 67.0, 3), "1230 ± 70 (3)"),
        (Summary(2.5e-6, 3.1e-7, 4), "(2.5 ± 0.3)×10⁻⁶ (4)"),
        (Summary(-0.5, 0.02, 4), "−0.500 ± 0.020 (4)"),
        (Summary(0.0, 0.0, 2), "0 ± 0 (2)"),
        (Summary(0.25, 0.0, 2), "0.2500 ± 0.0000 (2)"),
    ],
)
def test_measures(summary, text):
    assert numbers.measure(summary) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference(-0.0341, -0.0402, -0.0280, 5), "−0.034 [−0.040, −0.028] (5)*"),
        (Difference(0.0004, -0.0040, 0.0048, 5), "0.000 [−0.004, +0.005] (5)"),
        (Difference(0.0123, None, None, 1), "+0.0123 [–] (1)"),
        (Difference(None, None, None, 0), "–"),
        (Difference(0.5, 0.5, 0.5, 3), "+0.500 [+0.500, +0.500] (3)*"),
    ],
)
def test_differences(difference, text):
    assert numbers.difference(difference) == text


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(2, 9))
def test_a_measure_is_close_to_the_numbers_it_writes(mean, std, n):
    text = numbers.measure(Summary(mean, std, n)).replace("−", "-")
    assert text.endswith(f" ({n})")
    body = text.removesuffix(f" ({n})")
    scale = 1.0
    if "×10" in body:
        body, exponent = body.removeprefix("(").split(")×10")
        scale = 10.0 ** int(exponent.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")))
    written, spread = (float(part) * scale for part in body.split(" ± "))
    assert abs(written - mean) <= max(0.51 * std, 1e-3 * abs(mean), 1e-12)
    assert abs(spread - std) <= max(0.51 * std, 1e-6 * abs(mean), numbers.TINY)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1e-4, "1e-4"),
        (3e-3, "3e-3"),
        (0.01, "0.01"),
        (0.5, "0.5"),
        (2.5e-5, "2.5e-5"),
        (1.0, "1"),
        (1e10, "1e10"),
        (64, "64"),
        (0.0, "0"),
        (False, "false"),
        ("relu", "relu"),
        ({"_type": "research.optimizers:AdamW", "learning_rate": 1e-3}, "AdamW(learning_rate=1e-3)"),
    ],
)
def test_values_of_settings(x, text):
    assert numbers.value(x) == text
