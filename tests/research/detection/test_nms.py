"""Non-maximum suppression against the greedy algorithm in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np

from research.detection import boxes, nms


def greedy(box, scores, labels, threshold, least):
    """The indices that are kept, best first."""
    kept = []
    overlaps = np.asarray(boxes.iou(*boxes.pairs(box, box)))
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] >= least and all(labels[i] != labels[j] or overlaps[i, j] <= threshold for j in kept):
            kept.append(int(i))
    return kept


def scattered(seed, count=40):
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 30, (count, 2))
    box = np.concatenate([low, low + generator.uniform(5, 20, (count, 2))], 1).astype(np.float32)
    return box, generator.choice(np.float32([0.1, 0.2, 0.5, 0.9]), count), generator.integers(0, 3, count)


def test_it_keeps_what_the_greedy_algorithm_keeps():
    """Scores tie often; a batch gives the same as one image at a time."""
    batch = [np.stack(x) for x in zip(*(scattered(seed) for seed in range(8)), strict=True)]
    run = jax.jit(jax.vmap(lambda *x: nms(*x, number=40, threshold=0.3, least=0.15)))
    found = run(*batch)
    for i, (box, scores, labels) in enumerate(zip(*batch, strict=True)):
        kept = greedy(box, scores, labels, 0.3, 0.15)
        assert 3 < len(kept) < 40
        np.testing.assert_array_equal(found.boxes[i, : len(kept)], box[kept])
        np.testing.assert_array_equal(found.labels[i, : len(kept)], labels[kept])
        np.testing.assert_array_equal(found.scores[i, : len(kept)], scores[kept])
        assert (found.labels[i, len(kept) :] == boxes.PADDING).all() and not found.scores[i, len(kept) :].any()


def test_fewer_results_are_the_best_ones_and_no_boxes_give_none():
    box, scores, labels = scattered(0)
    kept = greedy(box, scores, labels, 0.3, 0.0)
    found = nms(box, scores, labels, number=5, threshold=0.3)
    np.testing.assert_array_equal(found.boxes, box[kept[:5]])
    none = nms(jnp.zeros((4, 4)), jnp.full(4, 0.9), jnp.full(4, -1), number=3, threshold=0.3)
    assert (none.labels == -1).all() and not none.boxes.any()
