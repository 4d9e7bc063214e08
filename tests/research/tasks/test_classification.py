"""Classification: losses against PyTorch's, metrics against their definitions, and invalid data."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from research.data.source import Columns
from research.errors import RequestError
from research.tasks.classification import Classification
from research.tasks.task import metrics_of


def loss_of(task, logits, labels, weight=None):
    """The weighted mean of the task's loss on given logits."""
    batch = {"image": logits, "label": labels, "weight": jnp.ones(len(labels)) if weight is None else weight}
    total, weights = task.loss(lambda x, **_: x, batch)["loss"]
    return total / weights


def test_cross_entropy_equals_pytorchs():
    arrays, metadata = parity.load("losses")
    logits, labels = jnp.asarray(arrays["input/logits"]), jnp.asarray(arrays["input/labels"])
    task = Classification(classes=logits.shape[1])
    np.testing.assert_allclose(loss_of(task, logits, labels), arrays["output/ce_mean"], atol=1e-6)
    smooth = Classification(classes=task.classes, label_smoothing=metadata["config"]["label_smoothing"])
    np.testing.assert_allclose(loss_of(smooth, logits, labels), arrays["output/ce_smooth"], atol=1e-6)
    ignored = arrays["input/labels_ignore"]
    weight = jnp.asarray(ignored >= 0, jnp.float32)
    kept = jnp.maximum(ignored, 0)
    np.testing.assert_allclose(loss_of(task, logits, kept, weight), arrays["output/ce_ignore"], atol=1e-6)
    np.testing.assert_allclose(loss_of(smooth, logits, kept, weight), arrays["output/ce_smooth_ignore"], atol=1e-6)


def test_focal_loss_is_its_formula():
    logits, labels = jnp.asarray([[2.0, -1.0], [0.5, 0.0]]), jnp.asarray([0, 1])
    p = jax.nn.softmax(logits)[jnp.arange(2), labels]
    task = Classification(classes=2, objective="focal", focal_gamma=2.0)
    np.testing.assert_allclose(loss_of(task, logits, labels), (-((1 - p) ** 2) * jnp.log(p)).mean(), rtol=1e-6)
    none = Classification(classes=2, objective="focal", focal_gamma=0.0)
    np.testing.assert_allclose(loss_of(none, logits, labels), loss_of(Classification(classes=2), logits, labels))


@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.booleans())
@settings(max_examples=30, deadline=None)
def test_metrics_equal_scikit_learns(seed, classes, ties):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(40, classes)).astype(np.float32)
    logits = np.round(logits) if ties else logits
    labels = generator.integers(0, classes, 40)
    task = Classification(classes=classes, top_k=(2,))
    batch = {"image": jnp.asarray(logits), "label": jnp.asarray(labels), "weight": jnp.ones(40)}
    found = task.finalize({k: np.asarray(v) for k, v in task.eval_outputs(lambda x, **_: x, batch).items()})
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, logits.argmax(-1)))
    probabilities = np.asarray(jax.nn.softmax(logits), np.float64)
    probabilities /= probabilities.sum(-1, keepdims=True)
    assert found["loss"] == pytest.approx(
        sklearn_metrics.log_loss(labels, probabilities, labels=range(classes)), rel=1e-4
    )
    if not ties and classes > 2:
        top = sklearn_metrics.top_k_accuracy_score(labels, logits, k=2, labels=range(classes))
        assert found["top_2_accuracy"] == pytest.approx(top)


def test_prediction_gives_label_and_probability():
    task = Classification(classes=3)
    found = task.predict(lambda x, **_: x, {"image": jnp.asarray([[0.0, 2.0, 1.0]])})
    assert found["label"].tolist() == [1]
    np.testing.assert_allclose(found["probability"].sum(-1), 1, rtol=1e-6)


SOFT = jnp.asarray([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]])


