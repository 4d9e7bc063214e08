"""Converts published checkpoints to our parameters and back, by the rules of a publisher (`rules`).

The rules are resolved against the leaves of a model, so a rule for a bias that the model lacks has no effect, and a key
map does not depend on the model's depth.  Import and export follow the same resolved plan, so export writes the
imported tensors back bit for bit.  `Unused` tensors are not read: PyTorch's count of batches, `num_batches_tracked`, is
always written as 0.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from research.errors import require
from research.pretrained.patterns import fill, fitting, match, placeholders
from research.pretrained.rules import Alias, KeyMap, Rule, Tied, Transform, Unused, as_tuple


@dataclasses.dataclass(frozen=True)
class Step:
    """A rule with its placeholders filled in; `layer` is the index into the leading axis of stacked leaves, or None."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    layer: int | None
    transform: Transform


def plan(key_map: KeyMap, leaves: Mapping[str, Any]) -> list[Step]:
    """Resolves the rules into steps that fill all `leaves`, {our path: array or shape}, using each published name once.

    Raises:
      RequestError: the publisher has no name for a leaf, because the model differs from the published one.
    """
    steps: list[Step] = []
    uncovered = dict.fromkeys(leaves)
    for rule in key_map.of(Rule):
        theirs, ours = as_tuple(rule.theirs), as_tuple(rule.ours)
        for path, numbers in fitting(ours[0], leaves):
            paths = tuple(fill(pattern, numbers) for pattern in ours)
            for ours_path in paths:
                if ours_path not in uncovered:
                    raise ValueError(f"key map {key_map.publisher!r}: {ours_path} is covered twice or is no leaf")
                del uncovered[ours_path]
            stacked = [name for name in placeholders(theirs[0]) if name not in numbers]
            for layer in range(leaves[path].shape[0]) if stacked else (None,):
                filled = numbers | dict.fromkeys(stacked, str(layer))
                steps.append(Step(tuple(fill(pattern, filled) for pattern in theirs), paths, layer, rule.transform))
    require(not uncovered, f"{key_map.publisher}'s names do not cover {', '.join(uncovered)}")
    return steps


def published_names(key_map: KeyMap, leaves: Mapping[str, Any]) -> list[str]:
    """The names that a checkpoint of a model with these leaves must hold, in the order of the rules."""
    return [name for step in plan(key_map, leaves) for name in step.theirs]


def share(key_map: KeyMap, names: Iterable[str]) -> float:
    """The share of the names in a file that match the key map, for a model of any depth."""
    patterns = [pattern for entry in key_map.of(Rule | Tied | Unused) for pattern in as_tuple(entry.theirs)]
    spelled = canonical(key_map, names).values()
    spoken_of = sum(any(match(pattern, name) is not None for pattern in patterns) for name in spelled)
    return spoken_of / max(len(spelled), 1)


def canonical(key_map: KeyMap, names: Iterable[str]) -> dict[str, str]:
    """{name in the file: name in the rules}, with older spellings replaced."""
    aliases = key_map.of(Alias)

    def spelled(name: str) -> str:
        for alias in aliases:
            if (numbers := match(alias.old, name)) is not None:
                return fill(alias.new, numbers)
        return name

    return {name: spelled(name) for name in names}


