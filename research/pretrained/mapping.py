"""Published checkpoints and our parameters: one list of rules, read in both directions.

A `KeyMap` says how one publisher (Hugging Face, timm, torchvision, ...) names and lays out what a model of ours holds:

    KeyMap("huggingface", (
        kernel("vit.encoder.layer.{i}.intermediate.dense", "block{i}/mlp/up"),  # [out, in] <-> [in, out], and bias
        norm("vit.layernorm", "norm"),                                          # weight, bias <-> scale, bias
        Rule("vit.embeddings.cls_token", "params/class_token"),
        Rule("blocks.{i}.attn.qkv.bias", ("params/block{i}/query/bias", ...), split(3)),   # one tensor <-> three
        Unused("vit.pooler.{rest*}"),
    ))

`{i}` stands for a number and `{rest*}` for any text.  A number that stands in the published name but not in our path
counts the layers of a stacked (scanned) parameter: its leading axis.  The rules are resolved against the leaves of the
model at hand, so a rule for a bias that this model does not have asks for nothing, and a key map never repeats the
model's depth.  Import and export follow the same resolved plan; what import reads, export writes back bit for bit.
What is `Unused` is not read: PyTorch's count of batches, `num_batches_tracked`, is written as 0 whatever it was.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from flax import traverse_util

from research.errors import require

Arrays = tuple[np.ndarray, ...]
Kind = TypeVar("Kind")


# -- how arrays are laid out ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Transform:
    """A pair of inverse functions between the published arrays and ours; each takes and returns a tuple of arrays."""

    to_ours: Callable[[Arrays], Arrays]
    to_theirs: Callable[[Arrays], Arrays]

    @property
    def inverse(self) -> Transform:
        return Transform(self.to_theirs, self.to_ours)

    def then(self, other: Transform) -> Transform:
        """This one first on the way to us, `other` first on the way back."""
        return Transform(lambda x: other.to_ours(self.to_ours(x)), lambda x: self.to_theirs(other.to_theirs(x)))


def each(to_ours: Callable[[np.ndarray], np.ndarray], to_theirs: Callable[[np.ndarray], np.ndarray]) -> Transform:
    """The transform that maps every array by itself."""
    return Transform(lambda xs: tuple(map(to_ours, xs)), lambda xs: tuple(map(to_theirs, xs)))


SAME = each(lambda x: x, lambda x: x)
"""Nothing changes."""

KERNEL = each(
    lambda x: x.transpose(*range(2, x.ndim), 1, 0),
    lambda x: x.transpose(x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)),
)
"""Dense and convolution kernels: PyTorch's [out, in, *window] is our [*window, in, out] (depthwise ones included)."""


def drop_ones(axes: tuple[int, ...]) -> Transform:
    """Published axes of size 1 that ours lacks: `drop_ones((2, 3)).then(KERNEL)` reads a 1×1 convolution as a Dense."""
    return each(lambda x: np.squeeze(x, axes), lambda x: np.expand_dims(x, axes))


def unflatten(axis: int, sizes: tuple[int, ...]) -> Transform:
    """One published axis is several of ours: `KERNEL.then(unflatten(1, (heads, head_dim)))`, [in, heads, head_dim]."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        at = axis % x.ndim
        return x.reshape(*x.shape[:at], *sizes, *x.shape[at + 1 :])

    def to_theirs(x: np.ndarray) -> np.ndarray:
        at = axis % (x.ndim - len(sizes) + 1)
        return x.reshape(*x.shape[:at], -1, *x.shape[at + len(sizes) :])

    return each(to_ours, to_theirs)


def split(parts: int, then: Transform = SAME, axis: int = 0) -> Transform:
    """One published array, cut along `axis` into equal `parts`, each then laid out by `then`; its `inverse` merges."""
    cut = Transform(lambda xs: tuple(np.split(xs[0], parts, axis)), lambda xs: (np.concatenate(xs, axis),))
    return cut.then(then)


# -- rules ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """Published names `theirs` hold, laid out by `transform`, the leaves at our paths `ours` ("params/head/kernel")."""

    theirs: str | tuple[str, ...]
    ours: str | tuple[str, ...]
    transform: Transform = SAME


@dataclasses.dataclass(frozen=True)
class Unused:
    """Published tensors that our model has no use for, such as buffers that anyone can compute.

    With `beside`, a pattern of our paths, export writes `value` under `theirs` for every leaf that fits it.
    """

    theirs: str
    beside: str | None = None
    value: Any = None


@dataclasses.dataclass(frozen=True)
class Tied:
    """A published copy of the tensor `to`: it may be absent; where present it must be equal bit for bit.

    Export leaves it out, as `save_pretrained` does, unless `written`, which needs a name without placeholders.
    """

    theirs: str
    to: str
    written: bool = False


@dataclasses.dataclass(frozen=True)
class Alias:
    """Another spelling, of older files or of files without a prefix, of the published name `new`."""

    old: str
    new: str


Entry = Rule | Unused | Tied | Alias


@dataclasses.dataclass(frozen=True)
class KeyMap:
    """How one publisher names what one model of ours holds; `entries` may nest tuples, as the helpers below return."""

    publisher: str
    entries: tuple = ()

    def of(self, kind: type[Kind] | types.UnionType) -> list[Kind]:
        return [entry for entry in _flat(self.entries) if isinstance(entry, kind)]


def kernel(theirs: str, ours: str, transform: Transform = KERNEL) -> tuple[Rule, ...]:
    """A dense or convolution layer: weight, bias <-> kernel, bias."""
    return (
        Rule(f"{theirs}.weight", f"params/{ours}/kernel", transform),
        Rule(f"{theirs}.bias", f"params/{ours}/bias"),
    )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Layer, group or RMS normalisation: weight, bias <-> scale, bias."""
    return Rule(f"{theirs}.weight", f"params/{ours}/scale"), Rule(f"{theirs}.bias", f"params/{ours}/bias")


