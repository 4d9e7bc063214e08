"""Average precision: pycocotools' own numbers through ours, and what is ignored."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from research.detection import average_precision
from research.errors import RequestError


def split(seed=0, images=12, classes=3):
    """Random true boxes of all sizes, some of them crowds, and detections near them; padded."""
    generator = np.random.default_rng(seed)
    true = generator.uniform(0, 200, (images, 6, 2))
    true = np.concatenate([true, true + np.exp(generator.uniform(1.5, 6, (images, 6, 2)))], -1)
    labels = np.where(generator.random((images, 6)) < 0.7, generator.integers(0, classes, (images, 6)), -1)
    found = np.concatenate([true + generator.normal(0, 4, true.shape), true[:, ::-1] + 3], 1)
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 1)
    own = np.concatenate([labels, generator.integers(-1, classes, (images, 6))], 1)
    return {
        "true_boxes": true.astype(np.float32),
        "true_labels": labels,
        "kinds": (generator.random((images, 6)) < 0.15).astype(np.uint8),
        "boxes": found.astype(np.float32),
        "labels": own,
        "scores": generator.random((images, 12)).astype(np.float32),
    }


def by_pycocotools(outputs, classes=3):
    """The twelve numbers that COCOeval summarises, from JSON as its users write it."""
    annotations, detections = [], []
    for image in range(len(outputs["boxes"])):
        for kind, rows in (("true_", annotations), ("", detections)):
            for i, (box, label) in enumerate(zip(outputs[f"{kind}boxes"][image], outputs[f"{kind}labels"][image])):  # noqa: B905
                if label >= 0:
                    x, y, right, bottom = box.astype(np.float64).tolist()
                    one = {"image_id": image, "category_id": int(label), "bbox": [x, y, right - x, bottom - y]}
                    one |= {"area": (right - x) * (bottom - y), "id": len(rows) + 1}
                    more = {"iscrowd": int(outputs["kinds"][image, i])} if kind else {}
                    rows.append(one | (more or {"score": float(outputs["scores"][image, i])}))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(len(outputs["boxes"]))],
            "categories": [{"id": i} for i in range(classes)],
            "annotations": annotations,
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes([{k: d[k] for k in d if k != "id"} for d in detections]), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_pycocotools(seed):
    outputs = split(seed)
    ours, theirs = average_precision(outputs, 3, ("a", "b/c", "d")).metrics, by_pycocotools(outputs)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    assert [ours[name] for name in names] == theirs[:6].tolist() and 0.05 < ours["ap"] < 0.95
    assert ours["ar"] == theirs[8]
    np.testing.assert_allclose(np.mean([ours[f"ap_{name}"] for name in ("a", "b_c", "d")]), ours["ap"])


def one_image(true, kinds, found, scores):
    pad = lambda x: np.float32(x)[None]  # noqa: E731
    return {
        **{"true_boxes": pad(true), "true_labels": np.zeros((1, len(true)), int), "kinds": np.array([kinds])},
        **{"boxes": pad(found), "labels": np.zeros((1, len(found)), int), "scores": pad(scores)},
    }


ONE = pytest.approx(1)
BOX, FAR, INSIDE = (0, 0, 10, 10), (50, 50, 60, 60), (50, 50, 54, 54)


def test_crowds_and_difficult_boxes_are_neither_missed_nor_wrong():
    """Nobody has to find the far box; who finds it twice is not punished; a part of it counts for a crowd only."""
    for kind in (1, 2):
        assert average_precision(one_image([BOX, FAR], [0, kind], [BOX], [0.9]), 1).metrics["ap"] == ONE
        twice = one_image([BOX, FAR], [0, kind], [FAR, FAR, BOX], [0.9, 0.8, 0.7])
        assert average_precision(twice, 1).metrics["ap"] == ONE
        part = one_image([BOX, FAR], [0, kind], [INSIDE, BOX], [0.9, 0.8])
        assert average_precision(part, 1).metrics["ap"] == pytest.approx(1 if kind == 1 else 0.5)
    assert average_precision(one_image([BOX, FAR], [0, 0], [FAR, FAR, BOX], [0.9, 0.8, 0.7]), 1).metrics["ap"] < 0.99


def test_nothing_found_nothing_there_and_the_precision_by_class():
    nothing = one_image([BOX], [0], [BOX], [0.9]) | {"labels": np.full((1, 1), -1)}
    assert average_precision(nothing, 1).metrics["ap"] == 0
    empty = one_image([BOX], [0], [BOX], [0.9]) | {"true_labels": np.full((1, 1), -1)}
    scores = average_precision(empty, 2)
    assert np.isnan(scores.metrics["ap"]) and "ap_0" not in scores.metrics and np.isnan(scores.precision).all()
    found = average_precision(one_image([BOX, FAR], [0, 0], [BOX], [0.9]), 2)
    assert (
        found.precision.shape == (2, 101) and found.precision[0, :51].min() == ONE and not found.precision[0, 51:].any()
    )
    assert np.isnan(found.precision[1]).all()


def test_areas_decide_the_size():
    outputs = one_image([BOX], [0], [BOX], [0.9])
    assert average_precision(outputs, 1).metrics["ap_small"] == ONE
    large = average_precision(outputs | {"areas": np.array([[1e5]])}, 1).metrics
    assert large["ap_large"] == ONE and "ap_small" not in large


def test_without_pycocotools_one_line_says_what_to_type(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(RequestError, match=r"needs pycocotools.coco, .*pip install -e '.\[detection\]'"):
        average_precision(one_image([BOX], [0], [BOX], [0.9]), 1)
