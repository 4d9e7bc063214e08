import numpy as np
import pytest

from research.metrics.generation import frechet_distance, nearest, precision_recall


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_the_frechet_distance_of_normal_distributions_is_known(generator):
    points = generator.normal(size=(200_000, 2))
    scaled = points * [2.0, 0.5] + [1.0, -2.0]
    # |m|² + Σ (σ₁ − σ₂)², for independent features
    assert frechet_distance(points, scaled) == pytest.approx(5 + 1 + 0.25, rel=0.02)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_correlated_features_is_that_by_a_matrix_root(generator):
    from scipy import linalg

    one, other = (generator.normal(size=(500, 6)) @ generator.normal(size=(6, 6)) for _ in range(2))
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)


def test_more_features_than_samples(generator):
    few = generator.normal(size=(10, 50))
    assert 0 < frechet_distance(few, few + 1.0) == pytest.approx(50, rel=1e-6)


def test_samples_of_one_mode_are_faithful_but_not_varied(generator):
    real = np.concatenate([generator.normal(size=(300, 2)), generator.normal(size=(300, 2)) + 50])
    precision, recall = precision_recall(real, generator.normal(size=(400, 2)))
    assert precision > 0.85 and 0.4 < recall < 0.5
    precision, recall = precision_recall(real, np.concatenate([real, real + 500]))
    assert precision == pytest.approx(0.5) and recall == 1


def test_three_neighbours_are_the_radius_unless_told_otherwise():
    real, generated = np.arange(10.0)[:, None], np.array([11.5, 11.6, 12.5, 12.6, 12.7])[:, None]
    assert precision_recall(real, generated)[0] == pytest.approx(0.4)
    assert [precision_recall(real, generated, k)[0] for k in (2, 3, 4)] == pytest.approx([0, 0.4, 1])


def test_nearest_agrees_with_all_distances(generator):
    references, queries = generator.normal(size=(500, 7)), generator.normal(size=(1500, 7))
    distances = np.linalg.norm(queries[:, None] - references, axis=-1)
    found, distance = nearest(references, queries)
    np.testing.assert_array_equal(found, distances.argmin(1))
    np.testing.assert_allclose(distance, distances.min(1), rtol=1e-6)
