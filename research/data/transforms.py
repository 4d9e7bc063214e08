"""Deterministic preprocessing as values, applied to whole batches in training, evaluation and prediction alike.

    preprocess=(Scale("image", 1 / 255), Standardize("image"))

`fit_transforms` computes fields that are None from the training split, once.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from research.config.checks import check_types
from research.config.hparams import hparam
from research.config.inherited import describe_inherited
from research.data.source import Source, chunks
from research.errors import RequestError, nearest, require

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Transform(abc.ABC):
    """A deterministic function of one field of a batch.

    A new transform is a subclass with `apply`:

    >>> @dataclasses.dataclass(frozen=True)
    ... class Square(Transform):
    ...     def apply(self, x):
    ...         return x * x
    >>> Square("features")({"features": np.array([1, 2, 3])})["features"].tolist()
    [1, 4, 9]

    Attributes:
      field: the name of the field of the batch.
    """

    field: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    @property
    def makes(self) -> str:
        """The name of the field that holds the result; by default the input field."""
        return self.field

    @abc.abstractmethod
    def apply(self, x: jax.Array) -> jax.Array:
        """Computes the new value of the field from x [batch, ...]."""

    def __call__(self, batch: Batch) -> Batch:
        if self.field not in batch:
            raise RequestError(
                f"{type(self).__name__}: the batch has no field {self.field!r}; {nearest(self.field, batch)}"
            )
        return batch | {self.field: self.apply(batch[self.field])}

    def fit(self, batches: Iterable[Batch]) -> Self:
        """A copy with fields that are None computed from the training split.

        `batches` have already passed through the transforms before this one.
        """
        return self

    def check(self) -> None:
        """Raises RequestError for an invalid field."""
        check_types(self)
        require(bool(self.field), "field='': expected the name of a field of a batch")

    def check_data(self, data: Any) -> None:  # noqa: B027
        """Raises RequestError for a field that contradicts one of the data set whose batches are transformed."""


@dataclasses.dataclass(frozen=True)
class Scale(Transform):
    """Computes x · factor + shift; integers become float32.

    >>> Scale("image", 1 / 255)({"image": np.array([0, 255], np.uint8)})["image"].tolist()
    [0.0, 1.0]
    >>> Scale("image", 2 / 255, shift=-1.0)({"image": np.array([0, 255], np.uint8)})["image"].tolist()
    [-1.0, 1.0]

    Attributes:
      factor: multiplies the values.
      shift: is added afterwards.
    """

    factor: float = 1 / 255
    shift: float = 0.0

    def apply(self, x: jax.Array) -> jax.Array:
        scaled = _floating(x) * self.factor
        return scaled + self.shift if self.shift else scaled


@dataclasses.dataclass(frozen=True)
class Standardize(Transform):
    """Computes (x − mean) / std.

    >>> fitted = Standardize("x").fit([{"x": np.array([[1.0], [3.0]])}])
    >>> fitted.mean, fitted.std
    ((2.0,), (1.0,))

    There is one mean and std per channel of images or per feature of vectors (the last axis), and a single one for x
    [batch].

    Attributes:
      mean: None computes it from the training split.
      std: None computes the population std from the training split; a constant feature gets 1.
    """

    mean: float | tuple[float, ...] | None = hparam(None)
    std: float | tuple[float, ...] | None = hparam(None)

    def apply(self, x: jax.Array) -> jax.Array:
        if self.mean is None or self.std is None:
            raise RequestError(f"Standardize({self.field!r}): mean or std is None; fit it to the training split")
        x = _floating(x)
        return (x - jnp.asarray(self.mean, x.dtype)) / jnp.asarray(self.std, x.dtype)

    def fit(self, batches: Iterable[Batch]) -> Self:
        if self.mean is not None and self.std is not None:
            return self
        n, mean, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
        for batch in batches:  # Chan, Golub & LeVeque (1983): combines means and sums of squares of parts
            x = np.asarray(batch[self.field])
            x = x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1).astype(np.float64)
            part, total = x.mean(0), n + len(x)
            squares = squares + np.square(x - part).sum(0) + np.square(part - mean) * (n * len(x) / total)
            mean = mean + (part - mean) * (len(x) / total)
            low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
            n, scalar = total, np.ndim(batch[self.field]) == 1
        std = np.where(low == high, 1.0, np.sqrt(squares / n))
        values = (tuple(float(v) for v in x) for x in (mean, std))
        mean, std = (x[0] if scalar else x for x in values)
        return dataclasses.replace(
            self, mean=mean if self.mean is None else self.mean, std=std if self.std is None else self.std
        )

    def check(self) -> None:
        super().check()
        values = self.std if isinstance(self.std, tuple) else (self.std,)
        require(all(v is None or v > 0 for v in values), f"std={self.std}: expected more than 0")


@dataclasses.dataclass(frozen=True)
class CenterCrop(Transform):
    """Crops the centre of images [batch, height, width, channels] to `size`.

    After a random crop to the same size, it only affects evaluation.

    >>> CenterCrop("image", (2, 2))({"image": np.zeros((1, 4, 6, 3))})["image"].shape
    (1, 2, 2, 3)

    Attributes:
      size: (height, width) in pixels; smaller sides are kept.
    """

    size: tuple[int, int] = (224, 224)

    def apply(self, x: jax.Array) -> jax.Array:
        top, left = (max(0, side - kept) // 2 for side, kept in zip(x.shape[1:3], self.size, strict=True))
        return x[:, top : top + self.size[0], left : left + self.size[1]]

    def check(self) -> None:
        super().check()
        require(min(self.size) >= 1, f"size={self.size}: expected (height, width) in pixels, each at least 1")


@dataclasses.dataclass(frozen=True)
class Cast(Transform):
    """Converts to another dtype.

    >>> Cast("features", "bfloat16")({"features": jnp.zeros(3)})["features"].dtype.name
    'bfloat16'

    Attributes:
      dtype: the name of the new dtype.
    """

    dtype: str = "float32"

    def apply(self, x: jax.Array) -> jax.Array:
        return jnp.asarray(x, self.dtype)

    def check(self) -> None:
        super().check()
        try:
            jnp.dtype(self.dtype)
        except TypeError:
            names = ("float32", "bfloat16", "float16", "int32", "uint8", "bool")
            raise RequestError(f"dtype={self.dtype!r}: {nearest(self.dtype, names)}") from None


@dataclasses.dataclass(frozen=True)
class OneHot(Transform):
    """Encodes integers as float32 one-hot vectors [..., classes]; integers outside [0, classes) become zeros.

    >>> OneHot("x", 3)({"x": np.array([1, 2])})["x"].tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Attributes:
      classes: the number of classes; None means one more than the largest value in the training split.
    """

    classes: int | None = None

    def apply(self, x: jax.Array) -> jax.Array:
        if self.classes is None:
            raise RequestError(f"OneHot({self.field!r}): classes is None; fit it to the training split")
        return jax.nn.one_hot(x, self.classes, dtype=jnp.float32)

    def fit(self, batches: Iterable[Batch]) -> Self:
        if self.classes is not None:
            return self
        return dataclasses.replace(self, classes=1 + max(int(np.max(batch[self.field])) for batch in batches))

    def check(self) -> None:
        super().check()
        require(self.classes is None or self.classes >= 1, f"classes={self.classes}: expected at least 1")


def preprocess(transforms: tuple[Transform, ...], batch: Batch, *, partial: bool = False) -> Batch:
    """Applies all transforms to a batch, in order.

    `partial` skips transforms whose field is missing, as labels are in prediction.
    """
    for transform in transforms:
        if not partial or transform.field in batch:
            batch = transform(batch)
    return batch


def fit_transforms(
    transforms: tuple[Transform, ...], train: Source | Mapping[str, np.ndarray]
) -> tuple[Transform, ...]:
    """Fits each transform to the training split as processed by the transforms before it."""
    fitted: tuple[Transform, ...] = ()
    for transform in transforms:
        before = fitted
        fitted = (*fitted, transform.fit(preprocess(before, batch) for batch in chunks(train)))
    return fitted


def _floating(x: jax.Array) -> jax.Array:
    return x if jnp.issubdtype(jnp.result_type(x), jnp.floating) else jnp.asarray(x, jnp.float32)
