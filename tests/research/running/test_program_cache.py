"""The programs that a run keeps."""

import dataclasses

import jax
import numpy as np
import pytest
import toys

from research.config.hparams import hparams
from research.data.feeds import make_feeds
from research.running.ahead import Ahead
from research.running.plan import Group, ProgramCache, decide
from research.training.evaluate import evaluate


def test_however_many_programs_the_data_are_on_the_device_once():
    experiment = toys.experiment()
    feeds = make_feeds(experiment.data.load(), experiment.data)
    size = {name: x.nbytes for name, x in feeds.train.resident.items()}["image"]
    cache, held = ProgramCache(), []
    for width in (4, 5, 6):
        own = dataclasses.replace(experiment, model=experiment.model.clone(widths=(width,)))
        held.append(cache.get([own], feeds, stacked=False))
        programs = held[-1].programs
        assert programs.resident["image"] is held[0].programs.resident["image"]
    shape = feeds.train.resident["image"].shape
    assert sum(x.nbytes for x in jax.live_arrays() if x.shape == shape) == size


def test_other_data_take_the_place_of_those_before():
    experiment = toys.experiment()
    first, second = (make_feeds(data.load(), data) for data in (toys.Blobs(validation=41), toys.Blobs(validation=42)))
    cache = ProgramCache()
    for feeds in (first, second):
        programs = cache.get([experiment], feeds, stacked=False).programs
        state = programs.init([0], [hparams(experiment)], feeds.train.batches(0, 24).largest())
        evaluate(programs, state, feeds.evaluation["validation"], experiment)
        del programs, state
    shapes = [x.shape for x in jax.live_arrays()]
    assert second.train.resident["image"].shape in shapes
    for feed in (first.train, first.evaluation["validation"], second.evaluation["validation"]):
        assert feed.resident["image"].shape not in shapes


def test_the_memory_of_a_trial_is_that_of_its_evaluations_where_these_need_more():
    found = []
    for size in (8, 4000):
        own = toys.experiment(data=toys.Blobs(examples=6000, validation=4000), eval_batch_size=size)
        feeds = make_feeds(own.data.load(), own.data)
        candidate = ProgramCache().get([own], feeds, stacked=False, sized=True)
        with feeds.train.batches(0, own.batch_size) as batches:
            state = candidate.programs.init([0], [hparams(own)], batches.largest())
            found.append((candidate.memory, candidate.programs.train_memory(state, batches.largest())))
    (small, training), (large, again) = found
    assert small == training == again < large


@pytest.mark.parametrize("stacked", [False, True])
def test_what_is_compiled_ahead_is_all_that_training_needs(stacked, monkeypatch):
    first, *others = (toys.experiment(model=toys.experiment().model.clone(widths=(width,))) for width in (4, 5))
    feeds = make_feeds(first.data.load(), first.data)
    own, cache = [others[0], dataclasses.replace(others[0], seed=1)], ProgramCache()
    cache.compile_ahead(own, feeds, stacked=stacked)  # without the data on the device, nothing is
    assert not cache._candidates
    cache.get([first], feeds, stacked=False)
    cache.compile_ahead(own, feeds, stacked=stacked)
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_, **__: pytest.fail("compiles again"))
    programs = cache.get(own, feeds, stacked=stacked, sized=True).programs
    trials = own if stacked else own[:1]
    with feeds.train.batches(0, own[0].batch_size) as batches:
        sent = batches.largest()
    state = programs.init([e.seed for e in trials], [hparams(e) for e in trials], sent)
    sent = {name: np.stack([x] * len(trials)) if stacked else x for name, x in sent.items()}
    state, _ = programs.train(state, [sent])
    assert len(evaluate(programs, state, feeds.evaluation["validation"], own[0])) == len(trials)


def test_an_error_of_compiling_ahead_is_told_by_who_needs_the_program():
    broken = toys.experiment()
    broken = dataclasses.replace(broken, task=dataclasses.replace(broken.task, input="absent"))
    feeds = make_feeds(broken.data.load(), broken.data)
    cache = ProgramCache()
    cache.get([toys.experiment()], feeds, stacked=False)
    ahead = Ahead(cache, own_process=True)
    ahead.start([broken], feeds, stacked=False)
    ahead._thread.join()
    with pytest.raises(Exception, match="absent"):
        cache.get([broken], feeds, stacked=False)


def test_a_callers_process_compiles_nothing_ahead():
    ahead = Ahead(ProgramCache(), own_process=False)
    ahead.start([toys.experiment()], None, stacked=False)
    assert ahead._thread is None


@pytest.mark.parametrize(("compiling", "ways"), [(1e9, {"one_after_another"}), (0.0, {"one_after_another", "stacked"})])
def test_both_ways_are_timed_only_if_that_can_pay(compiling, ways):
    own = {f"s{seed}": toys.experiment(seed=seed) for seed in range(2)}
    feeds = make_feeds(own["s0"].data.load(), own["s0"].data)
    cache = ProgramCache()
    cache.get([own["s0"]], feeds, stacked=False)
    (candidate,) = cache._candidates.values()
    candidate.compiling_seconds = compiling
    (group,) = decide(Group(tuple(own), 40), own, feeds, "auto", cache)
    assert group.measured.keys() == ways and group.stacked in ({False} if compiling else {False, True})
