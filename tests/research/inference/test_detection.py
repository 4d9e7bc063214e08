"""Finds objects with a small run, in pictures of any size."""

import numpy as np
import PIL.Image
import pytest
import toys
from image_parity import random_variables

from research import data, models, tasks
from research.errors import RequestError
from research.inference import Found, Predictor, detect, draw_boxes
from research.pretrained import FitWithin, export_pretrained, load_pretrained


@pytest.fixture(scope="module")
def predictor():
    model = models.YOLOX(classes=2, depth=0.33, width=0.0625)
    pictures = data.VOC(path="none", size=(32, 64), class_names=("cat", "dog"))
    task = tasks.DenseDetection(classes=2, most=5)
    experiment = toys.experiment(model=model, task=task, data=pictures, preprocess=(data.Scale("image", 1 / 255),))
    return Predictor(experiment, random_variables(model, np.ones((1, 32, 64, 3), np.float32)))


def test_boxes_are_in_pixels_of_the_picture(predictor, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / "a.png")
    twice = picture.repeat(2, 0).repeat(2, 1)
    small, again, large = detect(predictor, [picture, tmp_path / "a.png", twice], least=0.0)
    assert len(small.boxes) > 0 and set(small.names) <= {"cat", "dog"}
    np.testing.assert_array_equal(small.boxes, again.boxes)
    np.testing.assert_allclose(large.boxes, 2 * small.boxes, rtol=0.05, atol=4)
    assert (np.diff(small.scores) <= 0).all()
    assert len(detect(predictor, [picture], least=1.0)[0].boxes) == 0


def test_boxes_are_drawn_where_they_are():
    picture = np.zeros((40, 60), np.uint8)
    found = Found(np.array([[10.0, 5, 30, 25]]), np.array([0.9]), np.array([1]), ["dog"])
    drawn = draw_boxes(picture, found, width=1)
    assert drawn.shape == (40, 60, 3) and drawn[5, 10:30].any(-1).all() and drawn[5:25, 30].any(-1).all()
    assert not drawn[:5].any() and not drawn[:, :10].any()


def test_bad_requests_are_named(predictor):
    with pytest.raises(RequestError, match="pictures: str given; expected a list"):
        detect(predictor, "a.png")
    with pytest.raises(RequestError, match="least=2"):
        detect(predictor, [np.zeros((4, 4, 3), np.uint8)], least=2)
    with pytest.raises(RequestError, match="detect: this run was trained by Classification; expected a run trained by"):
        detect(Predictor(toys.experiment(), {}), [])


@pytest.mark.parametrize("name", ["yolox", "yolos"])
def test_published_weights_find_boxes_in_pixels_of_the_picture(name, tmp_path):
    """The weights travel with preprocessing and names; a picture of twice the size has boxes of twice the size."""
    if name == "yolox":
        model = models.YOLOX(classes=2, depth=0.33, width=0.0625)
        variables = random_variables(model, np.ones((1, 64, 64, 3), np.float32))
        read = load_pretrained(
            model, export_pretrained(model, variables, tmp_path / "yolox.safetensors"), image_size=64
        )
        assert read.preprocessing.reverse and read.preprocessing.letterbox == (64, 64)
    else:
        sizes = {"image_size": (16, 16), "patch_size": 8, "width": 8, "depth": 1, "num_heads": 2}
        model = models.YOLOS(classes=2, num_queries=4, **sizes)
        variables = random_variables(model, np.ones((1, 16, 16, 3), np.float32))
        prepare, file = FitWithin(shortest=32, longest=48, multiple=8), tmp_path / "model.safetensors"
        export_pretrained(model, variables, file, preprocessing=prepare, class_names=["cat", "dog"])
        read = load_pretrained("auto", tmp_path)
        assert read.preprocessing == prepare and read.class_names == ("cat", "dog")
    picture = np.full((128, 160, 3), (10, 100, 200), np.uint8)  # of one colour, so that resizing changes nothing else
    small, large = detect(read, [picture, picture.repeat(2, 0).repeat(2, 1)], least=0.0)
    assert len(small.boxes) and abs(large.boxes - 2 * small.boxes).max() < 0.1
    assert small.boxes.min() >= 0 and (small.boxes <= [160, 128, 160, 128]).all()
    if name == "yolos":
        assert set(small.names) <= {"cat", "dog"}
    with pytest.raises(RequestError, match="does not classify images"):
        read.predict([picture])
