"""Compares two sets of images by their features: Fréchet distance, precision, recall and nearest neighbours."""

from __future__ import annotations

import numpy as np

_ROWS = 1024  # of a matrix of distances at a time


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """The Fréchet distance between the normal distributions of two sets of features (Heusel et al., 2017).

    |m₁ − m₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½).  It depends on the number of samples, and on the features.

    >>> points = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet_distance(points, points + [3, 0, 4]), 6)
    25.0

    Args:
      real, generated: [example, features], at least two examples each.
    """
    real, generated = (np.asarray(x, np.float64) for x in (real, generated))
    means = real.mean(0) - generated.mean(0)
    one, other = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, generated))
    root = _root(one)
    # (C₁ C₂)^½ has the trace of the symmetric (C₁^½ C₂ C₁^½)^½.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    return float(means @ means + np.trace(one) + np.trace(other) - 2 * cross)


def precision_recall(real: np.ndarray, generated: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """The share of generated features among the real ones, and of real among the generated (Kynkäänniemi et al., 2019).

    A feature is among others if it is as near to one of them as that one's k-th neighbour.

    >>> grid = np.stack(np.meshgrid(*[np.arange(10.0)] * 2), -1).reshape(-1, 2)
    >>> precision_recall(grid, np.concatenate([grid[:50], grid[:50] + 100]))
    (0.5, 0.6)

    Args:
      real, generated: [example, features].
      neighbours: k, at most the number of examples less one.
    """
    return _among(generated, real, neighbours), _among(real, generated, neighbours)


def nearest(references: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each query's nearest reference, int [query], and its distance.

    >>> nearest(np.array([[0.0], [10.0]]), np.array([[9.0], [1.0], [10.0]]))
    (array([1, 0, 1]), array([1., 1., 0.]))

    Args:
      references, queries: [example, features].
    """
    found = [(part.argmin(1), np.sqrt(part.min(1))) for part in _distances(queries, references)]
    indices, distances = zip(*found, strict=True)
    return np.concatenate(indices), np.concatenate(distances)


def _among(queries: np.ndarray, references: np.ndarray, neighbours: int) -> float:
    neighbours = min(neighbours, len(references) - 1)  # the nearest reference of a reference is itself
    radii = np.concatenate(
        [np.partition(part, neighbours)[:, neighbours] for part in _distances(references, references)]
    )
    return float(np.concatenate([(part <= radii).any(1) for part in _distances(queries, references)]).mean())


def _distances(queries: np.ndarray, references: np.ndarray):
    """Squared distances, [query, reference], some rows at a time."""
    queries, references = (np.asarray(x, np.float64) for x in (queries, references))
    centre = references.mean(0)
    queries, references = queries - centre, references - centre
    squares = np.square(references).sum(1)
    for i in range(0, len(queries), _ROWS):
        rows = queries[i : i + _ROWS]
        yield np.maximum(np.square(rows).sum(1)[:, None] + squares - 2 * rows @ references.T, 0)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