def layers(names: Mapping[str, str], kernels: Transform = KERNEL) -> tuple[tuple[Rule, ...], ...]:
    """Many layers, {theirs: ours}: where "norm" is in our last name, it is one, and the others have kernels."""
    return tuple(
        norm(theirs, ours) if "norm" in ours.rpartition("/")[2] else kernel(theirs, ours, kernels)
        for theirs, ours in names.items()
    )


def batch_norm(theirs: str, ours: str) -> tuple[Entry, ...]:
    """Batch normalisation, its running statistics in the collection `batch_stats`."""
    return (
        *norm(theirs, ours),
        Rule(f"{theirs}.running_mean", f"batch_stats/{ours}/mean"),
        Rule(f"{theirs}.running_var", f"batch_stats/{ours}/var"),
        Unused(f"{theirs}.num_batches_tracked", beside=f"batch_stats/{ours}/mean", value=np.int64(0)),
    )


def embedding(theirs: str, ours: str) -> Rule:
    """A table of embeddings: weight <-> embedding, both [vocabulary, features]."""
    return Rule(f"{theirs}.weight", f"params/{ours}/embedding")


# -- from rules to a plan, and the plan in both directions ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Step:
    """One rule with its numbers filled in; `layer` is the index into the leading axis of stacked leaves, or None."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    layer: int | None
    transform: Transform


def plan(key_map: KeyMap, leaves: Mapping[str, Any]) -> list[Step]:
    """The steps that fill exactly `leaves` ({our path: array or shape}), each published name used once.

    Raises:
      RequestError: the publisher has no name for a leaf, as where this model differs from what is published.
    """
    steps: list[Step] = []
    uncovered = dict.fromkeys(leaves)
    for rule in key_map.of(Rule):
        theirs, ours = _tuple(rule.theirs), _tuple(rule.ours)
        for path, numbers in _fitting(ours[0], leaves):
            paths = tuple(_fill(pattern, numbers) for pattern in ours)
            for ours_path in paths:
                if ours_path not in uncovered:
                    raise ValueError(f"key map {key_map.publisher!r}: {ours_path} is covered twice or is no leaf")
                del uncovered[ours_path]
            stacked = [name for name in _placeholders(theirs[0]) if name not in numbers]
            for layer in range(leaves[path].shape[0]) if stacked else (None,):
                filled = numbers | dict.fromkeys(stacked, str(layer))
                steps.append(Step(tuple(_fill(pattern, filled) for pattern in theirs), paths, layer, rule.transform))
    require(not uncovered, f"{key_map.publisher}'s names have no place for {', '.join(uncovered)}")
    return steps


def published_names(key_map: KeyMap, leaves: Mapping[str, Any]) -> list[str]:
    """The names that a checkpoint of a model with these leaves has to hold, in the order of the rules."""
    return [name for step in plan(key_map, leaves) for name in step.theirs]


def share(key_map: KeyMap, names: Iterable[str]) -> float:
    """Of the names in a file, the part that the key map speaks of, whatever the model's depth."""
    patterns = [pattern for entry in key_map.of(Rule | Tied | Unused) for pattern in _tuple(entry.theirs)]
    spelled = canonical(key_map, names).values()
    spoken_of = sum(any(_match(pattern, name) is not None for pattern in patterns) for name in spelled)
    return spoken_of / max(len(spelled), 1)


