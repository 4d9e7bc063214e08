"""Addresses parameters by path, `encoder/blocks/attention/kernel`, and by patterns that match many paths.

A pattern is a whole path in which `*` stands for any characters including `/`, and `*/` may also match nothing:

    */bias             every leaf named bias, at the top too
    encoder/*          everything under encoder
    encoder/*/kernel   every kernel under encoder, at any depth
    blocks[0:3]/*      layers 0, 1 and 2 of scanned layers: these rows of the leading axis of every leaf under blocks
    blocks[-1]/*       the last layer

Brackets are for parameters of `nn.scan`, whose leaves hold one layer per row: [layers, ...].  Weight decay, freezing,
learning rates and sharding select parameters by such patterns, never by the number of dimensions.
"""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from research.errors import RequestError, prefixed, require

Rules = Sequence[tuple[str, Any]]
"""(pattern, value) pairs; the first matching one counts."""

_BRACKETS = re.compile(r"(?<=[^/*])\[(-?\d+|-?\d*:-?\d*)\](?=/|$)")


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves of `tree` by path: {"a": {"kernel": x}} becomes {"a/kernel": x}.

    >>> flatten({"a": {"kernel": 1}, "bias": 2})
    {'a/kernel': 1, 'bias': 2}
    """
    return {_path(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_with_path(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Calls `f(path, leaf, *others)` for every leaf of `tree` and the corresponding parts of `rest`."""
    return jax.tree_util.tree_map_with_path(lambda keys, *leaves: f(_path(keys), *leaves), tree, *rest)


def matches(path: str, pattern: str) -> bool:
    """True if `pattern` addresses the parameter at `path`, or at least some of its layers.

    >>> matches("encoder/dense/bias", "*/bias"), matches("bias", "*/bias"), matches("bias2", "*/bias")
    (True, True, False)
    """
    return re.fullmatch(_regex(pattern), path) is not None


def first(path: str, rules: Rules, default: Any = None) -> Any:
    """Returns the value of the first rule whose pattern matches `path`; ignores brackets."""
    return next((value for pattern, value in rules if matches(path, pattern)), default)


def assign(tree: Any, rules: Rules, default: float) -> Any:
    """Assigns each parameter the number of the first matching rule, layer by layer where patterns have brackets.

    Returns `tree` with NumPy arrays as leaves: shape [], or [layers, 1, ..., 1] where a bracket selects layers.
    """

    def number(path: str, leaf: Any) -> np.ndarray:
        found = np.asarray(default)
        for pattern, value in reversed(rules):  # later writes overwrite, so the first rule is written last
            if matches(path, pattern):
                found = np.where(_chosen(pattern, path, leaf.shape), value, found)
        return found

    return map_with_path(number, tree)


def check_pattern(field: str, pattern: str) -> None:
    """Raises RequestError if `pattern`, given in `field`, is invalid."""
    require(isinstance(pattern, str) and pattern != "", f"{field}={pattern!r}: a pattern is a string such as '*/bias'")
    brackets = re.search(r"[\[\]]", _BRACKETS.sub("", pattern, count=1))
    require(
        brackets is None,
        f"{field}={pattern!r}: brackets choose layers, once, after a name, as in 'blocks[0:3]/*' or 'blocks[-1]/*'",
    )


def check_patterns(field: str, patterns: Iterable[str], tree: Any) -> None:
    """Raises RequestError, naming the nearest paths, if a pattern given in `field` matches nothing in `tree`.

    Leaves only need a shape: arrays or `jax.ShapeDtypeStruct`.
    """
    leaves = flatten(tree)
    for pattern in patterns:
        check_pattern(field, pattern)
        found = [path for path in leaves if matches(path, pattern)]
        if not found:
            near = " or ".join(repr(path) for path in _nearest(pattern, leaves)) or "nothing"
            raise RequestError(f"{field}={pattern!r}: matches none of {len(leaves)} parameters; did you mean {near}?")
        for path in found:
            with prefixed(f"{field}={pattern!r}: "):
                _chosen(pattern, path, leaves[path].shape)


def _path(keys: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _regex(pattern: str) -> str:
    literal = re.escape(_BRACKETS.sub("", pattern, count=1))
    return re.sub(r"(?:(?<=/)|^)\\\*/", "(?:.*/)?", literal).replace(r"\*", ".*")


def _chosen(pattern: str, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """The layers that a matching pattern selects: bool of shape [], or [layers, 1, ..., 1]."""
    brackets = _BRACKETS.search(pattern)
    if brackets is None:
        return np.asarray(True)
    require(len(shape) > 0, f"{path} is a scalar, without layers to choose from")
    layers, text = shape[0], brackets.group(1)
    bounds = [int(bound) if bound else None for bound in text.split(":")]
    # The end of a range may equal the number of layers; a single index may not.
    highest = layers if ":" in text else layers - 1
    inside = all(bound is None or -layers <= bound <= highest for bound in bounds)
    chosen = np.zeros(layers, bool)
    chosen[slice(*bounds) if ":" in text else bounds[0] if inside else slice(0)] = True
    require(inside and bool(chosen.any()), f"[{text}] chooses none or too many of the {layers} layers of {path}")
    return chosen.reshape(-1, *(1 for _ in shape[1:]))


def _nearest(pattern: str, paths: Iterable[str], count: int = 2) -> list[str]:
    """The paths whose names are closest in spelling to the names in the pattern."""
    names = [name for name in re.split(r"[*/]+", _BRACKETS.sub("", pattern)) if name]

    def likeness(path: str) -> float:
        parts = path.split("/")
        return sum(max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts) for name in names)

    return heapq.nlargest(count, paths, key=likeness)
