"""The Hungarian algorithm in the compiled step, against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from scipy.optimize import linear_sum_assignment

from research.detection import match, set_costs

MANY = jax.jit(jax.vmap(match))


def lowest(costs, valid):
    return costs[:, valid][linear_sum_assignment(costs[:, valid])].sum()


def check(costs, valid):
    """As many pairs as possible, no prediction twice, and SciPy's total; costs [case, prediction, box]."""
    found = jax.tree.map(np.asarray, MANY(costs, valid))
    for i in range(len(costs)):
        boxes = np.flatnonzero(found.found[i])
        chosen = found.prediction[i][boxes]
        assert len(boxes) == min(costs.shape[1], valid[i].sum()) and valid[i][boxes].all()
        assert len(set(chosen.tolist())) == len(chosen)
        np.testing.assert_allclose(costs[i][chosen, boxes].sum(), lowest(costs[i], valid[i]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 6), (12, 5), (5, 12), (20, 1), (1, 4)], ids=str)
def test_random_costs(shape):
    """1,000 matrices per shape with a random number of padding boxes; a third have whole numbers, which tie."""
    generator = np.random.default_rng(shape[0])
    costs = generator.normal(0, 3, (1000, *shape)).astype(np.float32)
    costs[::3] = np.round(costs[::3])
    check(costs, np.arange(shape[1]) < generator.integers(0, shape[1] + 1, 1000)[:, None])


def test_many_boxes():
    """100 predictions for 100 boxes, none, and half of them anywhere."""
    generator = np.random.default_rng(0)
    valid = np.stack([np.ones(100, bool), np.zeros(100, bool), generator.random(100) < 0.5])
    check(generator.normal(0, 3, (3, 100, 100)).astype(np.float32), valid)


def test_the_references_assignments():
    arrays, _ = parity.load("hungarian")
    for name in "01234":
        costs = arrays[f"{name}/cost"]
        found = match(costs, jnp.ones(costs.shape[1], bool))
        boxes = np.flatnonzero(found.found)
        assert sorted(zip(found.prediction[boxes].tolist(), boxes.tolist(), strict=True)) == list(
            zip(arrays[f"{name}/row"].tolist(), arrays[f"{name}/col"].tolist(), strict=True)
        )


def test_the_references_matching():
    arrays, _ = parity.load("boxes")
    for i in range(2):
        labels, boxes = arrays[f"match/{i}/labels"], arrays[f"match/{i}/boxes"]
        padded = np.pad(labels, (0, 3), constant_values=-1), np.pad(boxes, ((0, 3), (0, 0)))
        costs = set_costs(arrays["match/logits"][i], arrays["match/pred_boxes"][i], *padded)
        found = match(costs, padded[0] >= 0)
        order = np.argsort(found.prediction[: len(labels)])
        np.testing.assert_array_equal(found.prediction[order], arrays[f"match/{i}/query_index"])
        np.testing.assert_array_equal(order, arrays[f"match/{i}/target_index"])
        assert not found.found[len(labels) :].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_end_the_search(bad):
    """The other predictions are matched as if there were none; a diverged model does not hang."""
    costs = np.float32([[bad, bad], [3, 1], [1, 2]])
    found = match(costs, np.ones(2, bool))
    assert found.prediction.tolist() == [2, 1]
    assert match(np.full((3, 2), bad, np.float32), np.ones(2, bool)).found.all()
