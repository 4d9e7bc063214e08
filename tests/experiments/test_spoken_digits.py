"""The compared models have equal size: the parameter counts stated in the module."""

import jax
import jax.numpy as jnp

from experiments.spoken_digits import MELS, experiment, sweeps


def parameters(model, *inputs) -> int:
    features, mask = jnp.zeros((1, 8, MELS)), jnp.ones((1, 8), bool)
    return sum(
        x.size
        for x in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), features, mask, *inputs)["params"])
    )


def test_whisper_is_as_large_as_ctc():
    (whisper,) = (variant.overrides["model"] for variant in sweeps()["architecture"] if "model" in variant.overrides)
    assert parameters(experiment().model) == 488_274
    assert parameters(whisper, jnp.ones((1, 3), jnp.int32)) == 490_272
