"""Rules of a publisher (Hugging Face, timm, torchvision): how it names and lays out the parameters of a model of ours.

    KeyMap("huggingface", (
        kernel("vit.encoder.layer.{i}.intermediate.dense", "block{i}/mlp/up"),  # [out, in] <-> [in, out], and bias
        norm("vit.layernorm", "norm"),                                          # weight, bias <-> scale, bias
        Rule("vit.embeddings.cls_token", "params/class_token"),
        Rule("blocks.{i}.attn.qkv.bias", ("params/block{i}/query/bias", ...), split(3)),   # one tensor <-> three
        Unused("vit.pooler.{rest*}"),
    ))

`{i}` stands for a number and `{rest*}` for any text.  A number that stands in the published name but not in our path
counts the layers of a stacked (scanned) parameter: its leading axis.  `mapping` applies the rules.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

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
    """A publisher's names for what one model of ours holds; `entries` may nest tuples, as the helpers below return."""

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


def frozen_batch_norm(theirs: str, ours: str) -> tuple[Entry, ...]:
    """The same for `FrozenBatchNorm`, all of which is in `batch_stats`; files may count batches, ours count none."""
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    return (
        *(Rule(f"{theirs}.{a}", f"batch_stats/{ours}/{b}") for a, b in names.items()),
        Unused(f"{theirs}.num_batches_tracked"),
    )


def embedding(theirs: str, ours: str) -> Rule:
    """A table of embeddings: weight <-> embedding, both [vocabulary, features]."""
    return Rule(f"{theirs}.weight", f"params/{ours}/embedding")


def _flat(entries: Any) -> Iterator[Entry]:
    if isinstance(entries, tuple):
        for entry in entries:
            yield from _flat(entry)
    else:
        yield entries


def as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names of a rule, of which it may have one."""
    return (names,) if isinstance(names, str) else names
