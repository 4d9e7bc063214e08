"""Detection tasks: batches with and without boxes, padding, pixels of the original, pictures; parity is by model."""

import detectors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.source import Columns
from research.detection import CellPredictions, SetPredictions, boxes, cells
from research.errors import RequestError
from research.evaluation.exhibits import Boxes, Curves
from research.models.resnet import resnet
from research.tasks import DenseDetection, SetDetection

CELLS = cells(32, 32, (8, 16))


def batch(count=2, padding=2):
    """Two images of 32×32 pixels, the first with `count` boxes, the second with none."""
    generator = np.random.default_rng(0)
    image = generator.normal(size=(2, 32, 32, 3)).astype(np.float32)
    low = generator.uniform(0, 16, (count, 2))
    true = np.zeros((2, count + padding, 4), np.float32)
    true[0, :count] = np.concatenate([low, low + generator.uniform(6, 14, (count, 2))], -1)
    labels = np.full((2, count + padding), -1)
    labels[0, :count] = np.arange(count) % 3
    return {"image": image, "boxes": true, "labels": labels, "weight": np.ones(2, np.float32)}


def of_cells(raw=None):
    """A model of cells that predicts noise."""
    generator = np.random.default_rng(1)
    raw = generator.normal(0.5, 0.3, (2, len(CELLS), 4)).astype(np.float32) if raw is None else raw
    found = CellPredictions(
        raw, generator.normal(size=(2, len(CELLS))), generator.normal(size=(2, len(CELLS), 3)), CELLS
    )
    return lambda **kwargs: found


def of_queries(queries=5, layers=2):
    generator = np.random.default_rng(1)
    logits, raw = (jnp.asarray(generator.normal(size=(layers, 2, queries, 4)), jnp.float32) for _ in range(2))
    return lambda **kwargs: SetPredictions(logits, jax.nn.sigmoid(raw))


def losses(task, model, given):
    """The terms of a task; compiled, since single operations are slower."""
    return jax.jit(lambda given: detectors.losses(task, model, given))(given)


TASKS = {"cells": (DenseDetection(classes=3, l1=1.0), of_cells), "set": (SetDetection(classes=3), of_queries)}


@pytest.mark.parametrize("name", TASKS)
def test_padding_changes_nothing(name):
    task, model = TASKS[name]
    few, many = (losses(task, model(), batch(2, padding)) for padding in (1, 40))
    for term, value in few.items():
        np.testing.assert_allclose(many[term], value, rtol=1e-5, err_msg=term)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("count", [0, 100])
def test_no_box_and_a_hundred_are_ordinary(name, count):
    """Losses and gradients are finite; with no box at all, nothing of boxes is learned."""
    task, model = TASKS[name]
    values = losses(task, model(), batch(count))
    assert all(np.isfinite(value) for value in values.values())
    if count == 0:
        assert not any(value for name, value in values.items() if name.split("_")[0] in ("loss/box", "loss/l1"))
    else:
        assert values["loss"] > 1


def test_more_boxes_than_queries_count_in_the_mean():
    """Five queries for a hundred boxes: five learn, and the sum is divided by a hundred, as in the reference."""
    task = SetDetection(classes=3, giou=0.0, auxiliary=False)
    terms = task.loss(of_queries(), batch(100))
    assert terms["loss/l1"][1] == 100
    target, weight = terms["loss/class"]
    np.testing.assert_allclose(weight, 5 + 0.1 * 5)


def test_crowds_are_not_learned():
    given = batch(2)
    kinds = np.where(given["labels"] == 1, 1, 0).astype(np.uint8)
    without = {**given, "labels": np.where(kinds == 1, -1, given["labels"])}
    for task, model in TASKS.values():
        a, b = losses(task, model(), {**given, "kinds": kinds}), losses(task, model(), without)
        assert a["loss"] == b["loss"] != losses(task, model(), given)["loss"]


def test_matching_in_order_and_without_auxiliary_losses():
    """The i-th box teaches the i-th query, whatever it predicts; only the last layer learns."""
    given, found = batch(2), of_queries()()
    terms = losses(SetDetection(classes=3, matching="in_order", auxiliary=False), of_queries(), given)
    true = boxes.cxcywh(given["boxes"][0, :2]) / 32
    np.testing.assert_allclose(terms["loss/l1"], 5 * abs(found.boxes[-1, 0, :2] - true).sum() / 2, rtol=1e-5)
    assert set(terms) == {"loss", "loss/class", "loss/l1", "loss/giou"}


def test_central_assignment_and_giou():
    given = batch(2)
    near = DenseDetection(classes=3, assignment="central", box_loss="giou").loss(of_cells(), given)
    expected = 0
    centre = (given["boxes"][0, :2, :2] + given["boxes"][0, :2, 2:]) / 2
    for x, y, stride in CELLS:
        expected += (np.abs(centre - [x, y]).max(1) < 1.5 * stride).any()
    assert near["cells"] == (expected, 2)


