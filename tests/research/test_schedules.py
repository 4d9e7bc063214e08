import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import RequestError
from research.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Polynomial,
    Step,
    WarmupStableDecay,
)

# The fixture's series, from PyTorch's and Hugging Face's schedulers over 40 steps with a base rate of 0.1.
REFERENCE = {
    "cosine_annealing": (Cosine(final=0.05), 40),
    "cosine_restarts": (CosineRestarts(period=7, growth=2, final=0.02), 40),
    "exponential": (Exponential(decay=0.9), 40),
    "hf_constant_warmup": (Constant(warmup_steps=6), 40),
    "hf_cosine_warmup": (Cosine(warmup_steps=6), 40),
    "hf_inverse_sqrt": (InverseSqrt(warmup_steps=6), 40),
    "hf_linear_warmup": (Linear(warmup_steps=6), 40),
    "hf_polynomial": (Polynomial(warmup_steps=6, power=2.0, final=0.01), 40),
    "multistep": (Step(milestones=(8, 20), decay=0.1), 40),
    "onecycle": (OneCycle(pct_start=0.3), 41),
    "step": (Step(every=10, decay=0.3), 40),
}


def series(schedule, total_steps, steps=None):
    steps = jnp.arange(total_steps) if steps is None else steps
    return jax.jit(jax.vmap(lambda step: schedule.factor(step, total_steps)))(steps)


def test_every_series_of_the_fixture_is_compared():
    arrays, _ = parity.load("lr_schedules")
    assert {f"lr/{name}" for name in REFERENCE} == set(arrays)


@pytest.mark.parametrize("name", REFERENCE)
def test_equals_pytorch(name):
    arrays, metadata = parity.load("lr_schedules")
    schedule, total_steps = REFERENCE[name]
    schedule.check(total_steps)
    steps = jnp.arange(metadata["config"]["total_steps"])
    expected = arrays[f"lr/{name}"] / metadata["config"]["base_lr"]
    np.testing.assert_allclose(series(schedule, total_steps, steps), expected, atol=1e-6)
    with jax.enable_x64(True):
        np.testing.assert_allclose(series(schedule, total_steps, steps), expected, atol=1e-13)


WARMUP = st.integers(0, 20)
FINAL = st.floats(0, 1)
ANY_SCHEDULE = st.one_of(
    st.builds(Constant, warmup_steps=WARMUP),
    st.builds(Cosine, warmup_steps=WARMUP, final=FINAL),
    st.builds(Linear, warmup_steps=WARMUP, final=FINAL),
    st.builds(Polynomial, warmup_steps=WARMUP, final=FINAL, power=st.floats(0.5, 4)),
    st.builds(InverseSqrt, warmup_steps=WARMUP, timescale=st.none() | st.integers(1, 100)),
    st.builds(Step, warmup_steps=WARMUP, every=st.integers(1, 39), decay=st.floats(0.1, 1)),
    st.builds(Step, milestones=st.just((3, 30)), decay=st.floats(0.1, 1)),
    st.builds(Exponential, warmup_steps=WARMUP, decay=st.floats(0.5, 1), every=st.integers(1, 50)),
    st.builds(
        WarmupStableDecay,
        warmup_steps=WARMUP,
        decay_steps=st.integers(1, 20),
        final=FINAL,
        shape=st.sampled_from(["linear", "cosine", "sqrt"]),
    ),
    st.builds(OneCycle, pct_start=st.floats(0.1, 0.9)),
    st.builds(CosineRestarts, period=st.integers(1, 60), growth=st.integers(1, 3), final=FINAL),
)


@settings(max_examples=40, deadline=None)
@given(ANY_SCHEDULE)
def test_is_a_share_of_the_rate_at_every_step_and_after_the_last(schedule):
    schedule.check(40)
    steps = jnp.arange(45)
    factors = np.asarray(jax.vmap(lambda step: schedule.factor(step, 40))(steps))
    assert np.isfinite(factors).all()
    assert factors.min() >= 0
    assert factors.max() <= 1 + 1e-6
    np.testing.assert_allclose(factors[7], schedule.factor(7, 40), atol=1e-6)  # on its own, and as a Python int


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([Cosine, Linear, Polynomial]), WARMUP, FINAL)
def test_rises_from_zero_and_falls_to_final(kind, warmup_steps, final):
    factors = np.asarray(series(kind(warmup_steps=warmup_steps, final=final), 40, jnp.arange(41)))
    np.testing.assert_allclose(factors[:warmup_steps], np.arange(warmup_steps) / max(1, warmup_steps), atol=1e-6)
    assert factors[warmup_steps] == pytest.approx(1)
    assert factors[40] == pytest.approx(final, abs=1e-6)
    assert (np.diff(factors[warmup_steps:]) <= 1e-6).all()


