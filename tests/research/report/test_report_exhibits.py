"""Exhibits in a report: the selection of variants and steps, and damaged files."""

import numpy as np
import pytest

from research.evaluation.exhibit_files import write_exhibits
from research.evaluation.exhibits import (
    Boxes,
    ConfusionMatrix,
    Curves,
    ImageGrid,
    ImagePairs,
    Images,
    Reliability,
    TextPairs,
)
from research.report import exhibit_figures, exhibits, figures, read_table, report, style

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (20, 6, 5, 3), np.uint8)
VARIANTS = {"a": {"model.name": "a"}, "b": {"model.name": "b"}, "c/c": {"model.name": "c"}, "c-c": {"model.name": "d"}}


def scores(variant, seed):
    return {"test/accuracy": 0.5 + 0.1 * list(VARIANTS).index(variant)}


@pytest.fixture
def folder(make_run):
    return make_run(variants=VARIANTS, scores=scores, baseline="a", seeds=(0, 1), every=500)


def texts(written):
    return TextPairs(reference=["the <b> cat"], written=[written], source=["die Katze"])


def trial_of(folder, variant, seed=0):
    return folder / "trials" / f"{variant}-s{seed}"


def draw(*folders):
    return exhibits.draw(read_table(folders))


def test_the_newest_step_is_drawn_and_images_over_training(folder):
    for step in range(100, 1100, 100):
        write_exhibits(trial_of(folder, "b"), "validation", step, {"samples": Images(PICTURES)})
    (section,) = draw(folder)
    assert section.title == "b (b-s0)"
    assert [picture.name for picture in section.pictures] == [
        "exhibit-b-validation-samples",
        "exhibit-b-validation-samples-steps",
    ]
    newest, history = section.pictures
    assert newest.caption == "validation samples, step 1,000: 20 images."
    rows = [label.get_text() for label in history.figure.axes[0].get_yticklabels()]
    assert rows == ["step 100", "step 200", "step 500", "step 1,000"]
    assert all(figures.is_figure(f"{picture.name}.png") for picture in section.pictures)


def test_the_baseline_comes_first_and_then_the_best_by_validation(folder, monkeypatch):
    for variant in ("a", "b", "c-c"):
        write_exhibits(trial_of(folder, variant), "test", 9, {"x": ConfusionMatrix(np.eye(2, dtype=int))})
    assert [section.title.split()[0] for section in draw(folder)] == ["a", "c-c", "b"]
    monkeypatch.setattr(exhibits, "VARIANTS", 2)
    assert [section.title.split()[0] for section in draw(folder)] == ["a", "c-c"]


def test_of_figures_that_look_alike_that_of_the_test_split_is_shown(folder):
    matrix = ConfusionMatrix(np.eye(2, dtype=int))
    for step in (3, 9):
        for evaluation in ("validation", "test", "shifted"):
            write_exhibits(trial_of(folder, "b"), evaluation, step, {"x": matrix, "samples": Images(PICTURES)})
    write_exhibits(trial_of(folder, "b"), "validation", 9, {"y": matrix})
    (section,) = draw(folder)
    own = [picture.name.removeprefix("exhibit-b-") for picture in section.pictures]
    assert {name for name in own if "samples" not in name} == {"test-x", "shifted-x", "validation-y"}
    assert "validation-samples-steps" in own


def test_a_variant_is_shown_by_the_first_trial_that_has_exhibits(folder):
    write_exhibits(trial_of(folder, "b", 1), "test", 9, {"x": Images(PICTURES)})
    assert [section.title for section in draw(folder)] == ["b (b-s1)"]


def test_pictures_of_variants_whose_names_are_alike_as_files_stay_apart(make_run):
    folder = make_run(variants=VARIANTS, scores=scores, baseline="a", seeds=(0,))
    for trial in (folder / "trials").iterdir():
        write_exhibits(trial, "test", 9, {"x": Images(PICTURES)})
    for trial in (folder / "trials").glob("c/*"):
        write_exhibits(trial, "test", 9, {"x": Images(PICTURES)})
    names = [picture.name for section in draw(folder) for picture in section.pictures]
    assert sorted(names) == ["exhibit-a-test-x", "exhibit-b-test-x", "exhibit-c-c-test-x", "exhibit-c-c-test-x-2"]


def test_texts_are_a_table_with_what_differs_marked(folder):
    for step, written in ((1, "dog"), (2, "the <b> dog & cat")):
        write_exhibits(trial_of(folder, "b"), "validation", step, {"texts": texts(written)})
    (section,) = draw(folder)
    assert section.pictures == ()
    (table,) = section.tables
    assert "written at step 2" in table and "die Katze" in table
    assert "the &lt;b&gt; <mark>dog &amp;</mark> cat" in table
    assert "step 1: <mark>dog</mark>" in table
    assert "<b>" not in table