def test_a_mirrored_answer_is_the_mean_of_both_sides():
    images = jax.random.normal(jax.random.key(0), (5, 3, 4, 2))
    batch = {"image": images, "label": jnp.zeros(5, jnp.int32), "weight": jnp.ones(5)}
    weights = jax.random.normal(jax.random.key(1), (24, 3))

    def apply(x, **_):
        return x.reshape(len(x), -1) @ weights

    plain, mirrored = Classification(classes=3), Classification(classes=3, mirrored=True)
    both = (apply(images) + apply(images[:, :, ::-1])) / 2
    np.testing.assert_allclose(mirrored.predict(apply, batch)["probability"], jax.nn.softmax(both), rtol=1e-5)
    turned = {**batch, "image": images[:, :, ::-1]}
    for name, value in mirrored.eval_outputs(apply, batch).items():
        np.testing.assert_allclose(value, mirrored.eval_outputs(apply, turned)[name], rtol=1e-5)
    assert not np.allclose(plain.eval_outputs(apply, batch)["loss"], mirrored.eval_outputs(apply, batch)["loss"])
    np.testing.assert_allclose(plain.loss(apply, batch)["loss"][0], mirrored.loss(apply, batch)["loss"][0])
    with pytest.raises(RequestError, match=r"image of shape \[24\]; expected images"):
        mirrored.eval_outputs(lambda x, **_: x[:, :3], {**batch, "image": images.reshape(5, -1)})


def test_a_moved_answer_is_half_that_in_place():
    images = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(8.0)

    def apply(x, **_):  # the logits of the centre, of the pixel to its right, and of a corner that is never reached
        return jnp.stack([x[:, 2, 2, 0], x[:, 2, 3, 0], x[:, 0, 0, 0]], -1)

    task = Classification(classes=3, moved=1)
    task.check()
    found = task.predict(apply, {"image": images})["probability"]
    np.testing.assert_allclose(found, jax.nn.softmax(jnp.asarray([[4.0, 1.0, 0.0]])), rtol=1e-6)
    with pytest.raises(RequestError, match=r"^task.moved=1: image of shape \[3\]; expected images"):
        task.predict(lambda x, **_: x, {"image": jnp.zeros((1, 3))})
    with pytest.raises(RequestError, match="^moved=-1: expected pixels, 0 or more$"):
        Classification(classes=3, moved=-1).check()


def test_labels_may_be_probabilities():
    logits = jnp.asarray([[2.0, 1.0, 0.0], [0.0, 0.5, 0.2]])
    for task in (Classification(classes=3), Classification(classes=3, label_smoothing=0.1, objective="focal")):
        hard = jnp.asarray([0, 2])
        np.testing.assert_allclose(
            loss_of(task, logits, jax.nn.one_hot(hard, 3)), loss_of(task, logits, hard), rtol=1e-6
        )
    expected = -(SOFT * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(loss_of(Classification(classes=3), logits, SOFT), expected.mean(), rtol=1e-6)
    batch = {"image": logits, "label": SOFT, "weight": jnp.ones(2)}
    task = Classification(classes=3)
    correct, total = task.loss(lambda x, **_: x, batch)["accuracy"]
    assert float(correct / total) == pytest.approx((0.7 + 0.2) / 2)  # the shares of the predicted classes in the labels
    outputs = {name: np.asarray(x) for name, x in task.eval_outputs(lambda x, **_: x, batch).items()}
    assert task.finalize(outputs)["accuracy"] == 0.5
    np.testing.assert_allclose(outputs["loss"], expected, rtol=1e-6)


def test_probabilities_of_other_classes_are_refused():
    with pytest.raises(RequestError, match=r"^labels are probabilities \[3\] per example; expected \[2\]"):
        loss_of(Classification(classes=2), jnp.zeros((2, 2)), SOFT)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": [[1.0]], "label": [3]}, "label 3 is outside 0 to 2"),
        ({"image": [[1.0]], "label": [-1]}, "label -1 is outside"),
        ({"image": [[1.0]], "label": [[0.5, 0.5]]}, "label is float32 [2] per example; expected an integer, or a prob"),
        ({"image": [[1.0]], "label": [[0.5, 0.6, 0.0]]}, "example 0: label is no distribution (least 0, sum 1.1)"),
        ({"image": [[1.0]], "label": [[-0.5, 1.5, 0.0]]}, "label is no distribution (least -0.5, sum 1)"),
        (
            {"images": [[1.0]], "label": [1]},
            "task.input='image': the train split has no such column; did you mean 'images'",
        ),
        ({"image": [[1.0]], "labels": [1]}, "task.label='label'"),
    ],
)
def test_data_that_cannot_be_learned_from(columns, says):
    source = Columns({name: np.asarray(x) for name, x in columns.items()})
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        Classification(classes=3).check_examples(source, "train")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": 1}, "classes=1"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"focal_gamma": -1.0}, "focal_gamma=-1.0"),
        ({"top_k": (4,)}, "top_k=4"),
        ({"calibration_bins": 0}, "calibration_bins=0"),
        ({"class_weights": (1.0, 2.0)}, "2 numbers; expected 3, one for each class"),
        ({"class_weights": (1.0, 2.0, -1.0)}, "expected numbers of at least 0"),
        ({"class_weights": (0.0, 0.0, 0.0)}, "not all 0"),
    ],
)
def test_impossible_fields_are_refused(fields, says):
    with pytest.raises(RequestError, match=says):
        Classification(**{"classes": 3, **fields}).check()


