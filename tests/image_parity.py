"""Compares our image models with fixtures of reference implementations: same weights, same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
from flax import linen as nn
from safetensors.numpy import save_file

from research.pretrained import export_pretrained, mapping
from research.pretrained.catalog import find_variant
from research.pretrained.family import Family
from research.pretrained.rules import KeyMap


@dataclasses.dataclass(frozen=True)
class Reference:
    """A fixture, and our model with its weights.

    Attributes:
      published: {published name: array}, the reference's weights and buffers.
      images: [batch, height, width, channels].
      outputs: the reference's outputs: logits, loss, hidden_states.0 [batch, channels, height, width], ...
    """

    arrays: dict[str, np.ndarray]
    model: nn.Module
    key_map: KeyMap
    variables: dict[str, Any]

    @property
    def published(self) -> dict[str, np.ndarray]:
        return parity.under(self.arrays, "param/")

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return parity.under(self.arrays, "output/")

    @property
    def images(self) -> jax.Array:
        return jnp.asarray(self.arrays["input/pixel_values"].transpose(0, 2, 3, 1))

    @property
    def labels(self) -> jax.Array:
        return jnp.asarray(self.arrays["input/labels"])

    @property
    def rest(self) -> dict[str, Any]:
        return {name: tree for name, tree in self.variables.items() if name != "params"}


def reference(arrays: dict[str, np.ndarray], model: nn.Module, family: Family, publisher: str) -> Reference:
    """Our `model` with the weights in a fixture's `arrays`."""
    model.check()
    key_map = next(key_map for key_map in family.key_maps(model) if key_map.publisher == publisher)
    expected = family.shapes(model, arrays["input/pixel_values"].shape[1])
    return Reference(arrays, model, key_map, mapping.to_ours(key_map, parity.under(arrays, "param/"), expected))


def load(name: str, family: Family, from_timm: Callable[[dict[str, Any]], nn.Module]) -> Reference:
    """Loads a fixture and builds the model from the configuration in it."""
    arrays, metadata = parity.load(name)
    if name.startswith("timm_"):
        return reference(arrays, from_timm(metadata["config"]), family, "timm")
    return reference(arrays, family.from_config(metadata["config"]), family, "huggingface")


@dataclasses.dataclass(frozen=True)
class Evaluated:
    logits: jax.Array
    loss: jax.Array
    intermediates: dict[str, Any]
    gradients: dict[str, np.ndarray]  # by published name


def evaluated(ref: Reference) -> Evaluated:
    """Computes logits, mean cross-entropy, intermediates and gradients in evaluation mode."""

    @jax.jit
    def run(params, rest):
        def loss(params):
            logits, sown = ref.model.apply({"params": params, **rest}, ref.images, mutable=["intermediates"])
            mean = optax.softmax_cross_entropy_with_integer_labels(logits, ref.labels).mean()
            return mean, (logits, sown["intermediates"])

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, (logits, intermediates)), gradients = run(ref.variables["params"], ref.rest)
    return Evaluated(logits, loss, intermediates, mapping.to_theirs(ref.key_map, {"params": gradients, **ref.rest}))


def check_evaluation(ref: Reference) -> Evaluated:
    """Logits, loss and gradients are those of the reference."""
    ours, theirs = evaluated(ref), ref.outputs
    assert largest_error(ours.logits, theirs["logits"]) < 1e-4
    assert abs(ours.loss - theirs["loss"]) < 1e-5
    assert gradient_error(ref, ours.gradients) < 1e-4
    return ours


def check_inside(ref: Reference, states: list[jax.Array], last: jax.Array) -> None:
    """`states` are the reference's hidden states in their order, and `last` the features under its head."""
    theirs = ref.outputs
    expected = {name: states[int(name.split(".")[1])] for name in theirs if name.startswith("hidden_states")}
    expected |= {"forward_features": last} if "forward_features" in theirs else {}
    assert expected
    for name, value in expected.items():
        assert largest_error(value, theirs[name]) < 1e-4, name