def test_a_damaged_file_is_a_remark(folder):
    write_exhibits(trial_of(folder, "b"), "test", 1, {"x": Images(PICTURES)})
    write_exhibits(trial_of(folder, "b"), "test", 2, {"x": Images(PICTURES)})
    (trial_of(folder, "b") / "exhibits/test/x/2.npz").write_bytes(b"PK")
    (section,) = draw(folder)
    assert [picture.caption for picture in section.pictures] == ["test x, step 1: 20 images."]
    assert "2.npz: no exhibit" in section.remarks[0]
    page = report([folder]).html.read_text()
    assert "<h2>Exhibits</h2>" in page and "2.npz: no exhibit" in page
    assert (folder / "report/exhibit-b-test-x.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_exhibits_has_no_section(folder):
    assert draw(folder) == []
    assert "<h2>Exhibits" not in report([folder]).html.read_text()


# Kinds --------------------------------------------------------------------------------------------


def drawn(exhibit):
    with style.paper():
        return exhibit_figures.draw(exhibit)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_confusion_matrix_has_the_names_and_the_numbers_of_its_classes():
    figure, said = drawn(ConfusionMatrix([[5, 1], [0, 4]], class_names=["cat", "dog"]))
    (axes,) = figure.axes
    assert labels(axes.xaxis) == labels(axes.yaxis) == ["cat", "dog"]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "4", "5"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[5 / 6, 1 / 6], [0, 1]])
    assert said.endswith("most often confused: cat as dog (17%)")
    assert drawn(ConfusionMatrix(np.eye(2, dtype=int)))[1].endswith("none confused")
    figure, _ = drawn(ConfusionMatrix(np.eye(50, dtype=int)))
    assert labels(figure.axes[0].xaxis) == [] and not figure.axes[0].texts


def test_a_reliability_diagram_says_its_calibration_error():
    figure, said = drawn(Reliability([0.2, np.nan, 0.9], [0.5, np.nan, 0.8], [1, 0, 3]))
    assert "calibration error 0.15" in said
    bars = [bar.get_height() for bar in figure.axes[0].patches]
    assert bars == [0.5, 0.8]


def test_curves_have_named_axes_and_a_legend():
    figure, _ = drawn(Curves([[0, 1, np.nan]] * 2, [[1, 0.5, np.nan]] * 2, ["a", "b"], "recall", "precision"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert axes.lines[0].get_xdata().tolist() == [0, 1]


def test_boxes_that_are_padding_are_not_drawn():
    boxes = np.array([[[1, 1, 3, 3], [0, 0, 0, 0]]] * 2, float)
    truth = {"true_boxes": boxes, "true_labels": np.array([[0, -1]] * 2)}
    shown = Boxes(
        PICTURES[:2], boxes, np.array([[1, -1]] * 2), scores=np.full((2, 2), 0.5), class_names=["a", "b"], **truth
    )
    figure, said = drawn(shown)
    assert [len(axes.patches) for axes in figure.axes] == [2, 2]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["b 0.50"] * 2
    assert "dashed" in said


def test_images_lie_apart_in_a_mosaic_with_their_names():
    figure, _ = drawn(ImageGrid(PICTURES[:6].reshape(2, 3, 6, 5, 3), row_names=["x", "y"], column_names=list("abc")))
    (axes,) = figure.axes
    assert labels(axes.yaxis) == ["x", "y"] and labels(axes.xaxis) == ["a", "b", "c"]
    whole = axes.images[0].get_array()
    assert whole.shape == (2 * 6 + 1, 3 * 5 + 2, 3)
    np.testing.assert_array_equal(whole[7:, 12:], PICTURES[5])
    assert (whole[6] == 255).all()


def test_pairs_of_different_sizes_share_a_size_and_captions_stand_below():
    figure, said = drawn(ImagePairs(PICTURES[:, ::2], PICTURES, captions=[f"{i}" for i in range(20)]))
    (axes,) = figure.axes
    assert labels(axes.yaxis) == ["input", "output"]
    assert [text.get_text() for text in axes.texts][8:] == list("01234567")
    assert said == "8 of 20 pairs"


def test_large_images_are_thinned():
    figure, _ = drawn(Images(np.zeros((2, 2000, 2000, 1), np.uint8)))
    assert max(figure.axes[0].images[0].get_array().shape) <= 2100
