"""The programs that a run keeps."""

import dataclasses

import jax
import toys

from research.config.hparams import hparams
from research.data.feeds import make_feeds
from research.running.plan import ProgramCache
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