def test_warmup_stable_decay():
    factors = series(WarmupStableDecay(warmup_steps=4, decay_steps=4, final=0.2), 12, jnp.arange(13))
    expected = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    np.testing.assert_allclose(factors, expected, atol=1e-6)
    roots = series(WarmupStableDecay(decay_steps=4, shape="sqrt"), 4, jnp.arange(5))
    np.testing.assert_allclose(roots, 1 - np.sqrt(np.arange(5) / 4), atol=1e-6)
    cosines = series(WarmupStableDecay(decay_steps=4, shape="cosine"), 4, jnp.arange(5))
    np.testing.assert_allclose(cosines, series(Cosine(), 4, jnp.arange(5)), atol=1e-6)


def test_inverse_sqrt_halves_after_three_timescales():
    assert InverseSqrt(timescale=100).factor(300, 1000) == pytest.approx(0.5)
    assert InverseSqrt().factor(30_000, 50_000) == pytest.approx(0.5)


def test_exponential_counts_from_the_end_of_the_warmup():
    schedule = Exponential(warmup_steps=2, decay=0.25, every=4)
    np.testing.assert_allclose(series(schedule, 12)[jnp.asarray([1, 2, 4, 6, 10])], [0.5, 1, 0.5, 0.25, 0.0625])


def test_final_may_be_traced():
    finals = jnp.asarray([0.0, 0.3])
    traced = jax.jit(jax.vmap(lambda final: dataclasses.replace(Cosine(), final=final).factor(30, 40)))(finals)
    np.testing.assert_allclose(traced, [Cosine(final=x).factor(30, 40) for x in (0.0, 0.3)], rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Cosine(warmup_steps=500), "warmup_steps=500: must be a whole number from 0 to total_steps=100"),
        (Constant(warmup_steps=-1), "warmup_steps=-1:"),
        (Constant(warmup_steps=0.5), "warmup_steps=0.5:"),
        (Cosine(final=1.5), "final=1.5:"),
        (Linear(final=float("nan")), "final=nan:"),
        (Linear(final="low"), "final=low:"),
        (Polynomial(power=0.0), "power=0.0:"),
        (InverseSqrt(timescale=0), "timescale=0:"),
        (Step(), "give one of the two"),
        (Step(milestones=(3,), every=3), "give one of the two"),
        (Step(every=100), "every=100:"),
        (Step(milestones=(8, 200)), r"milestones=\(8, 200\):"),
        (Step(milestones=(20, 8)), r"milestones=\(20, 8\):"),
        (Step(milestones=(0, 8)), r"milestones=\(0, 8\):"),
        (Step(every=10, decay=0.0), "decay=0.0:"),
        (Exponential(decay=1.1), "decay=1.1:"),
        (Exponential(every=0), "every=0:"),
        (WarmupStableDecay(), "decay_steps=0:"),
        (WarmupStableDecay(warmup_steps=60, decay_steps=60), "decay_steps=60: must be at least 1 and fit after"),
        (WarmupStableDecay(decay_steps=6, shape="square"), "shape='square':"),
        (OneCycle(pct_start=1.0), "pct_start=1.0:"),
        (OneCycle(pct_start=0.001), "pct_start=0.001:"),
        (OneCycle(div_factor=0.5), "div_factor=0.5:"),
        (CosineRestarts(period=0), "period=0:"),
        (CosineRestarts(growth=1.5), "growth=1.5:"),
    ],
)
def test_check_names_the_field(schedule, said):
    with pytest.raises(RequestError, match=said) as raised:
        schedule.check(100)
    assert "\n" not in str(raised.value)


def test_no_steps_are_no_training():
    with pytest.raises(RequestError, match="total_steps=0:"):
        OneCycle().check(0)
