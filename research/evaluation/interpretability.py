"""Looks inside a model: filters, outputs of every layer, saliency of pixels, attention between tokens.

    from research.inference import load
    from research.evaluation.interpretability import attention_maps, feature_maps, saliency

    predictor = load("runs/fashion_mnist_cnn/base")
    inside = predictor.model, predictor.variables, predictor.inputs(images)
    feature_maps(*inside)["stage0_block0"]        [batch, height, width, channels]
    saliency(*inside, samples=16)                 [batch, height, width]

All are pure functions of (model, variables, inputs) that return arrays, for any Linen model, trained here or read by
`load_pretrained`.  `inputs` is one array, or the model's arguments by name, masks included: {"x": ..., "mask": ...}.
`python -m launch report RUN --inside` draws the arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.module import InterceptorContext

from research import paths
from research.errors import RequestError, nearest, require
from research.models.model import arguments

Inputs = jax.Array | Mapping[str, Any]


def activations(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs) -> dict[str, jax.Array]:
    """The outputs of every submodule and all sown values, by path, in the order of computation.

    `stage0_block1/conv0` is the output of that module, and `…[1]` the output of its second call; a sown value has its
    own name.  Outputs of scanned layers, `blocks`, have a leading axis [layer, ...].
    """
    names: list[str] = []

    def run(variables: Any, inputs: Any) -> list[jax.Array]:
        _, seen = _apply(model, variables, inputs, capture_intermediates=True, mutable=["intermediates"])
        found = {path: x for path, x in _walk(seen["intermediates"]) if isinstance(x, jax.Array)}
        names.extend(found)
        return list(found.values())

    program = jax.jit(run).trace(dict(variables), inputs).jaxpr.jaxpr
    order = list(names)  # copied, because the call below traces again and extends `names`
    found = dict(zip(order, jax.jit(run)(dict(variables), inputs), strict=True))
    # A model may sow a value long after computing it, so values are sorted by their equations in the program.  Several
    # names of one value keep Linen's order.
    made = {id(out): i for i, equation in enumerate(program.eqns) for out in equation.outvars}
    when = {path: made.get(id(out), -1) for path, out in zip(order, program.outvars, strict=True)}
    return {path: found[path] for path in sorted(order, key=when.__getitem__)}


def _apply(model: nn.Module, variables: Any, inputs: Inputs, **options: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model.apply(variables, **arguments(model, inputs), **options)
    return model.apply(variables, inputs, **options)


def _walk(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        path = above if name == "__call__" else f"{above}/{name}" if above else name
        if isinstance(value, Mapping):
            yield from _walk(value, path)
        elif path:  # skips the output of the model itself
            yield from ((f"{path}[{i}]" if i else path, x) for i, x in enumerate(value))


def feature_maps(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs) -> dict[str, jax.Array]:
    """The activations with shape [batch, height, width, channels], by path, in the order of computation."""
    found = {path: x for path, x in activations(model, variables, inputs).items() if x.ndim == 4}
    return {path: x for path, x in found.items() if not path.endswith("attention_weights")}


def filters(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs, *, path: str | None = None) -> jax.Array:
    """The kernels of a convolution, [filters, height, width, channels].

    Args:
      path: the path of the convolution; None takes the first in the order of computation.

    Raises:
      RequestError: the model has no convolution, or none at this path.
    """
    kernels = convolution_kernels(model, variables, inputs)
    require(bool(kernels), f"{type(model).__name__} has no convolution, and so no filters")
    path = next(iter(kernels)) if path is None else path
    require(path in kernels, f"path={path!r}: no convolution there; {nearest(path, kernels)}")
    return jnp.moveaxis(kernels[path], -1, 0)


def convolution_kernels(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs) -> dict[str, jax.Array]:
    """The kernels [height, width, channels, filters] of all convolutions, by path, in the order of computation."""
    found: dict[str, None] = {}

    def note(next_function: Any, args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        out = next_function(*args, **kwargs)
        if context.method_name == "__call__":
            found["/".join((*context.module.path, "kernel"))] = None
        return out

    with nn.intercept_methods(note):
        jax.eval_shape(functools.partial(_apply, model), dict(variables), inputs)
    params = paths.flatten(variables["params"])
    return {path.removesuffix("/kernel"): params[path] for path in found if path in params and params[path].ndim == 4}


def saliency(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Inputs,
    labels: jax.Array | None = None,
    *,
    samples: int = 0,
    noise: float = 0.15,
    seed: int = 0,
) -> jax.Array:
    """Measures how much each pixel changes a class's logit: |∂ logit / ∂ x|, maximum over channels.

    (Simonyan et al., 2014.)

    Args:
      inputs: images [batch, height, width, channels] as the model takes them; if there are several arguments, the first
        holds the images.
      labels: the class of the logit for each image, int [batch]; None takes the predicted class.
      samples: number of noisy copies of each image to average the gradient over (SmoothGrad, Smilkov et al., 2017);
        0 takes the gradient at the image itself.
      noise: standard deviation of the noise, as a share of the image's range (maximum minus minimum).
      seed: seeds the noise.

    Returns:
      [batch, height, width], not negative.

    Raises:
      RequestError: `inputs` has no images, or `labels` is not one class of the model per image.
    """
    named = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
    name, x = next(iter(named.items()))
    require(x.ndim == 4, f"x has shape {list(x.shape)}: expected images [batch, height, width, channels]")
    x = jnp.asarray(x, jnp.float32)

    def logits(x: jax.Array) -> jax.Array:
        return _apply(model, dict(variables), named | {name: x} if name else x)

    if labels is not None:
        _check_labels(labels, len(x), jax.eval_shape(logits, x).shape[-1])
        labels = jnp.asarray(labels)

    def of_class(x: jax.Array, labels: jax.Array) -> jax.Array:
        # Images do not influence one another in evaluation, so the gradient of the sum is each image's own gradient.
        return jnp.take_along_axis(logits(x), labels[:, None], axis=-1).sum()

    @jax.jit
    def run(x: jax.Array, labels: jax.Array | None) -> jax.Array:
        labels = logits(x).argmax(-1) if labels is None else labels
        if samples == 0:
            return jax.grad(of_class)(x, labels)
        std = noise * (x.max((1, 2, 3), keepdims=True) - x.min((1, 2, 3), keepdims=True))

        def noisy(key: jax.Array) -> jax.Array:
            return jax.grad(of_class)(x + std * jax.random.normal(key, x.shape, x.dtype), labels)

        return jax.lax.map(noisy, jax.random.split(jax.random.key(seed), samples)).mean(0)

    return jnp.abs(run(x, labels)).max(-1)


def _check_labels(labels: Any, batch: int, classes: int) -> None:
    if isinstance(labels, jax.core.Tracer):  # the values are not known while tracing
        return
    given = np.asarray(labels)
    good = given.shape == (batch,) and np.issubdtype(given.dtype, np.integer)
    good = good and bool(((given >= 0) & (given < classes)).all())
    require(good, f"labels={given.tolist()!r:.80}: expected {batch}, one per image, each from 0 to {classes - 1}")


def attention_maps(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs, *, pattern: str = "*") -> jax.Array:
    """The attention weights of all layers, [layer, batch, head, query, key]; they sum to 1 over keys.

    Args:
      pattern: selects layers by path, such as "decoder/*" (see research/paths.py).

    Raises:
      RequestError: no attention layer matches, or the layers attend over different lengths.
    """
    found = [
        (path, x if x.ndim == 5 else x[None])
        for path, x in activations(model, variables, inputs).items()
        if path.endswith("attention_weights") and paths.matches(path, pattern)
    ]
    require(bool(found), f"pattern={pattern!r}: no layer of {type(model).__name__} attends there")
    if len({x.shape[1:] for _, x in found}) > 1:
        shapes = ", ".join(f"{path} {list(x.shape[1:])}" for path, x in found)
        raise RequestError(f"pattern={pattern!r}: layers of different shapes ({shapes}); choose some by a pattern")
    return jnp.concatenate([x for _, x in found])


def attention_rollout(maps: jax.Array) -> jax.Array:
    """Estimates how much of each input token reaches each output token (Abnar & Zuidema, 2020).

    Averages each layer's heads, averages the result with the identity for the residual connection, and multiplies the
    layers.

    Args:
      maps: self-attention weights [layer, batch, head, query, key], with as many queries as keys.

    Returns:
      [batch, query, key]; each row sums to 1.
    """
    layers = (maps.mean(2) + jnp.eye(maps.shape[-1])) / 2

    def up(below: jax.Array, layer: jax.Array) -> tuple[jax.Array, None]:
        return layer @ below, None

    return jax.lax.scan(up, jnp.broadcast_to(jnp.eye(maps.shape[-1]), layers.shape[1:]), layers)[0]
