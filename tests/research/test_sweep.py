"""Sweeps: combinations of variants, their names, and the resulting trials."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.digits_mlp import experiment
from research.config.override import override
from research.errors import RequestError
from research.optimizers import SGD
from research.sweep import (
    ablation,
    chain,
    choice,
    folder_name,
    grid,
    integers,
    log_uniform,
    product,
    random,
    require_sweep,
    seeds,
    shared,
    trials,
    uniform,
    zipped,
)

LR = grid("optimizer.learning_rate", 1e-3, 1e-2)
WIDTHS = grid("model.widths", (8,), (8, 8), (4,))


def test_grid_product_zipped_chain():
    assert [v.name for v in LR] == ["learning_rate=0.001", "learning_rate=0.01"]
    both = product(LR, WIDTHS)
    assert len(both) == 6 and both.variants[1].overrides == {"optimizer.learning_rate": 1e-3, "model.widths": (8, 8)}
    assert both.variants[1].name == "learning_rate=0.001,widths=8-8"
    assert [v.overrides["steps"] for v in zipped(LR, grid("steps", 5, 7))] == [5, 7]
    assert len(chain(LR, WIDTHS)) == 5
    baselines = [ablation({}, {"other": {"steps": 3}}, name=name) for name in ("first", "second")]
    assert chain(LR, *baselines).baseline == "first" and chain(LR).baseline is None


def test_an_ablation_changes_its_baseline():
    sweep = ablation({"model.dropout": 0.1}, {"wide": {"model.widths": (9,)}, "no dropout": {"model.dropout": 0.0}})
    assert sweep.baseline == "baseline"
    assert sweep.variants[1].overrides == {"model.dropout": 0.1, "model.widths": (9,)}
    assert sweep.variants[2].overrides == {"model.dropout": 0.0}


def test_what_all_variants_have_alike_can_be_taken_out():
    sweep = ablation(
        {"steps": 9, "optimizer": SGD()}, {"slow": {"optimizer.learning_rate": 1e-5}, "long": {"steps": 99}}
    )
    alike, left = shared(sweep, ["optimizer.momentum", "steps"])
    assert alike == {"optimizer": SGD()}
    assert [v.overrides for v in left] == [{"steps": 9}, {"steps": 9, "optimizer.learning_rate": 1e-5}, {"steps": 99}]
    assert left.baseline == sweep.baseline
    whole = [t.experiment for t in trials(experiment(), sweep)]
    assert [t.experiment for t in trials(override(experiment(), alike), left)] == whole
    assert shared(sweep, ["seed", "model.widths"]) == ({}, sweep)


def test_a_field_stays_behind_a_part_that_differs():
    rate = {"optimizer.learning_rate": 0.5}
    sweep = ablation(rate, {"SGD": {"optimizer": SGD()}})
    assert shared(sweep, ["optimizer.learning_rate"]) == ({}, sweep)


def test_seeds_are_trials_of_a_variant_not_variants():
    by_sweep = trials(experiment(), product(LR, seeds(2)))
    by_argument = trials(experiment(), LR, seeds=2)
    names = ["learning_rate=0.001-s0", "learning_rate=0.001-s1", "learning_rate=0.01-s0", "learning_rate=0.01-s1"]
    assert [t.name for t in by_sweep] == [t.name for t in by_argument] == names
    assert {t.variant for t in by_sweep} == {"learning_rate=0.001", "learning_rate=0.01"}
    assert [t.experiment for t in by_sweep] == [t.experiment for t in by_argument]


def test_without_a_sweep_there_is_the_base():
    (trial,) = trials(experiment())
    assert trial.name == "base-s0" and trial.experiment == experiment()


@given(st.integers(0, 2**31), st.integers(1, 20))
def test_random_draws_within_bounds_and_again_the_same(seed, number):
    space = {"a": uniform(1, 2), "b": log_uniform(1e-4, 1), "c": integers(1, 3), "d": choice("x", None)}
    sweep = random(number, space, seed=seed)
    assert sweep == random(number, space, seed=seed) and len(sweep) == number
    for variant in sweep:
        o = variant.overrides
        assert 1 <= o["a"] <= 2 and 1e-4 <= o["b"] <= 1 and o["c"] in (1, 2, 3) and o["d"] in ("x", None)
    alone = random(number, {"b": space["b"]}, seed=seed)
    assert [v.overrides["b"] for v in alone] == [v.overrides["b"] for v in sweep]


def test_log_uniform_is_even_in_the_logarithm():
    draws = [v.overrides["x"] for v in random(2000, {"x": log_uniform(1e-4, 1)})]
    below = sum(math.log10(x) < -2 for x in draws)
    assert 900 < below < 1100


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: zipped(LR, WIDTHS), "expected equal numbers"),
        (lambda: product(LR, LR), "set twice"),
        (lambda: log_uniform(0, 1), "above 0"),
        (lambda: uniform(2, 1), "lower bound first"),
        (lambda: choice(), "at least one"),
        (lambda: trials(experiment(), grid("model.width", 3, 4)), "width=3: model.width"),
        (lambda: trials(experiment(), grid("batch_size", 0, 1)), "batch_size=0: batch_size=0: expected at least 1"),
        (lambda: trials(experiment(), chain(LR, LR)), "two variants named"),
        (lambda: trials(experiment(), grid("steps")), "no variant"),
        (lambda: trials(experiment(), seeds(2), seeds=2), "share the folder base-s1; name the variants apart"),
        (lambda: trials(experiment(), seeds=5_000_000), "5,000,000 trials, expected at most 100,000"),
        (lambda: trials(experiment(), LR, seeds=99_999), "199,998 trials, expected at most 100,000"),
        (lambda: seeds(10**9), "expected at most 100,000"),
        (lambda: random(10**9, {"steps": integers(1, 9)}), "expected at most 100,000"),
        (lambda: product(seeds(1000), grid("steps", *range(1, 1001))), "expected at most 100,000"),
        (lambda: require_sweep({"depth": LR}, "dept"), "did you mean 'depth'"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_one_line(make, says):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        make()
    assert says in str(error.value)


@given(st.text(max_size=30), st.integers(0, 99))
def test_folder_names_suit_every_file_system(variant, seed):
    name = folder_name(variant, seed)
    assert name.endswith(f"-s{seed}") and set(name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.=+-"
    )
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize(
    "names",
    [("α", "β", "γ"), ("a b", "a/b", "a-b"), ("ReLU", "relu"), ("x" * 300 + " y", "x" * 300 + "/y"), ("\ud83d", "大")],
)
def test_variants_whose_names_differ_have_folders_of_their_own(names):
    folders = [t.name for t in trials(experiment(), ablation({}, {name: {} for name in names[1:]}, name=names[0]))]
    assert len({folder.lower() for folder in folders}) == len(names)
    assert folders == [t.name for t in trials(experiment(), ablation({}, {n: {} for n in names[1:]}, name=names[0]))]


def test_other_names_stay_as_they_are():
    variants = ablation({}, {"no dropout": {}, "α": {}}, name="base")
    assert [t.name for t in trials(experiment(), variants)] == ["base-s0", "no-dropout-s0", "variant-s0"]
