"""Shared tests of encoder-decoder models."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity

from research.decoding import Beam, Generation, generate
from research.pretrained import mapping


def check_parity(arrays, key_map, variables, logits, *, padding: int, smoothing: float = 0.0, constants=()) -> None:
    """Compares logits outside `padding`, the loss, and the gradient norms of published parameters.

    Args:
      logits: maps variables to our logits [batch, length, vocab_size].
      smoothing: the share of the loss that is spread evenly over all tokens.
      constants: published names of constants, for which a fixture may lack gradients.
    """
    labels = arrays["input/labels"]
    valid = labels != padding
    targets = optax.smooth_labels(jax.nn.one_hot(labels, arrays["output/logits"].shape[-1]), smoothing)

    def loss(variables):
        given = logits(variables)
        return (optax.softmax_cross_entropy(given, targets) * valid).sum() / valid.sum(), given

    (value, given), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
    np.testing.assert_allclose(given[valid], arrays["output/logits"][valid], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(value, arrays["output/loss"], atol=1e-5)
    norms = {key: np.linalg.norm(x) for key, x in mapping.to_theirs(key_map, gradient).items()}
    expected = parity.under(arrays, "gradnorm/")
    assert set(norms) ^ set(expected) <= set(constants)
    for key in set(expected) & set(norms):
        np.testing.assert_allclose(norms[key], expected[key], rtol=1e-4, atol=2e-6, err_msg=key)


def sure(model, *inputs):
    """Variables of a model with confident predictions, so that rounding does not change its choices."""
    return jax.tree.map(lambda x: x * 4, jax.jit(model.init)(jax.random.key(0), *inputs))


def check_decoding(model, variables, memory) -> None:
    """Checks that cached beams equal uncached ones with the model's likelihood, and that padding of the memory has no
    effect.

    Args:
      memory: the arguments of `decode` besides tokens, in the order of `__call__`; a mask comes last.
    """
    size = len(next(iter(memory.values())))
    start = np.ones((size, 2), int)
    how = Generation(strategy=Beam(3), max_new_tokens=6, stop_tokens=(2,))
    cached = generate(model, variables, start, how, memory=memory)
    anew = generate(model, variables, start, dataclasses.replace(how, cache=False), memory=memory)
    np.testing.assert_array_equal(cached.tokens, anew.tokens)
    np.testing.assert_allclose(cached.scores, anew.scores, rtol=1e-4, atol=1e-4)

    tokens, lengths = np.asarray(cached.tokens[:, 0]), cached.lengths[:, 0]
    text = np.concatenate([start, tokens], axis=1)
    logits = jax.jit(model.apply)(variables, *memory.values(), text)
    log_probs = np.take_along_axis(jax.nn.log_softmax(logits)[:, 1:-1], tokens[..., None], axis=2)[..., 0]
    total = (log_probs * (np.arange(6) < lengths[:, None])).sum(axis=1)
    np.testing.assert_allclose(cached.scores[:, 0], total / lengths, rtol=1e-4, atol=1e-4)

    *_, mask = memory.values()
    length = int(mask[-1].sum())
    alone = {name: x[-1:, :length] for name, x in memory.items()}
    expected = jax.jit(model.apply)(variables, *alone.values(), text[-1:])
    np.testing.assert_allclose(logits[-1], expected[0], rtol=1e-4, atol=1e-4)


def check_order(model, variables, *memory) -> None:
    """Checks that target tokens do not depend on later ones, but do depend on the source."""
    target = np.random.default_rng(1).integers(1, 11, (len(memory[0]), 5))
    changed = target.copy()
    changed[:, 3:] = changed[:, 3:] % 10 + 1
    apply = jax.jit(model.apply)
    before, after = apply(variables, *memory, target), apply(variables, *memory, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (abs(before[:, 3:] - after[:, 3:]).max(axis=-1) > 0).all()
    other = apply(variables, jnp.flip(memory[0], axis=1), *memory[1:], target)
    assert (abs(before - other).max(axis=-1)[0] > 0).all()
