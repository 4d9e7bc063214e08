"""Class labels: integers [batch], or probabilities [batch, classes] after mixing."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import require


def is_soft(labels: jax.Array) -> bool:
    """True if labels are probabilities rather than integers."""
    return jnp.issubdtype(labels.dtype, jnp.floating)


def probabilities(labels: jax.Array, classes: int) -> jax.Array:
    """Converts labels to probabilities, floating [batch, classes].

    Raises:
      RequestError: the labels are probabilities over another number of classes.
    """
    if not is_soft(labels):
        return jax.nn.one_hot(labels, classes)
    given = labels.shape[1:]
    require(given == (classes,), f"labels are probabilities {list(given)} per example; expected [{classes}]")
    return labels


def class_name(names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """The name of each label, of the shape of `labels`; "" for a label that has none.

    >>> class_name(("cat", "dog"), np.array([1, 0, 2])).tolist()
    ['dog', 'cat', '']
    """
    labels = np.asarray(labels)
    known = (labels >= 0) & (labels < len(names))
    return np.asarray([*names, ""])[np.where(known, labels, -1)]