def check_bfloat16(model: nn.Module, x: jax.Array, **options: Any) -> None:
    """A model that computes in bfloat16 keeps its parameters, and gives its logits, in float32."""
    assert model.dtype == "bfloat16"
    variables = random_variables(model, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    given = apply(model, variables, x, **options)
    logits = given[0] if "mutable" in options else given
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


def gradient_error(ref: Reference, gradients: dict[str, np.ndarray]) -> float:
    """The largest difference between the norms of our gradients and the reference's.

    It is relative to the reference's norm, or to 1e-3 of the largest norm if that is larger: gradients that are zero up
    to rounding (such as the bias of keys, which softmax ignores) have no meaningful norm.
    """
    norms = {name: float(x) for name, x in parity.under(ref.arrays, "gradnorm/").items()}
    floor = 1e-3 * max(norms.values())
    ours = {name: np.linalg.norm(gradients[name].astype(np.float64)) for name in norms}
    return max(abs(ours[name] - norm) / max(norm, floor) for name, norm in norms.items())


def largest_error(ours: jax.Array, theirs: np.ndarray) -> float:
    """The largest absolute difference; a map [batch, height, width, channels] may be compared with PyTorch's layout."""
    ours = ours.transpose(0, 3, 1, 2) if theirs.ndim == 4 else ours
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def training_errors(ref: Reference) -> dict[str, float]:
    """The largest absolute errors of one forward pass in training mode: of the logits, and of each running statistic.

    PyTorch's running variance is unbiased and Flax's is biased; ours is multiplied by n / (n - 1), where n is the
    number of values per channel.
    """

    @jax.jit
    def run(variables):
        return ref.model.apply(
            variables,
            ref.images,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, method: isinstance(module, nn.BatchNorm),
        )

    logits, new = run(ref.variables)
    normalized = mapping.flatten(new["intermediates"])
    before, after = mapping.flatten(ref.rest["batch_stats"]), mapping.flatten(new["batch_stats"])
    for path in after:
        owner, leaf = path.rsplit("/", 1)
        n = int(np.prod(normalized[f"{owner}/__call__"][0].shape[:-1]))
        if leaf == "var":
            kept = _momentum(ref.model, owner) * before[path]
            after[path] = kept + (after[path] - kept) * n / (n - 1)
    statistics = {"params": ref.variables["params"], "batch_stats": mapping.unflatten_leaves(after)}
    ours = mapping.to_theirs(ref.key_map, statistics)
    errors = {
        name: float(np.abs(ours[name] - x).max())
        for name, x in parity.under(ref.arrays, "train/param/").items()
        if not name.endswith("num_batches_tracked")
    }
    return errors | {"logits": largest_error(logits, ref.arrays["train/output/logits"])}


def _momentum(model: nn.Module, path: str) -> float:
    expand = getattr(model, "expand_momentum", None)
    return expand if path.endswith("expand_norm") and expand is not None else model.momentum


def count(model: nn.Module, family: Family) -> int:
    """Counts the parameters of a model without creating them."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(family.shapes(model)["params"]))


def random_variables(model: nn.Module, x: jax.Array) -> dict[str, Any]:
    """Nonzero variables of the right shapes, made by NumPy, since compiling an initialisation is slow."""
    generator = np.random.default_rng(0)

    def made(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = generator.standard_normal(leaf.shape)
        if path[-1].key in ("var", "scale"):
            return np.asarray(1 + 0.1 * np.abs(noise), leaf.dtype)
        fan_in = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
        return np.asarray(noise / np.sqrt(fan_in), leaf.dtype)

    return jax.tree_util.tree_map_with_path(made, jax.eval_shape(model.init, jax.random.key(0), x))


def apply(model: nn.Module, variables: dict[str, Any], x: jax.Array, **kwargs: Any) -> Any:
    """A compiled `model.apply`; keyword arguments are static except for `rngs`."""
    rngs = kwargs.pop("rngs", None)
    return jax.jit(lambda variables, x, rngs: model.apply(variables, x, rngs=rngs, **kwargs))(variables, x, rngs)


def written(directory, name="vit"):
    """Writes the weights of a fixture to a file; also returns its other contents."""
    arrays, metadata = parity.load(name)
    path = directory / "model.safetensors"
    save_file(parity.under(arrays, "param/"), path)
    return path, arrays, metadata["config"]


def published(directory, variant, **fields):
    """Random weights of a named variant, written with Hugging Face's names."""
    family, found = find_variant(variant)
    model = found.build().clone(**fields)
    variables = random_variables(model, np.ones(family.inputs(model)["x"].shape, np.float32))
    return export_pretrained(model, variables, directory / f"{variant}.safetensors"), variables
