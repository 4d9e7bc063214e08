"""Splits data sets with a seed: stratified by label, disjoint, and covering every example.

Each division (test, validation, a smaller training split) takes the first k examples of one order, every prefix of
which holds the classes in proportion.  Subsets are therefore nested: the 100 examples of `train_examples=100` are among
the 200 of `train_examples=200`, and resizing the validation split does not reshuffle the rest.
"""

from __future__ import annotations

import numpy as np

from research.errors import require


def stratified_order(labels: np.ndarray | int, seed: int, purpose: int = 1) -> np.ndarray:
    """A permutation of n examples, int64 [n], in which every prefix holds the classes in proportion.

    `labels` is an integer array [n], or just n if there are no labels.  The r-th example of a class of size m, in
    random order, gets position (r + u) / m, and examples are sorted by position.  The phases u of the classes, from the
    largest class to the smallest, are spread evenly over (0, 1) (van der Corput, 1935), so that among many rare classes
    the right proportion has its first example early.  `purpose` (1, 2, ...) selects one of several independent orders
    of a seed; none of them equals `order(seed, epoch)`, whose third word of entropy is 0.
    """
    n = labels if isinstance(labels, int) else len(labels)
    shuffled = np.random.default_rng((seed, 0, purpose)).permutation(n)
    if isinstance(labels, int):
        return shuffled
    _, group, sizes = np.unique(np.asarray(labels)[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(group, kind="stable")
    rank = np.empty(n)
    rank[by_class] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = np.unique(group, return_index=True)[1]  # the seed breaks ties between classes of equal size
    phase = np.empty(len(sizes))
    phase[np.lexsort((first, -sizes))] = [_van_der_corput(i + 1) for i in range(len(sizes))]
    return shuffled[np.argsort((rank + phase[group]) / sizes[group], kind="stable")]


def _van_der_corput(i: int) -> float:
    """The binary digits of i mirrored at the point: ½, ¼, ¾, ⅛, ...; every run of them is spread over (0, 1)."""
    digits = f"{i:b}"
    return int(digits[::-1], 2) / 2 ** len(digits)


def count(amount: float | int, n: int, name: str) -> int:
    """Converts `amount` to a number of n examples; a float is a fraction below 1 and gives at least one example."""
    k = max(1, round(amount * n)) if isinstance(amount, float) and 0 < amount < 1 else amount
    good = 0 <= k < n and (isinstance(amount, int) or amount < 1)
    require(good, f"{name}={amount}: expected a fraction below 1, or a number of examples below the {n:,} there are")
    return int(k)


def hold_out(labels: np.ndarray | int, amount: float | int, seed: int, purpose: int = 1, name: str = "validation"):
    """Holds out `amount` of the examples, stratified by `labels`: indices (rest, held), each ascending.

    >>> rest, held = hold_out(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0)
    >>> len(rest), len(held), int((held >= 4).sum())  # one of the three held out has label 1
    (3, 3, 1)
    """
    n = labels if isinstance(labels, int) else len(labels)
    chosen = stratified_order(labels, seed, purpose)
    k = count(amount, n, name)
    return np.sort(chosen[k:]), np.sort(chosen[:k])
