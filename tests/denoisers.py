"""Compares our denoising networks with fixtures of diffusers: same weights, same noisy images."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import parity
from flax import linen as nn

from research.pretrained import mapping
from research.pretrained.family import Family
from research.pretrained.rules import KeyMap


@dataclasses.dataclass(frozen=True)
class Reference:
    """A fixture, and our model with its weights."""

    arrays: dict[str, np.ndarray]
    model: nn.Module
    key_map: KeyMap
    variables: dict[str, Any]
    inputs: dict[str, jax.Array]

    @property
    def published(self) -> dict[str, np.ndarray]:
        return parity.under(self.arrays, "param/")


def load(name: str, family: Family, model: nn.Module | None = None) -> Reference:
    """Loads a fixture; builds the model from the configuration in it unless one is given."""
    arrays, metadata = parity.load(name)
    model = family.from_config(metadata["config"]) if model is None else model
    model.check()
    (key_map,) = family.key_maps(model)
    x = arrays["input/sample"] if "input/sample" in arrays else arrays["input/hidden_states"]
    expected = family.shapes(model, x.shape[1])
    inputs = {"x": jnp.asarray(x.transpose(0, 2, 3, 1)), "time": jnp.asarray(arrays["input/timestep"], jnp.float32)}
    if "input/class_labels" in arrays:
        inputs["label"] = jnp.asarray(arrays["input/class_labels"])
    return Reference(arrays, model, key_map, mapping.to_ours(key_map, parity.under(arrays, "param/"), expected), inputs)


def check(ref: Reference, loss) -> None:
    """Outputs, and the norm of the gradient of `loss(output)` by each tensor, are those of the reference."""

    def of(params):
        output = ref.model.apply({"params": params}, **ref.inputs)
        return loss(output), output

    (value, output), gradients = jax.jit(jax.value_and_grad(of, has_aux=True))(ref.variables["params"])
    np.testing.assert_allclose(output.transpose(0, 3, 1, 2), ref.arrays["output/sample"], atol=1e-4)
    np.testing.assert_allclose(value, ref.arrays["loss_for_grad"], rtol=1e-5)
    ours = mapping.to_theirs(ref.key_map, {"params": gradients})
    norms = {name: float(x) for name, x in parity.under(ref.arrays, "gradnorm/").items()}
    floor = 1e-3 * max(norms.values())
    assert norms.keys() == ours.keys()
    for name, norm in norms.items():
        assert abs(np.linalg.norm(ours[name]) - norm) < 1e-4 * max(norm, floor), name


def random_params(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Parameters of which none is zero, of the right shapes."""
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), **inputs)
    return jax.tree.map(lambda x: np.float32(0.2 * generator.standard_normal(x.shape)), shapes)
