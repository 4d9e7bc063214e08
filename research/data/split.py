"""Splitting a data set: seeded, stratified by label, disjoint, covering.

Everything that divides examples (test, validation, a smaller training split) takes the first k of one order whose every
prefix holds the classes in proportion.  So subsets are nested: the 100 examples of `train_examples=100` are among those
of `train_examples=200`, and a validation split of another size does not reshuffle the rest.
"""

from __future__ import annotations

import numpy as np

from research.errors import require


def stratified_order(labels: np.ndarray | int, seed: int, purpose: int = 1) -> np.ndarray:
    """A permutation of the examples, int64 [n], each prefix of which has the classes in proportion.

    `labels` is an integer array [n], or just n where there are none.  The r-th example of a class of size m, in random
    order, gets the place (r + u) / m, and the order is that of the places; the phases u of the classes, from the
    largest to the smallest, are spread evenly over (0, 1) (van der Corput, 1935), so that of many rare classes as many
    have their first example early as their share says.  `purpose` (1, 2, ...) tells several orders of one seed apart;
    none of them is `order(seed, epoch)`, whose third word of entropy is 0.
    """
    n = labels if isinstance(labels, int) else len(labels)
    shuffled = np.random.default_rng((seed, 0, purpose)).permutation(n)
    if isinstance(labels, int):
        return shuffled
    _, group, sizes = np.unique(np.asarray(labels)[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(group, kind="stable")
    rank = np.empty(n)
    rank[by_class] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = np.unique(group, return_index=True)[1]  # of classes as large, the seed decides which comes first
    phase = np.empty(len(sizes))
    phase[np.lexsort((first, -sizes))] = [_van_der_corput(i + 1) for i in range(len(sizes))]
    return shuffled[np.argsort((rank + phase[group]) / sizes[group], kind="stable")]


def _van_der_corput(i: int) -> float:
    """The binary digits of i, mirrored at the point: ½, ¼, ¾, ⅛, ..., of which any run is spread over (0, 1)."""
    digits = f"{i:b}"
    return int(digits[::-1], 2) / 2 ** len(digits)


def count(amount: float | int, n: int, name: str) -> int:
    """How many of n examples `amount` asks for: a number of examples, or a fraction below 1 (at least one example)."""
    k = max(1, round(amount * n)) if isinstance(amount, float) and 0 < amount < 1 else amount
    good = 0 <= k < n and (isinstance(amount, int) or amount < 1)
    require(good, f"{name}={amount}: expected a fraction below 1, or a number of examples below the {n:,} there are")
    return int(k)


def hold_out(labels: np.ndarray | int, amount: float | int, seed: int, purpose: int = 1, name: str = "validation"):
    """Indices (rest, held), each ascending: `held` is `amount` of the examples, stratified by `labels`."""
    n = labels if isinstance(labels, int) else len(labels)
    chosen = stratified_order(labels, seed, purpose)
    k = count(amount, n, name)
    return np.sort(chosen[k:]), np.sort(chosen[:k])