def test_boxes_are_relative_to_the_content_and_scored_in_pixels_of_the_original():
    given = batch(2) | {"content": np.array([[16, 32], [32, 32]]), "scale": np.float32([0.5, 2.0])}
    task = SetDetection(classes=3, content="content", most=3)
    assert task.inputs(given)["mask"].sum((1, 2)).tolist() == [512, 1024]
    found = task.predict(of_queries(), given)
    assert found["boxes"].shape == (2, 3, 4) and (np.diff(found["score"], axis=1) <= 0).all()
    raw = of_queries()()
    query = int(jax.nn.softmax(raw.logits[-1, 0])[..., :-1].max(-1).argmax())
    expected = boxes.xyxy(raw.boxes[-1, 0, query]) * np.array([32, 16, 32, 16]) / 0.5
    np.testing.assert_allclose(found["boxes"][0, 0], expected, rtol=1e-4)
    outputs = task.eval_outputs(of_queries(), given)
    np.testing.assert_allclose(outputs["true_boxes"], given["boxes"] / given["scale"][:, None, None])


def perfect(given):
    """Predictions at the first cell of each true box's centre, and nothing else."""
    raw = np.zeros((2, len(CELLS), 4), np.float32)
    objectness, logits = np.full((2, len(CELLS)), -9.0, np.float32), np.full((2, len(CELLS), 3), -9.0, np.float32)
    for i, (true, labels) in enumerate(zip(given["boxes"], given["labels"], strict=True)):
        for j, (box, label) in enumerate(zip(true[labels >= 0], labels[labels >= 0], strict=True)):
            x, y, stride = CELLS[j]
            centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            raw[i, j] = *((centre - [x, y]) / stride + 0.5), *np.log(size / stride)
            objectness[i, j], logits[i, j, label] = 9, 9
    return lambda **kwargs: CellPredictions(raw, objectness, logits, CELLS)


def test_perfect_predictions_have_full_marks_and_pictures():
    given, task = batch(2), DenseDetection(classes=3, class_names=("a", "b", "c"), picture=16)
    outputs = {name: np.asarray(x) for name, x in task.eval_outputs(perfect(given), given).items()}
    assert outputs["picture"].shape == (2, 16, 16, 3)
    metrics = task.finalize(outputs)
    assert metrics["ap"] > 0.95 and metrics["ap50"] > 0.99 and metrics["ap_a"] > 0.95 and "ap_c" not in metrics
    shown = task.exhibits(outputs)
    assert isinstance(shown["precision_recall"], Curves) and shown["precision_recall"].names.tolist() == ["a", "b"]
    assert isinstance(shown["detections"], Boxes) and "misses" not in shown
    picture = shown["detections"]
    np.testing.assert_allclose(picture.boxes[0, :2], picture.true_boxes[0, :2], atol=0.5)
    np.testing.assert_allclose(picture.true_boxes[0, 0], given["boxes"][0, 0] / 2)
    # Without the first box's prediction, its image has a miss.
    outputs["scores"] = np.where(outputs["labels"] == 0, 0.1, outputs["scores"])
    assert len(task.exhibits(outputs)["misses"].images) == 1


def test_without_a_true_box_there_are_still_pictures():
    given, task = batch(0), DenseDetection(classes=3)
    outputs = {name: np.asarray(x) for name, x in task.eval_outputs(of_cells(), given).items()}
    assert np.isnan(task.finalize(outputs)["ap"])
    assert set(task.exhibits(outputs)) == {"detections"}


def test_bad_values_are_named():
    for task, said in (
        (DenseDetection(classes=0), "classes=0"),
        (DenseDetection(classes=2, class_names=("a",)), "class_names=('a',): expected 2"),
        (DenseDetection(classes=2, overlap=1.5), "overlap=1.5"),
        (DenseDetection(classes=2, l1=-1.0), "l1=-1.0"),
        (SetDetection(classes=2, l1=0.0, giou=0.0), "l1=0.0 and giou=0.0"),
        (SetDetection(classes=2, giou=-1.0), "giou=-1.0"),
    ):
        with pytest.raises(RequestError) as error:
            task.check()
        assert said in str(error.value)
    with pytest.raises(RequestError, match="task.classes=3 and model.classes=1000"):
        DenseDetection(classes=3).check_model(resnet(18))


def test_bad_columns_are_named():
    task, given = DenseDetection(classes=2), batch(2)
    columns = {name: given[name] for name in ("image", "boxes", "labels")}
    with pytest.raises(RequestError, match="task.classes=2: label 2 of box 2 in example 0 of the train split"):
        task.check_examples(Columns(columns | {"labels": np.array([[0, 1, 2, -1]] * 2)}), "train")
    with pytest.raises(RequestError, match="task.boxes='boxes': the train split has no such column"):
        task.check_examples(Columns({"image": given["image"], "labels": given["labels"]}), "train")
    with pytest.raises(RequestError, match=r"task.boxes='boxes': \[4\]; expected \[box, 4\]"):
        task.check_examples(Columns(columns | {"boxes": given["boxes"][:, 0]}), "train")
    task.check_examples(Columns(columns), "train")
