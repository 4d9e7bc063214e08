"""`Parallel.shard` splits the state of every family."""

import math

import families
import jax
import pytest

from research.config.override import override
from research.data.feed import take
from research.data.feeds import make_feeds
from research.parallel.placement import make_placement
from research.parallel.spec import Parallel
from research.training.abstract import abstract_state

WIDER = {
    "mlp": {"model.widths": (1024, 512)},
    "cnn": {"model.channels": (128, 256), "model.hidden": (512,)},
    "convnext": {"model.widths": (256, 512)},
    "llama": {"model.width": 256, "model.mlp_width": 512},
    "unet": {"model.widths": (128, 256)},
}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_eight_devices_hold_an_eighth_of_the_parameters_and_of_the_optimizers_state(family, tmp_path):
    families.write_files(tmp_path)
    experiment = override(families.experiment(family, tmp_path), WIDER.get(family, {"model.width": 256}))
    splits = experiment.load()
    feeds = make_feeds(splits, experiment.data)
    experiment = experiment.fit(splits, feeds.decoded)
    with feeds.train.batches(0, experiment.batch_size) as batches:
        state = abstract_state(experiment, take(feeds.train.resident, batches.largest()))
    held = {"params": state.params, "opt_state": state.opt_state, "ema": state.ema}
    placement = make_placement(Parallel(mesh=(("data", 1), ("fsdp", 8)), shard="fsdp"))
    leaves, shardings = jax.tree.leaves(held), jax.tree.leaves(placement.state_shardings(held))
    own = sum(math.prod(s.shard_shape(x.shape)) for x, s in zip(leaves, shardings, strict=True))
    whole = sum(x.size for x in leaves)
    assert whole > 2**18 and own <= 0.15 * whole
