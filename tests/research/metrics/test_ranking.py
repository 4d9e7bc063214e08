import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from research.metrics.ranking import is_first, rank

# Few values, so that ties are common.
LOGITS = arrays.arrays(np.float32, (3, 5, 7), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5]))
LABELS = arrays.arrays(np.int32, (3, 5), elements=st.integers(0, 6))


@settings(deadline=None)
@given(LOGITS, LABELS)
def test_rank_is_the_place_in_a_stable_sort(logits, labels):
    order = np.argsort(-logits, axis=-1, kind="stable")
    np.testing.assert_array_equal(rank(jnp.array(logits), jnp.array(labels)), (order == labels[..., None]).argmax(-1))


@settings(deadline=None)
@given(LOGITS, LABELS)
def test_first_is_the_argmax(logits, labels):
    np.testing.assert_array_equal(is_first(jnp.array(logits), jnp.array(labels)), logits.argmax(-1) == labels)


def test_logits_that_are_no_number_are_never_right():
    logits, labels = jnp.full((2, 3), jnp.nan), jnp.array([0, 2])
    assert not is_first(logits, labels).any()
    assert (rank(logits, labels) == 3).all()
