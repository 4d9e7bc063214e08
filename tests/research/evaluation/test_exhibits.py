"""Exhibits: their shapes are checked with one-line errors, and their files can be read back."""

import numpy as np
import pytest

from research.errors import RequestError
from research.evaluation import exhibit_files, tensorboard
from research.evaluation.exhibit_files import read_exhibits, write_exhibits
from research.evaluation.exhibits import (
    KINDS,
    Boxes,
    ConfusionMatrix,
    Curves,
    ImageGrid,
    ImagePairs,
    Images,
    Reliability,
    TextPairs,
)

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (4, 6, 5, 3), np.uint8)
GREY = RNG.random((4, 6, 5, 1), np.float32)

EXHIBITS = {
    "images": Images(PICTURES, captions=["a", "größe", "", "d"]),
    "pairs": ImagePairs(GREY, PICTURES[:, :3], names=("noisy", "clean")),
    "grid": ImageGrid(PICTURES.reshape(2, 2, 6, 5, 3), row_names=["cat", "dog"]),
    "boxes": Boxes(
        PICTURES,
        RNG.random((4, 2, 4)),
        np.array([[0, 1], [1, -1], [0, 0], [-1, -1]]),
        scores=RNG.random((4, 2)),
        true_boxes=RNG.random((4, 1, 4)),
        true_labels=np.zeros((4, 1), int),
        class_names=["cat", "dog"],
    ),
    "texts": TextPairs(reference=["ein Haus", ""], written=["ein Baum", "x"], source=["a house", "y"]),
    "confusion": ConfusionMatrix(np.arange(9).reshape(3, 3)),
    "curves": Curves(x=[[0.0, 1.0], [0.5, np.nan]], y=np.ones((2, 2)), names=["cat", "dog"], x_name="recall"),
    "reliability": Reliability([0.1, np.nan], [0.2, np.nan], [3, 0]),
}


def same(a, b):
    assert type(a) is type(b)
    ours, theirs = a.arrays(), b.arrays()
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(x, theirs[name])
        assert x.dtype == theirs[name].dtype


def test_every_kind_comes_back_as_it_was_written(tmp_path):
    assert {type(exhibit) for exhibit in EXHIBITS.values()} == set(KINDS.values())
    assert write_exhibits(tmp_path, "validation", 200, EXHIBITS) == []
    found = read_exhibits(tmp_path)
    assert {(one.evaluation, one.name, one.step) for one in found} == {("validation", name, 200) for name in EXHIBITS}
    for one in found:
        same(one.read(), EXHIBITS[one.name])
    assert not list(tmp_path.rglob("*.tmp"))


def test_tensorboard_shows_every_kind(tmp_path):
    from tensorboardX import SummaryWriter

    shown = {}

    class Events(SummaryWriter):
        def add_image(self, tag, image, step, dataformats):
            assert image.dtype == np.uint8 and image.ndim == 3 and dataformats == "HWC"
            shown[tag] = image
            super().add_image(tag, image, step, dataformats=dataformats)

        def add_text(self, tag, text, step):
            shown[tag] = text
            super().add_text(tag, text, step)

    with Events(str(tmp_path / "tensorboard")) as events:
        show = lambda name, exhibit: tensorboard.add(events, f"validation/{name}", exhibit, 200)  # noqa: E731
        write_exhibits(tmp_path, "validation", 200, EXHIBITS, show=show)
    assert shown.keys() == {f"validation/{name}" for name in EXHIBITS}
    assert shown["validation/texts"].splitlines()[2] == "| a house | ein Haus | ein Baum |"
    assert shown["validation/grid"].shape == (2 * 7, 2 * 6, 3)
    np.testing.assert_array_equal(shown["validation/grid"][7:13, 6:11], PICTURES[3])
    confusion = shown["validation/confusion"]
    assert confusion[0, 0].tolist() == [255, 255, 255] and confusion[0, -1, 0] < confusion[0, 150, 0] < 255
    assert len(np.unique(shown["validation/curves"].reshape(-1, 3), axis=0)) > 3
    assert next((tmp_path / "tensorboard").iterdir()).stat().st_size > 1000


