"""Compares our detectors with fixtures of reference implementations: same weights, same images, same boxes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import parity
from flax import linen as nn

from research.detection import boxes
from research.pretrained import mapping
from research.pretrained.family import Family
from research.pretrained.rules import KeyMap
from research.training.accumulation import ratio, total_loss


@dataclasses.dataclass(frozen=True)
class Reference:
    """A fixture, and our model with its weights."""

    arrays: dict[str, np.ndarray]
    model: nn.Module
    key_map: KeyMap
    variables: dict[str, Any]

    @property
    def published(self) -> dict[str, np.ndarray]:
        return parity.under(self.arrays, "param/")

    def image(self, name: str) -> jax.Array:
        return jnp.asarray(self.arrays[f"input/{name}"].transpose(0, 2, 3, 1))


def load(name: str, family: Family) -> Reference:
    """Loads a fixture and builds the model from the configuration in it."""
    arrays, metadata = parity.load(name)
    model = family.from_config(metadata["config"])
    model.check()
    key_map = family.key_maps(model)[0]
    return Reference(
        arrays, model, key_map, mapping.to_ours(key_map, parity.under(arrays, "param/"), family.shapes(model))
    )


def set_batch(arrays: dict[str, np.ndarray], size: tuple[int, int], padding: int = 3) -> dict[str, jax.Array]:
    """The true boxes of a fixture of a set detector as a batch, for images of that (height, width)."""
    padded = []
    for i in range(2):
        true = boxes.xyxy(arrays[f"input/labels.{i}.boxes"]) * np.array([size[1], size[0]] * 2)
        labels = arrays[f"input/labels.{i}.class_labels"]
        more = 3 + padding - len(labels)
        padded.append((np.pad(true, ((0, more), (0, 0))), np.pad(labels, (0, more), constant_values=-1)))
    true, labels = (jnp.asarray(np.stack(x)) for x in zip(*padded, strict=True))
    return {"boxes": true, "labels": labels, "weight": jnp.ones(2)}


def losses(task: Any, apply: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The terms of a task, divided by their weights, and "loss", their sum."""
    values = {name: ratio(*term) for name, term in task.loss(apply, batch).items()}
    return values | {"loss": total_loss(values)}


def check_gradients(ref: Reference, loss: Any) -> None:
    """The norm of the gradient of `loss(variables)` by each tensor that the reference trains."""

    def of(params: Any) -> jax.Array:
        return loss({**ref.variables, "params": params})

    value, gradients = jax.jit(jax.value_and_grad(of))(ref.variables["params"])
    np.testing.assert_allclose(value, ref.arrays["loss_for_grad"], rtol=1e-4)
    ours = mapping.to_theirs(ref.key_map, {**ref.variables, "params": gradients})
    norms = {name: float(x) for name, x in parity.under(ref.arrays, "gradnorm/").items()}
    floor = 1e-3 * max(norms.values())
    assert len(norms) > 20
    for name, norm in norms.items():
        assert abs(np.linalg.norm(ours[name]) - norm) < 1e-4 * max(norm, floor), name
