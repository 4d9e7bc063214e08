"""Shared tests of GPT and Llama: our model against a fixture of its reference."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity

from research.pretrained import mapping
from research.pretrained.family import Family


def reference(family: Family, name: str, fields: dict, from_config=None):
    """(arrays, our model with these fields, its key map, its variables)."""
    arrays, metadata = parity.load(name)
    model = dataclasses.replace((from_config or family.from_config)(metadata["config"]), **fields)
    model.check()
    (key_map,) = family.key_maps(model)
    variables = mapping.to_ours(key_map, parity.under(arrays, "param/"), family.shapes(model))
    return arrays, model, key_map, jax.tree.map(jnp.asarray, variables)


def check_logits(family: Family, name: str, fields: dict) -> None:
    arrays, model, _, variables = reference(family, name, fields)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(variables, arrays["input/input_ids"]), arrays["output/logits"], atol=1e-4)
    valid = arrays["input/padded_attention_mask"].astype(bool)
    positions = arrays["input/padded_position_ids"]
    padded = apply(variables, arrays["input/padded_input_ids"], positions=positions, mask=valid)
    np.testing.assert_allclose(padded * valid[..., None], arrays["output/logits_leftpad"], atol=1e-4)


def check_training(family: Family, name: str, fields: dict) -> None:
    """Compares the loss, the norm of every parameter's gradient, and recorded losses over training steps, if any."""
    arrays, model, key_map, variables = reference(family, name, fields)
    tokens = arrays["input/input_ids"]

    def loss(variables):
        logits = model.apply(variables, tokens, train=True)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    optimizer = optax.adamw(1e-2, b1=0.9, b2=0.95, weight_decay=0.1)

    @jax.jit
    def step(variables, state):
        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(gradient, state, variables)
        return optax.apply_updates(variables, updates), state, value, gradient

    state, losses = optimizer.init(variables), []
    for i in range(len(arrays.get("train/losses", [0]))):
        variables, state, value, gradient = step(variables, state)
        losses.append(value)
        if i == 0:
            np.testing.assert_allclose(value, arrays["output/loss"], atol=1e-5)
            for key, x in mapping.to_theirs(key_map, gradient).items():
                np.testing.assert_allclose(np.linalg.norm(x), arrays[f"gradnorm/{key}"], rtol=1e-4, atol=1e-6)
    if "train/losses" in arrays:
        np.testing.assert_allclose(losses, arrays["train/losses"], atol=1e-4)