def canonical(key_map: KeyMap, names: Iterable[str]) -> dict[str, str]:
    """{name in the file: the published name that the rules speak of}, older spellings replaced."""
    aliases = key_map.of(Alias)

    def spelled(name: str) -> str:
        for alias in aliases:
            if (numbers := _match(alias.old, name)) is not None:
                return _fill(alias.new, numbers)
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
    """Our variables, as a nested dict of NumPy arrays, from published `tensors`.

    Args:
      tensors: {published name: array}; may read lazily, each tensor is asked for once (a tied one twice).
      expected: the model's variables as `jax.eval_shape(model.init, ...)` gives them; shapes and dtypes are held to it.
      fresh: patterns of our paths that are not to be read (a new head); the result lacks them, and the file may hold
        them in any shape or not at all.

    Raises:
      RequestError: names every tensor that is missing, unknown, of another shape, given twice, tied and not equal, or
        not of floating-point numbers, as those of quantised files are not.
    """
    leaves = flatten(expected)
    steps = plan(key_map, leaves)
    anew = {path for pattern in fresh for path, _ in _fitting(pattern, leaves)}
    wanted = [step for step in steps if anew.isdisjoint(step.ours)]
    needed = {name: None for step in wanted for name in step.theirs}

    spelled = canonical(key_map, tensors)
    in_file: dict[str, str] = {}
    twice = [name for name, canon in spelled.items() if in_file.setdefault(canon, name) != name]
    copies = {name: to for name in in_file if (to := _tied_to(key_map, name))}
    for name, to in copies.items():
        in_file.setdefault(to, in_file[name])  # some files keep the copy only
    known = {*copies, *(name for step in steps for name in step.theirs)}
    optional = [entry.theirs for entry in key_map.of(Unused)]
    unknown = [
        name for name in in_file if name not in known and all(_match(pattern, name) is None for pattern in optional)
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
        except (ValueError, IndexError):  # with another number of axes it cannot even be laid out
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
        _listed("unknown", [_guess(in_file[name], missing) for name in unknown]),
        _listed("of another shape", misshapen),
        _listed("given twice", twice),
        _listed("tied but not equal", differ),
        _listed("not of F16, BF16, F32 or F64 (quantised?)", [f"{name} {dtype}" for name, dtype in dtypes.items()]),
    )
    require(not any(problems), f"{source} does not fit: {'; '.join(filter(None, problems))}")
    return unflatten_leaves(filled)


def to_theirs(key_map: KeyMap, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{published name: array} from our variables: what `to_ours` reads, bit for bit."""
    leaves = {path: np.asarray(x) for path, x in flatten(variables).items()}
    tensors: dict[str, np.ndarray] = {}
    for step in plan(key_map, leaves):
        ours = tuple(leaves[path] if step.layer is None else leaves[path][step.layer] for path in step.ours)
        theirs = step.transform.to_theirs(ours)
        tensors |= {name: np.asarray(x, order="C") for name, x in zip(step.theirs, theirs, strict=True)}
    for entry in key_map.of(Unused):
        for _, numbers in _fitting(entry.beside, leaves) if entry.beside else ():
            tensors[_fill(entry.theirs, numbers)] = np.asarray(entry.value)
    return tensors | {entry.theirs: tensors[entry.to] for entry in key_map.of(Tied) if entry.written}


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """{"params/block0/kernel": leaf} of a nested dict of variables."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten_leaves(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict of `flatten`."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


# -- patterns and messages --------------------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(r"\{(\w+)(\*?)\}")


@functools.cache
def _compiled(pattern: str) -> re.Pattern:
    parts, seen, end = [], set(), 0
    for hole in _PLACEHOLDER.finditer(pattern):
        name, any_text = hole.groups()
        parts.append(re.escape(pattern[end : hole.start()]))
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{'.+' if any_text else '[0-9]+'})")
        seen.add(name)
        end = hole.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]))


def _match(pattern: str, text: str) -> dict[str, str] | None:
    """What stands in the placeholders where `text` fits, else None; a pattern without placeholders fits itself."""
    found = _compiled(pattern).fullmatch(text)
    return found and found.groupdict()


def _fitting(pattern: str, paths: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """The paths that fit `pattern`, each with what stands in its placeholders."""
    if not _PLACEHOLDER.search(pattern):
        return [(pattern, {})] if pattern in paths else []
    return [(path, values) for path in paths if (values := _match(pattern, path)) is not None]


def _fill(pattern: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda hole: values[hole[1]], pattern)


def _placeholders(pattern: str) -> list[str]:
    return list(dict.fromkeys(hole[1] for hole in _PLACEHOLDER.finditer(pattern)))


def _tied_to(key_map: KeyMap, name: str) -> str | None:
    for entry in key_map.of(Tied):
        if (values := _match(entry.theirs, name)) is not None:
            return _fill(entry.to, values)
    return None


def _flat(entries: Any) -> Iterator[Entry]:
    if isinstance(entries, tuple):
        for entry in entries:
            yield from _flat(entry)
    else:
        yield entries


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _guess(name: str, missing: list[str]) -> str:
    if len(missing) > 50:  # of another depth or family: a likeness is chance, and comparing them all takes long
        return name
    close = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
    return f"{name} (is it {close[0]}?)" if close else name


def _listed(what: str, names: list[str]) -> str:
    return f"{len(names)} {what}: {', '.join(names)}" if names else ""


_FLOATS = {"F16", "BF16", "F32", "F64", "float16", "bfloat16", "float32", "float64"}


def _dtype(tensors: Mapping[str, Any], name: str) -> str:
    """As the file names it, without reading the tensor; of arrays at hand, as NumPy does."""
    return tensors.dtype(name) if hasattr(tensors, "dtype") else str(np.asarray(tensors[name]).dtype)
