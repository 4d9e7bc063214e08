"""SimOTA against the algorithm written with loops, over one box and one cell at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from research.detection import boxes, simota

GRID = np.stack(np.meshgrid(np.arange(8) * 8 + 4.0, np.arange(8) * 8 + 4.0), -1).reshape(-1, 2)
CELLS = np.concatenate([GRID, np.full((64, 1), 8.0)], 1).astype(np.float32)


def image(seed, count, padding=3, classes=3):
    generator = np.random.default_rng(seed)
    centre = generator.uniform(4, 60, (count, 2))
    half = generator.uniform(3, 14, (count, 2))
    true = np.concatenate([centre - half, centre + half], 1)
    noise = generator.normal(0, 3, (64, 4))
    nearest = np.abs(GRID[:, None] - centre[None]).sum(-1).argmin(1) if count else np.zeros(64, int)
    predicted = (true[nearest] if count else np.tile([0, 0, 9, 9], (64, 1))) + noise
    labels = np.pad(generator.integers(0, classes, count), (0, padding), constant_values=-1)
    true = np.pad(true, ((0, padding), (0, 0)))
    given = predicted, generator.normal(size=64), generator.normal(size=(64, classes)), CELLS, true
    return *(x.astype(np.float32) for x in given), labels


def by_loops(predicted, objectness, logits, cells, true, labels):
    """{cell: true box}."""
    count = int((labels >= 0).sum())
    centre = (true[:, :2] + true[:, 2:]) / 2
    near = [[bool((np.abs(cell[:2] - centre[i]) < 20).all()) for cell in cells] for i in range(count)]
    inside = [
        [bool(((cell[:2] > true[i, :2]) & (cell[:2] < true[i, 2:])).all()) for cell in cells] for i in range(count)
    ]
    allowed = [c for c in range(len(cells)) if any(near[i][c] or inside[i][c] for i in range(count))]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    cost, overlap = {}, {}
    for i in range(count):
        for c in allowed:
            overlap[i, c] = float(boxes.iou(true[i], predicted[c]))
            p = np.sqrt(sigmoid(logits[c]) * sigmoid(objectness[c]))
            own = np.arange(len(p)) == labels[i]
            entropy = -np.where(own, np.log(p), np.log(1 - p)).sum()
            cost[i, c] = entropy - 3 * np.log(overlap[i, c] + 1e-8) + (0 if near[i][c] and inside[i][c] else 1e5)
    wanted = {}
    for i in range(count):
        k = max(int(sum(sorted((overlap[i, c] for c in allowed), reverse=True)[:10])), 1)
        for c in sorted(allowed, key=lambda c, i=i: cost[i, c])[:k]:
            wanted.setdefault(c, []).append(i)
    return {c: min(range(count), key=lambda i, c=c: cost[i, c]) if len(w) > 1 else w[0] for c, w in wanted.items()}


def test_it_assigns_what_the_loops_assign():
    assign = jax.jit(simota)
    several = 0
    for seed in range(6):
        given = image(seed, count=seed + 1, padding=6 - seed)
        found, expected = assign(*given), by_loops(*given)
        cells = np.flatnonzero(found.foreground)
        assert {int(c): int(found.target[c]) for c in cells} == expected
        several += len(expected)
        for c, i in expected.items():
            np.testing.assert_allclose(found.iou[c], boxes.iou(given[4][i], given[0][c]), rtol=1e-5)
    assert several > 40


def test_an_image_without_boxes_is_background():
    found = simota(*image(0, count=0))
    assert not found.foreground.any() and not found.iou.any()


def test_padding_changes_nothing_and_every_box_gets_a_cell():
    few, many = (image(3, count=5, padding=n) for n in (0, 95))
    a, b = simota(*few), simota(*many)
    np.testing.assert_array_equal(a.foreground, b.foreground)
    np.testing.assert_array_equal(a.target[a.foreground], b.target[a.foreground])
    assert set(np.asarray(a.target[a.foreground]).tolist()) == set(range(5))


def test_one_hundred_boxes_share_the_cells():
    found = simota(*image(7, count=100, padding=0))
    assert found.foreground.sum() > 30


def test_nothing_is_differentiated():
    given = image(1, count=3)
    gradient = jax.grad(lambda x: simota(x, *given[1:]).iou.sum())(jnp.asarray(given[0]))
    assert not gradient.any()
