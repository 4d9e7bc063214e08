"""Mixing: images and labels in equal proportion, with neighbours, independent of how the batch is divided."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from research.config.hparams import hparams
from research.data.augment.augmentation import HorizontalFlip, OneOf, augment
from research.data.augment.mixing import CutMix, Mixup, neighbours
from research.data.feed import make_feed
from research.errors import RequestError
from research.optimizers import SGD
from research.parallel.spec import Parallel
from research.training.programs import make_programs

N, CLASSES = 64, 70
KEY = jax.random.key(5)
# Image i has the value i and the label i, so that pixels identify their image.
BATCH = {
    "image": jnp.broadcast_to(jnp.arange(N, dtype=jnp.uint8)[:, None, None, None], (N, 8, 6, 1)),
    "label": jnp.arange(N),
    "weight": jnp.ones(N),
}
OTHER = np.arange(N) ^ 1


def mixed(augmentation, batch=BATCH, positions=None):
    found = augment((augmentation,), KEY, batch, positions)
    return np.asarray(found["image"]), np.asarray(found["label"])


def test_neighbours_change_places():
    assert neighbours(jnp.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    assert neighbours(jnp.arange(5)).tolist() == [1, 0, 3, 2, 4]


def shares(labels, rows=None):
    """Each example's share of its own label, after checking that its neighbour has the rest."""
    rows = np.arange(len(labels)) if rows is None else rows
    own, other = labels[np.arange(len(labels)), rows], labels[np.arange(len(labels)), rows ^ 1]
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(own + other, 1, atol=1e-6)
    return own


def test_mixup_mixes_images_and_labels_in_the_same_shares():
    images, labels = mixed(Mixup(classes=CLASSES, alpha=1.0))
    own = shares(labels)
    assert images.dtype == np.float32 and labels.shape == (N, CLASSES)
    expected = own * np.arange(N) + (1 - own) * OTHER
    np.testing.assert_allclose(images, np.broadcast_to(expected[:, None, None, None], images.shape), rtol=1e-4)
    assert own.min() < 0.2 and own.max() > 0.8 and len(set(own)) == N


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    images, labels = mixed(CutMix(classes=CLASSES))
    own = shares(labels)
    assert images.dtype == np.uint8
    for i, image in enumerate(images[..., 0]):
        pasted = image == OTHER[i]
        assert np.all(pasted | (image == i))
        assert np.array_equal(pasted, pasted.any(1)[:, None] & pasted.any(0))
        assert own[i] == pytest.approx(1 - pasted.mean())
    assert own.min() < 0.5 and own.max() > 0.9


def test_shares_are_beta():
    images = {"image": jnp.zeros((4000, 1)), "label": jnp.zeros(4000, jnp.int32).at[::2].set(1)}
    _, labels = mixed(Mixup(classes=2, alpha=0.2), images)
    own = np.where(np.arange(4000) % 2 == 0, labels[:, 1], labels[:, 0])
    assert abs(own.mean() - 0.5) < 0.03
    assert own.var() == pytest.approx(1 / (4 * 1.4), rel=0.05)  # the variance of Beta(a, a): 1 / (4 (2a + 1))


@pytest.mark.parametrize("augmentation", [Mixup(classes=CLASSES), CutMix(classes=CLASSES)])
def test_half_a_batch_is_mixed_as_in_the_whole(augmentation):
    whole = mixed(augmentation)
    half = {name: x[32:] for name, x in BATCH.items()}
    for a, b in zip(mixed(augmentation, half, jnp.arange(32, N)), whole, strict=True):
        np.testing.assert_allclose(a, b[32:], atol=1e-5)


def test_padding_and_the_odd_one_out_stay_apart():
    padded = BATCH | {"weight": BATCH["weight"].at[8:].set(0)}
    odd = {name: x[:9] for name, x in padded.items()} | {"weight": padded["weight"][:9].at[3].set(0)}
    _, labels = mixed(Mixup(classes=CLASSES, alpha=1.0), odd)
    own = labels[np.arange(9), np.arange(9)]
    assert own[2] == own[8] == 1 and (own[[0, 1, 4, 5, 6, 7]] < 1).all()


def test_probability_and_one_of_two():
    _, labels = mixed(Mixup(classes=CLASSES, alpha=1.0, probability=0.5))
    assert 16 < (shares(labels) == 1).sum() < 48
    images, labels = mixed(OneOf((Mixup(classes=CLASSES, alpha=1.0), CutMix(classes=CLASSES))))
    shares(labels)
    cut = (images == np.round(images)).all((1, 2, 3))
    assert 16 < cut.sum() < 48


def test_labels_mixed_already_are_mixed_on():
    soft = BATCH | {"label": jax.nn.one_hot(BATCH["label"], CLASSES)}
    for a, b in zip(mixed(Mixup(classes=CLASSES), soft), mixed(Mixup(classes=CLASSES)), strict=True):
        np.testing.assert_array_equal(a, b)


def losses(experiment, steps=4):
    feed = make_feed(experiment.data.load().train, "device")
    programs = make_programs(experiment, feed.resident)
    batches = feed.batches(experiment.seed, experiment.batch_size)
    state = programs.init([experiment.seed], [hparams(experiment)], batches.largest())
    found = []
    for step in range(steps):
        state, metrics = programs.train(state, [batches.sent(step)])
        found.append(np.asarray(metrics["loss"])[0])
    return np.asarray(found)


@pytest.mark.parametrize(
    "changes", [{"accumulation": 4}, {"parallel": Parallel()}, {"parallel": Parallel(strategy="pmap")}]
)
def test_training_is_the_same_in_micro_batches_and_on_eight_devices(changes):
    mixing = (Mixup(classes=3, alpha=1.0),)
    one = toys.experiment(augment=mixing, batch_size=32, optimizer=SGD(learning_rate=0.3))
    found = losses(dataclasses.replace(one, **changes))
    np.testing.assert_allclose(found, losses(one), atol=1e-5)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (Mixup(classes=1), "classes=1"),
        (Mixup(classes=2, alpha=0.0), "alpha=0.0"),
        (CutMix(classes=2, alpha=-1.0), "alpha=-1.0"),
        (CutMix(classes=2, probability=2.0), "probability=2.0"),
        (CutMix(classes=2, label=""), "label=''"),
    ],
)
def test_check(augmentation, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        augmentation.check()


def test_a_batch_without_labels():
    with pytest.raises(RequestError, match="^Mixup: an example has no field 'label'; did you mean 'labels'"):
        augment((Mixup(classes=2),), KEY, {"image": BATCH["image"], "labels": BATCH["label"]})


def test_one_of_needs_one_shape():
    with pytest.raises(RequestError, match=r"^OneOf: 'label' is \[70\] or \[\], depending on what is drawn"):
        mixed(OneOf((Mixup(classes=CLASSES), HorizontalFlip())))