def to_ours(
    key_map: KeyMap,
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, Any],
    *,
    fresh: tuple[str, ...] = (),
    source: str = "the checkpoint",
) -> dict[str, Any]:
    """Converts published `tensors` to our variables, a nested dict of NumPy arrays.

    Args:
      key_map: the publisher's rules.
      tensors: {published name: array}; may read lazily, since each tensor is read once (a tied one twice).
      expected: the shapes and dtypes of the model's variables, as `jax.eval_shape(model.init, ...)` returns them.
      fresh: patterns of our paths to skip (a new head); the result lacks them, and the file may hold them in any shape
        or not at all.
      source: begins the error message.

    Raises:
      RequestError: lists every tensor that is missing, unknown, of another shape, given twice, tied but not equal, or
        not of a floating-point type (as in quantised files).
    """
    leaves = flatten(expected)
    steps = plan(key_map, leaves)
    anew = {path for pattern in fresh for path, _ in fitting(pattern, leaves)}
    wanted = [step for step in steps if anew.isdisjoint(step.ours)]
    needed = {name: None for step in wanted for name in step.theirs}

    spelled = canonical(key_map, tensors)
    in_file: dict[str, str] = {}
    twice = [name for name, canon in spelled.items() if in_file.setdefault(canon, name) != name]
    copies = {name: to for name in in_file if (to := _tied_to(key_map, name))}
    for name, to in copies.items():
        in_file.setdefault(to, in_file[name])  # some files hold only the copy
    known = {*copies, *(name for step in steps for name in step.theirs)}
    optional = [entry.theirs for entry in key_map.of(Unused)]
    unknown = [
        name for name in in_file if name not in known and all(match(pattern, name) is None for pattern in optional)
    ]
    missing = [name for name in needed if name not in in_file]
    read = [in_file[name] for name in dict.fromkeys((*needed, *copies)) if name in in_file]
    dtypes = {name: dtype for name in read if (dtype := _dtype(tensors, name)) not in _FLOATS}
    differ = [
        f"{in_file[name]} (tied to {in_file[to]})"
        for name, to in copies.items()
        if dtypes.keys().isdisjoint((in_file[name], in_file[to]))
        and not np.array_equal(tensors[in_file[name]], tensors[in_file[to]])
    ]

    filled: dict[str, np.ndarray] = {}
    misshapen: list[str] = []
    for step in wanted:
        if any(name not in in_file or in_file[name] in dtypes for name in step.theirs):
            continue
        theirs = tuple(np.asarray(tensors[in_file[name]]) for name in step.theirs)
        shapes = [tuple(leaves[path].shape[step.layer is not None :]) for path in step.ours]
        try:
            ours = step.transform.to_ours(theirs)
        except (ValueError, IndexError):  # the transform fails if the number of axes differs
            ours = ()
        if [x.shape for x in ours] != shapes:
            given = ", ".join(f"{name} {list(x.shape)}" for name, x in zip(step.theirs, theirs, strict=True))
            misshapen.append(
                f"{given} (for {', '.join(f'{p} {list(s)}' for p, s in zip(step.ours, shapes, strict=True))})"
            )
            continue
        for path, x in zip(step.ours, ours, strict=True):
            if step.layer is None:
                filled[path] = np.asarray(x, leaves[path].dtype, order="C")
            else:
                filled.setdefault(path, np.empty(leaves[path].shape, leaves[path].dtype))[step.layer] = x

    problems = (
        _listed("missing", missing),
        _listed("unknown", [_guess(in_file[name], missing if i < _LISTED else []) for i, name in enumerate(unknown)]),
        _listed("of another shape", misshapen),
        _listed("given twice", twice),
        _listed("tied but not equal", differ),
        _listed("not of F16, BF16, F32 or F64 (quantised?)", [f"{name} {dtype}" for name, dtype in dtypes.items()]),
    )
    require(not any(problems), f"{source} does not fit: {'; '.join(filter(None, problems))}")
    return unflatten_leaves(filled)


def to_theirs(key_map: KeyMap, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts our variables to {published name: array}; the inverse of `to_ours`, bit for bit."""
    leaves = {path: np.asarray(x) for path, x in flatten(variables).items()}
    tensors: dict[str, np.ndarray] = {}
    for step in plan(key_map, leaves):
        ours = tuple(leaves[path] if step.layer is None else leaves[path][step.layer] for path in step.ours)
        theirs = step.transform.to_theirs(ours)
        tensors |= {name: np.asarray(x, order="C") for name, x in zip(step.theirs, theirs, strict=True)}
    for entry in key_map.of(Unused):
        for _, numbers in fitting(entry.beside, leaves) if entry.beside else ():
            tensors[fill(entry.theirs, numbers)] = np.asarray(entry.value)
    return tensors | {entry.theirs: tensors[entry.to] for entry in key_map.of(Tied) if entry.written}


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens a nested dict of variables to {"params/block0/kernel": leaf}."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten_leaves(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict for flat leaves; the inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def _tied_to(key_map: KeyMap, name: str) -> str | None:
    for entry in key_map.of(Tied):
        if (values := match(entry.theirs, name)) is not None:
            return fill(entry.to, values)
    return None


def _guess(name: str, missing: list[str]) -> str:
    if len(missing) > 50:  # another depth or family: similar names are chance, and comparing all of them is slow
        return name
    close = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
    return f"{name} (is it {close[0]}?)" if close else name


_LISTED = 100


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} {what}: {', '.join(names[:_LISTED])}{more}" if names else ""


_FLOATS = {"F16", "BF16", "F32", "F64", "float16", "bfloat16", "float32", "float64"}


def _dtype(tensors: Mapping[str, Any], name: str) -> str:
    """A tensor's dtype: the file's name for it, without reading the tensor, or NumPy's name for arrays in memory."""
    return tensors.dtype(name) if hasattr(tensors, "dtype") else str(np.asarray(tensors[name]).dtype)
