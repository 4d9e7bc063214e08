"""The base class of models, and the mapping from named arrays to a model's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from research.config.brief import brief
from research.config.checks import check_types
from research.console import counted
from research.errors import RequestError, nearest


class Model(nn.Module):
    """Checks the types of its fields in `init` and `apply`, before it computes anything.

    Without the check, a misspelled choice would silently select another branch, such as no norm or no pooling.

    >>> class Doubling(Model):
    ...     factor: float = 2.0
    ...
    ...     def __call__(self, x, *, train=False):
    ...         return self.factor * x
    >>> Doubling().apply({}, jnp.ones(2)).tolist()
    [2.0, 2.0]
    """

    # No field, because it has no annotation.
    tensor_rules = ()
    """(pattern of a parameter's path, dimension counted from the last) pairs: the dimension that the mesh axis "tensor"
    splits, by the first match; other parameters have no such dimension."""

    def check(self) -> None:
        """Raises RequestError for an invalid field; overrides call this method first."""
        check_types(self)

    def setup(self) -> None:
        self.check()


def described(model: nn.Module, variables: Mapping[str, Any]) -> str:
    """The model in one line, with its number of parameters: "MLP(widths=(128,), classes=10), 9,610 parameters"."""
    count = sum(x.size for x in jax.tree.leaves(variables.get("params", {})))
    return f"{brief(model)}, {counted(count, 'parameter')}"


def arguments(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Renames inputs to the arguments of `model.__call__`.

    Tasks with one input call it "x".  If exactly one input has a name that the model lacks, it becomes the model's
    first argument, unless another input already has that name.

    Raises:
      RequestError: the model has no argument for an input, or no input for a required argument.
    """
    parameters = inspect.signature(type(model).__call__).parameters.values()
    named = [p for p in list(parameters)[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(inputs)
    unknown = [name for name in inputs if name not in names]
    renamed = dict(inputs)
    if unknown and names and names[0] not in inputs:
        renamed = {names[0] if name == unknown[0] else name: x for name, x in inputs.items()}
        unknown = unknown[1:]
    if unknown:
        options = [name for name in names if name not in renamed and name != "train"]
        said = f"the task gives {unknown[0]!r}, but {type(model).__name__} takes no such argument"
        raise RequestError(f"{said}; {nearest(unknown[0], options)}")
    required = [p.name for p in named if p.default is p.empty and p.name not in renamed and p.name != "train"]
    if required:
        needs = f"{type(model).__name__} needs {required[0]!r}"
        raise RequestError(f"{needs}, which the task does not give (it gives {', '.join(inputs)})")
    return renamed


_OPTIONS = frozenset(("train", "rngs", "mutable", "method", "capture_intermediates"))


def named(model: nn.Module, given: Mapping[str, Any], arrays: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Returns keyword arguments for `model.apply`: Linen's own options unchanged, all others renamed by `arguments`.

    Renames nothing if arrays are passed by position or another method is called; the caller then uses the right names.
    """
    if arrays or "method" in given:
        return dict(given)
    options = {name: x for name, x in given.items() if name in _OPTIONS}
    return arguments(model, {name: x for name, x in given.items() if name not in _OPTIONS}) | options
