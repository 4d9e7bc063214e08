"""Accuracy on shifted images: a model that depends on positions, and one that does not."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import RequestError
from research.tasks.shifted_classification import ShiftedClassification


def test_accuracy_by_shift():
    task = ShiftedClassification(classes=2, shifts=(1, 2))
    task.check()
    images = jnp.zeros((3, 7, 7, 1)).at[:, 3, 3].set(1.0)
    batch = {"image": images, "label": jnp.ones(3, jnp.int32), "weight": jnp.ones(3)}

    def metrics(logit):
        def apply(x, **_):
            return jnp.stack([jnp.full(len(x), 0.5), logit(x)], -1)

        return task.finalize({k: np.asarray(v) for k, v in task.eval_outputs(apply, batch).items()})

    anywhere = metrics(lambda x: x.sum((1, 2, 3)))
    middle = metrics(lambda x: x[:, 3, 3, 0])
    row = metrics(lambda x: x[:, 3].sum((1, 2)))
    names = ("accuracy", "accuracy_shift_1", "accuracy_shift_2")
    assert [anywhere[name] for name in names] == [1, 1, 1]
    assert [middle[name] for name in names] == [1, 0, 0]
    assert [row[name] for name in names] == [1, 0.5, 0.5]


@pytest.mark.parametrize("shifts", [(), (0, 1)])
def test_check(shifts):
    with pytest.raises(RequestError, match="^shifts="):
        ShiftedClassification(classes=2, shifts=shifts).check()