def test_a_language_model_answers_at_one_token():
    logits, labels = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32), jnp.asarray([0, 1, 2, 3])
    for token in (-1, 2):
        own = loss_of(Classification(classes=5, token=token), jnp.asarray(logits), labels)
        assert own == loss_of(Classification(classes=5), jnp.asarray(logits[:, token]), labels)
    for token, wrong in ((6, logits), (-1, logits[:, 0])):
        with pytest.raises(RequestError, match=rf"^task.token={token}: the model gives logits \[4, "):
            loss_of(Classification(classes=5, token=token), jnp.asarray(wrong), labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros((4, 1), np.int32), r"label is int32 \[1\] per example; expected one \(drop the last axis\)"),
        (np.eye(3, dtype=np.int32), r"label is int32 \[3\] per example; expected one \(one-hot classes: give floats"),
    ],
)
def test_integer_labels_of_two_axes_are_told(labels, said):
    source = Columns({"image": np.zeros((len(labels), 2), np.float32), "label": labels})
    with pytest.raises(RequestError, match=said):
        Classification(classes=3).check_examples(source, "train")


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.eye(2), r"an array \[2, 2\]"), ("good", "a str"), (None, "a NoneType"), ([0.5], r"an array \[1\]")],
)
def test_a_metric_that_is_no_number_is_named(value, said):
    class Mine(Classification):
        def finalize(self, outputs):
            return {"accuracy": np.float32(0.5), "confusion": value}

    with pytest.raises(RequestError, match=f"finalize gives {said} for the metric 'confusion'; expected a number"):
        metrics_of(Mine(classes=2), {})


def test_metrics_are_plain_numbers():
    class Mine(Classification):
        def finalize(self, outputs):
            return {"accuracy": np.float32(0.5), "count": 3, "found": np.array(True)}

    assert metrics_of(Mine(classes=2), {}) == {"accuracy": 0.5, "count": 3.0, "found": 1.0}


def test_class_weights_are_pytorchs_weighted_mean():
    torch_losses = np.array([0.7, 1.9, 0.3])  # of the labels 0, 1, 1
    logits = jnp.log(jnp.stack([jnp.array([np.exp(-loss), 1 - np.exp(-loss)]) for loss in torch_losses]))
    logits = jnp.stack([logits[0], logits[1][::-1], logits[2][::-1]])
    labels = jnp.array([0, 1, 1])
    task = Classification(classes=2, class_weights=(3.0, 0.5))
    expected = (3.0 * 0.7 + 0.5 * 1.9 + 0.5 * 0.3) / 4.0
    np.testing.assert_allclose(loss_of(task, logits, labels), expected, rtol=1e-6)
    np.testing.assert_allclose(loss_of(task, logits, labels, jnp.array([1.0, 1.0, 0.0])), (2.1 + 0.95) / 3.5, rtol=1e-6)
    mixed = jax.nn.one_hot(labels, 2) * 0.5 + 0.25
    weights = mixed @ jnp.array([3.0, 0.5])
    each = -(mixed * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(loss_of(task, logits, mixed), (weights * each).sum() / weights.sum(), rtol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_balanced_weights_count_the_classes_of_the_training_split(soft):
    labels = np.array([0, 0, 0, 2], np.int32)
    column = np.eye(3, dtype=np.float32)[labels] if soft else labels
    task = Classification(classes=3, class_weights="balanced").fit(Columns({"image": np.zeros(4), "label": column}))
    assert task.class_weights == pytest.approx((4 / 9, 0.0, 4 / 3))
    assert Classification(classes=3).fit(None).class_weights is None