def test_images_become_bytes():
    assert Images(np.array([[[[-1.0]], [[0.5]], [[np.nan]], [[2.0]]]])).images.ravel().tolist() == [0, 128, 0, 255]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Images(PICTURES[0]), r"Images.images: uint8 \[6, 5, 3\]; expected .* \[example, height, width"),
        (lambda: Images(PICTURES[..., :2]), "Images.images: 2 channels; expected 1 .* or 3"),
        (lambda: Images(PICTURES.astype(int)), "Images.images: int64 .*; expected bytes or floats"),
        (lambda: Images(PICTURES, captions=["a"]), r"Images.captions: <U1 \[1\]; expected texts \[4\]"),
        (lambda: Images(PICTURES, captions=[1, 2, 3, 4]), "Images.captions: int64 .*; expected texts"),
        (lambda: Images([object()]), "Images.images: object; expected an array of numbers or of texts"),
        (lambda: ImagePairs(PICTURES, PICTURES[:2]), "4 images left, 2 right; expected as many of each"),
        (lambda: ImageGrid(PICTURES), r"ImageGrid.images: uint8 \[4, 6, 5, 3\]; expected .* \[row, column"),
        (
            lambda: Boxes(PICTURES, np.zeros((4, 2, 5)), np.zeros((4, 2), int)),
            r"Boxes.boxes: .*expected numbers \[4, box, 4\]",
        ),
        (lambda: Boxes(PICTURES, np.zeros((4, 2, 4)), np.zeros((4, 2))), "Boxes.labels: float64 .*; expected integers"),
        (
            lambda: Boxes(PICTURES, np.zeros((4, 2, 4)), np.zeros((4, 2), int), true_boxes=np.zeros((4, 1, 4))),
            "or neither",
        ),
        (lambda: TextPairs(["a"], ["b", "c"]), r"TextPairs.written: <U1 \[2\]; expected texts \[1\]"),
        (lambda: ConfusionMatrix(np.zeros((2, 3), int)), r"ConfusionMatrix.counts: int64 \[2, 3\]; expected integers"),
        (lambda: ConfusionMatrix(np.zeros((2, 2), int), ["a"]), r"class_names: <U1 \[1\]; expected texts \[2\]"),
        (
            lambda: Curves(np.zeros((1, 3)), np.zeros((1, 2)), ["a"]),
            r"Curves.y: float64 \[1, 2\]; expected numbers \[1, 3\]",
        ),
        (lambda: Reliability([0.1], [0.2], [0.5]), "Reliability.count: float64"),
    ],
)
def test_other_shapes_are_refused_in_a_line(make, message):
    with pytest.raises(RequestError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_what_is_no_exhibit_is_refused(tmp_path):
    with pytest.raises(RequestError, match="exhibit 'x': a ndarray; expected one of Images"):
        write_exhibits(tmp_path, "validation", 1, {"x": PICTURES})


@pytest.mark.parametrize(
    "name", ["a/b", "../../x", "..", ".hidden", "größe 1", "a\\b", "con?*:<>|", "a%2Fb", "\n\0", "a b"]
)
def test_any_name_is_a_file_inside_the_folder(tmp_path, name):
    trial = tmp_path / "trial"
    write_exhibits(trial, name, 1, {name: EXHIBITS["texts"]})
    (found,) = read_exhibits(trial)
    assert (found.evaluation, found.name) == (name, name)
    assert trial in found.path.parents and list(tmp_path.iterdir()) == [trial]
    assert found.path.parent.parent.parent == trial / "exhibits"


@pytest.mark.parametrize("name", ["", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match="exhibit name"):
        write_exhibits(tmp_path, "validation", 1, {name: EXHIBITS["texts"]})


def test_what_is_too_large_is_cut_to_fewer_examples_or_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(exhibit_files, "LIMIT", 2 * PICTURES[0].nbytes + 50)
    large = {
        "images": Images(PICTURES),
        "confusion": ConfusionMatrix(np.zeros((40, 40), int)),
        "small": EXHIBITS["reliability"],
    }
    said = write_exhibits(tmp_path, "validation", 1, large)
    assert len(said) == 2 and "'images'" in said[0] and "cut to 2 examples" in said[0] and "left out" in said[1]
    found = {one.name: one.read() for one in read_exhibits(tmp_path)}
    assert found.keys() == {"images", "small"}
    np.testing.assert_array_equal(found["images"].images, PICTURES[:2])


def test_the_first_examples_keep_what_they_share():
    boxes = EXHIBITS["boxes"].first(1)
    assert len(boxes.images) == len(boxes.true_labels) == 1 and list(boxes.class_names) == ["cat", "dog"]


def test_class_names_of_the_data_are_written_where_there_are_no_others(tmp_path):
    write_exhibits(
        tmp_path, "test", 1, {k: EXHIBITS[k] for k in ("confusion", "boxes", "texts")}, class_names=("x", "y", "z")
    )
    found = {one.name: one.read() for one in read_exhibits(tmp_path)}
    assert list(found["confusion"].class_names) == ["x", "y", "z"]
    assert list(found["boxes"].class_names) == ["cat", "dog"]


def test_steps_are_thinned_between_the_first_and_the_newest(tmp_path):
    for step in range(10, 1010, 10):
        write_exhibits(tmp_path, "validation", step, {"reliability": EXHIBITS["reliability"]})
    steps = [one.step for one in read_exhibits(tmp_path)]
    assert len(steps) == exhibit_files.KEPT and steps == sorted(steps)
    assert (steps[0], steps[-1]) == (10, 1000)
    assert max(np.diff(steps)) <= 200


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", None])
def test_a_damaged_file_is_named(tmp_path, content):
    write_exhibits(tmp_path, "validation", 7, {"texts": EXHIBITS["texts"]})
    (one,) = read_exhibits(tmp_path)
    one.path.write_bytes(one.path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(RequestError, match="7.npz: no exhibit"):
        one.read()


def test_pickles_and_other_arrays_are_not_read(tmp_path):
    write_exhibits(tmp_path, "validation", 7, {"texts": EXHIBITS["texts"]})
    (one,) = read_exhibits(tmp_path)
    for arrays in (
        {"kind": np.asarray("TextPairs"), "reference": np.asarray([{}], object)},
        {"kind": np.asarray("os")},
        {"x": 1},
    ):
        np.savez(one.path, **arrays)
        with pytest.raises(RequestError, match="7.npz: no exhibit"):
            one.read()


def test_other_files_are_no_exhibits(tmp_path):
    assert read_exhibits(tmp_path) == []
    folder = tmp_path / "exhibits" / "validation" / "texts"
    folder.mkdir(parents=True)
    for name in (".3.npz.1.tmp", "x.npz", "4.txt", "-1.npz"):
        (folder / name).write_text("")
    (tmp_path / "exhibits" / "file").write_text("")
    assert read_exhibits(tmp_path) == []
