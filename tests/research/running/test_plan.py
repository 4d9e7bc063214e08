"""Planning sweeps of many trials: what trials share is resolved, checked and compared once."""

import dataclasses

import pytest
import toys
from command_line import write_module

from launch.request import read_request
from research.config.hparams import structure
from research.experiment import Experiment
from research.models.mlp import MLP
from research.optimizers import SGD
from research.running import plan, prepared


@pytest.fixture(scope="module")
def request_of_many(tmp_path_factory):
    module = write_module(
        tmp_path_factory.mktemp("module") / "many.py",
        """
        import dataclasses

        import toys
        from research.data import Standardize
        from research.sweep import chain, grid, log_uniform, product, random


        def experiment():
            return dataclasses.replace(toys.experiment(), preprocess=(Standardize("image"),))


        def sweeps():
            rates = random(150, {"optimizer.learning_rate": log_uniform(1e-4, 1e-1)})
            return {"many": product(rates, grid("data.split_seed", 0, 1))}
        """,
    )
    return read_request(str(module), sweep="many")


def test_what_trials_share_is_resolved_and_checked_once(request_of_many, monkeypatch):
    calls = {"fit": 0, "load": 0, "check": 0}

    def counting(name, function):
        def counted(*arguments):
            calls[name] += 1
            return function(*arguments)

        return counted

    monkeypatch.setattr(Experiment, "fit", counting("fit", Experiment.fit))
    monkeypatch.setattr(Experiment, "load", counting("load", Experiment.load))
    monkeypatch.setattr(prepared, "check_trainable", counting("check", prepared.check_trainable))
    found = prepared.prepare(request_of_many)
    # The means of features, which differ between two splits, are hparams, so one program is enough.
    assert calls == {"fit": 2, "load": 2, "check": 1} and len(found.experiments) == 300
    for trial in request_of_many.trials[::77]:
        splits = trial.experiment.load()
        assert found.experiments[trial.name] == trial.experiment.fit(splits)
    groups = plan.group(found.experiments, 40, found.once)
    assert groups == plan.group(found.experiments, 40)
    assert sorted(len(group.trials) for group in groups) == [150, 150]


def test_trials_that_have_ended_are_not_checked_again(request_of_many, monkeypatch):
    monkeypatch.setattr(prepared, "check_trainable", lambda *_: pytest.fail("checked"))
    prepared.prepare(request_of_many, ended={trial.name for trial in request_of_many.trials})


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({"seed": 7}, True),
        ({"optimizer": dataclasses.replace(toys.experiment().optimizer, learning_rate=0.5)}, True),
        ({"clip_norm": 2.0}, True),
        ({"clip_norm": None}, False),
        ({"optimizer": SGD()}, False),
        ({"steps": 41}, False),
        ({"model": MLP(widths=(16, 9), classes=3)}, False),
        ({"data": toys.Blobs(validation=41)}, False),
    ],
)
def test_a_signature_leaves_out_seeds_and_hparams(changes, alike):
    base = toys.experiment(clip_norm=1.0)
    changed = dataclasses.replace(base, **changes)
    assert (plan.signature(base) == plan.signature(changed)) == alike
    assert (plan.signature(base, data=False) == plan.signature(changed, data=False)) == (alike or "data" in changes)


def test_none_and_a_number_differ_in_structure():
    assert structure(SGD(momentum=0.5)) == structure(SGD(momentum=0.9)) != structure(SGD(momentum=None))


def test_a_stack_has_a_largest_size_where_memory_allows_any():
    assert plan.largest_stack(plan.Candidate(None, train_memory=1)) == plan.MOST_STACKED
    names = [str(i) for i in range(1000)]
    assert {len(chunk) for chunk in plan.split_evenly(names, plan.MOST_STACKED)} == {250}
