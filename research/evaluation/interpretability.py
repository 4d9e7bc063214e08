"""Looking inside a model: filters, outputs of every layer, saliency of pixels, attention between tokens.

    from research.inference import load
    from research.evaluation.interpretability import attention_maps, feature_maps, saliency

    predictor = load("runs/fashion_mnist_cnn/base")
    inside = predictor.model, predictor.variables, predictor.inputs(images)
    feature_maps(*inside)["stage0_block0"]        [batch, height, width, channels]
    saliency(*inside, samples=16)                 [batch, height, width]

Pure functions of (model, variables, inputs) that return arrays; they work on any Linen model, trained here or read by
`load_pretrained`.  `inputs` is one array, or the model's arguments by name, masks included: {"x": ..., "mask": ...}.
`python -m launch report RUN --inside` draws them.
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
    """The outputs of every submodule and every sown value, by path, in the order of computation.

    `stage0_block1/conv0` is what that module returned (the second call of one has the path `…[1]`), and a sown value
    has its own name.  Scanned layers, `blocks`, have a leading axis [layer, ...].
    """
    names: list[str] = []

    def run(variables: Any, inputs: Any) -> list[jax.Array]:
        _, seen = _apply(model, variables, inputs, capture_intermediates=True, mutable=["intermediates"])
        found = {path: x for path, x in _walk(seen["intermediates"]) if isinstance(x, jax.Array)}
        names.extend(found)
        return list(found.values())

    program = jax.jit(run).trace(dict(variables), inputs).jaxpr.jaxpr
    order = list(names)  # tracing once more, for the call, would double them
    found = dict(zip(order, jax.jit(run)(dict(variables), inputs), strict=True))
    # A model may sow late what it computed early: the program says when.  One value's names stay as Linen has them.
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
        elif path:  # what the model itself returned needs no looking inside
            yield from ((f"{path}[{i}]" if i else path, x) for i, x in enumerate(value))


def feature_maps(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs) -> dict[str, jax.Array]:
    """The activations that are maps, [batch, height, width, channels], by path, in the order of computation."""
    found = {path: x for path, x in activations(model, variables, inputs).items() if x.ndim == 4}
    return {path: x for path, x in found.items() if not path.endswith("attention_weights")}


def filters(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs, *, path: str | None = None) -> jax.Array:
    """The kernels of a convolution, [filters, height, width, channels]: what each looks for.

    Args:
      path: the convolution's; None is the first that the image meets.

    Raises:
      RequestError: there is none, or none of this path.
    """
    kernels = convolution_kernels(model, variables, inputs)
    require(bool(kernels), f"{type(model).__name__} has no convolution, and so no filters")
    path = next(iter(kernels)) if path is None else path
    require(path in kernels, f"path={path!r}: no convolution there; {nearest(path, kernels)}")
    return jnp.moveaxis(kernels[path], -1, 0)


def convolution_kernels(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs) -> dict[str, jax.Array]:
    """The kernel [height, width, channels, filters] of every convolution by path, in the order of computation."""
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
    """How much each pixel moves a class's logit: |∂ logit / ∂ x|, the largest over channels (Simonyan et al., 2014).

    Args:
      inputs: images [batch, height, width, channels] as the model sees them; of several arguments, the first.
      labels: the class to ask about, int [batch]; None is the one predicted.
      samples: images with noise to average the gradients of (SmoothGrad, Smilkov et al., 2017); 0 asks x alone.
      noise: standard deviation of that noise, as a share of an image's largest value less its smallest.
      seed: of the noise.

    Returns:
      [batch, height, width], not negative.

    Raises:
      RequestError: `inputs` are no images, or `labels` are not a class of the model for each.
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
        # Images do not see one another in evaluation, so the gradient of the sum is that of each.
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
    if isinstance(labels, jax.core.Tracer):  # nobody can say yet
        return
    given = np.asarray(labels)
    good = given.shape == (batch,) and np.issubdtype(given.dtype, np.integer)
    good = good and bool(((given >= 0) & (given < classes)).all())
    require(good, f"labels={given.tolist()!r:.80}: expected {batch}, one per image, each from 0 to {classes - 1}")


def attention_maps(model: nn.Module, variables: Mapping[str, Any], inputs: Inputs, *, pattern: str = "*") -> jax.Array:
    """The attention weights of every layer, [layer, batch, head, query, key]; each row of keys sums to 1.

    Args:
      pattern: which layers, by path, as in research/paths.py: "decoder/*".

    Raises:
      RequestError: no layer attends there, or the layers attend over different lengths.
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
    """How much of each input token reaches each output token, [batch, query, key] (Abnar & Zuidema, 2020).

    The heads' mean, half of it and half of the token itself for the residual connection, multiplied up the layers;
    each row sums to 1.

    Args:
      maps: [layer, batch, head, query, key], of a model that attends to itself: as many queries as keys.
    """
    layers = (maps.mean(2) + jnp.eye(maps.shape[-1])) / 2

    def up(below: jax.Array, layer: jax.Array) -> tuple[jax.Array, None]:
        return layer @ below, None

    return jax.lax.scan(up, jnp.broadcast_to(jnp.eye(maps.shape[-1]), layers.shape[1:]), layers)[0]
