"""The base of the models here, and how arrays by name become a model's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from research.config.checks import check_types
from research.errors import RequestError, nearest


class Model(nn.Module):
    """A Linen module that holds its fields against their types in `init` and `apply`, before it computes anything.

    Without this, a misspelled choice would be none: no norm, no pooling, some other branch.
    """

    def check(self) -> None:
        """Raises RequestError for a field that cannot be meant; a model with more to say begins with this one."""
        check_types(self)

    def setup(self) -> None:
        self.check()


def arguments(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs under the names that `model.__call__` has for them.

    Tasks of one input call it "x".  The one input whose name the model does not have becomes its first argument, if no
    other input is.

    Raises:
      RequestError: an input that the model has no argument for, or an argument without an input.
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
    """Keyword arguments of `model.apply`: Linen's options as they are, the others as `arguments` names them.

    Where `arrays` are passed by place, or another method is called, the names are the caller's affair.
    """
    if arrays or "method" in given:
        return dict(given)
    options = {name: x for name, x in given.items() if name in _OPTIONS}
    return arguments(model, {name: x for name, x in given.items() if name not in _OPTIONS}) | options
