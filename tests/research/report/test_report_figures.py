"""The figures of a report, and their content."""

import itertools
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.report import curves, figures, landscape, names, settings, style
from research.report import table as tables
from research.report.read import read_run, read_runs
from research.report.runs import Curve, TrialResult

ABLATION = {"baseline": {}, "identity": {"model.activation": "identity"}}


def accuracy(variant, seed):
    return {"test/accuracy": 0.9 + 0.01 * seed + 0.0001 * len(variant)}


def grid(**axes):
    points = itertools.product(*axes.values())
    paths = [path.replace("__", ".") for path in axes]
    return {",".join(map(str, point)): dict(zip(paths, point, strict=True)) for point in points}


def pictures(folder):
    return {picture.name: picture for picture in figures.pictures(tables.build(read_runs([folder])))}


@pytest.mark.parametrize("metric", ["test/wer", "test/accuracy", "test/accuracy_shift_4", "test/calibration_error"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 100.0])
def test_the_two_panels_and_what_is_written_at_them_do_not_touch(make_run, metric, scale):
    values = {
        "max pooling": (0.812, 0.8186, 0.8097),
        "average pooling": (0.7965, 0.8009, 0.7955),
        "stride": (0.8133, 0.8152, 0.8122),
        "none": (0.7761, 0.776, 0.7759),
    }
    folder = make_run(
        variants={name: {"model.pool": name} for name in values},
        scores=lambda variant, seed: {metric: scale * values[variant][seed]},
        baseline="max pooling",
    )
    with style.paper():
        left, right = (axes.get_tightbbox() for axes in pictures(folder)["scores"].figure.axes)
    assert left.x1 < right.x0


def test_an_ablation_of_a_whole_and_of_its_parts_crosses_nothing(make_run):
    models = {"cnn": {"pool": "max", "wide": False}, "pool": {"pool": "average", "wide": False}}
    models |= {"wide": {"pool": "max", "wide": True}, "mlp": {"depth": 2}}
    asked = {
        "cnn": {},
        "pool": {"model.pool": "average"},
        "wide": {"model.wide": True},
        "mlp": {"model": models["mlp"]},
    }
    folder = make_run(variants=asked, scores=accuracy, baseline="cnn", seeds=(0,))
    for name, model in models.items():
        (folder / "trials" / f"{name}-s0" / "config.json").write_text(json.dumps({"model": model}))
    assert not {"parallel", "heatmap"} & set(pictures(folder))
    assert len(settings.axes_of(read_run(folder))) == 3


CURVES = ["curve-train-loss", "curve-validation-accuracy", "curve-validation-loss"]


@pytest.mark.parametrize(
    ("variants", "baseline", "expected"),
    [
        (ABLATION, "baseline", ["scores"]),
        ({"base": {}}, None, []),
        (grid(model__width=(8, 16, 32)), None, ["line", "line-test"]),
        (grid(model__width=(8, 16, 32)), "8", ["scores", "line"]),
        (grid(optimizer__learning_rate=(1e-4, 1e-3), model__width=(8, 16, 32)), None, ["heatmap", "heatmap-test"]),
        (grid(model__activation=("relu", "tanh"), model__width=(8, 16, 32)), None, ["heatmap", "heatmap-test"]),
        (
            {f"t{i}": {"optimizer.learning_rate": 0.1**i, "model.dropout": 0.1 * i} for i in range(5)},
            None,
            ["scatter", "scatter-test"],
        ),
        (grid(a=(1, 2), b=(0.1, 100.0), c=("x", "y"), d=(None, 3)), None, ["parallel", "parallel-test"]),
        ({"baseline": {}, "no a": {"a": 0}, "no b": {"b": 0}, "no c": {"c": 0}}, "baseline", ["scores"]),
    ],
    ids=[
        "ablation",
        "base",
        "line",
        "line-with-baseline",
        "heatmap",
        "categories",
        "scatter",
        "parallel",
        "one-at-a-time",
    ],
)
def test_the_figures_suit_the_sweep(make_run, variants, baseline, expected):
    folder = make_run(variants=variants, scores=accuracy, baseline=baseline, seeds=(0, 1), every=250)
    found = pictures(folder)
    assert [name for name in found if not name.startswith("curve-")] == expected
    assert sorted(name for name in found if name.startswith("curve-")) == CURVES
    for picture in found.values():
        assert picture.caption.endswith(".")


def test_a_heat_map_averages_seeds_and_marks_what_is_lost(make_run):
    variants = grid(optimizer__learning_rate=(1e-4, 1e-3, 1e-2), optimizer__weight_decay=(0.0, 0.1))
    lost = {f"0.01,0.1-s{seed}": "diverged" for seed in range(3)} | {"0.001,0.0-s1": "failed"}
    folder = make_run(
        variants=variants, scores=lambda variant, seed: {"test/accuracy": 0.5 + 0.1 * seed}, baseline=None, ends=lost
    )
    name, figure, caption = landscape.draw(read_run(folder), "test/accuracy")
    assert name == "heatmap"
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("0.600") == 4
    assert "0.600\n2 of 3" in texts
    assert "×" in texts
    assert "× diverged" in caption
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1e-4", "1e-3", "1e-2"]
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (2, 3)
    assert np.ma.count_masked(np.ma.masked_invalid(shown)) == 1


def test_axes_are_logarithmic_where_values_span_more_than_ten(make_run):
    variants = grid(a=(1e-4, 1e-3, 1e-2), b=(1, 2, 10), c=("x", "y"), d=(True, False))
    axes = settings.axes_of(read_run(make_run(variants=variants, scores=accuracy, baseline=None, seeds=(0,))))
    assert [axis.path for axis in axes] == ["a", "b", "c", "d"]
    assert [axis.logarithmic for axis in axes] == [True, False, False, False]
    assert [axis.numeric for axis in axes] == [True, True, False, False]


def test_a_value_that_is_not_overridden_comes_from_the_config(make_run):
    """model.depth is 2 in the config.json that `make_run` writes."""
    variants = {"baseline": {}, "4": {"model.depth": 4}, "8": {"model.depth": 8}}
    (axis,) = settings.axes_of(read_run(make_run(variants=variants, scores=accuracy)))
    assert axis.values == (2, 4, 8)


def test_a_sweep_over_splits_has_no_axis_for_them(make_run):
    folder = make_run(variants=grid(model__width=(8, 16)), scores=accuracy, baseline=None, splits=(1, 2, 3))
    assert [axis.path for axis in settings.axes_of(read_run(folder))] == ["model.width"]


def test_curves_are_averaged_where_all_seeds_have_them():
    first = Curve(np.array([0, 100, 200]), np.array([1.0, 2.0, 3.0]))
    second = Curve(np.array([0, 50, 100]), np.array([3.0, 3.0, 4.0]))
    steps, values = curves.over_seeds([first, second])
    np.testing.assert_array_equal(steps, [0, 50, 100, 200])
    np.testing.assert_array_equal(values, [[1, 1.5, 2, 3], [3, 3, 4, np.nan]])


@hypothesis.settings(deadline=None)
@given(st.integers(1, 2000))
def test_thinning_keeps_the_mean(points):
    curve = Curve(np.arange(points), np.linspace(0, 1, points) ** 2)
    thin = curves.thinned(curve)
    assert thin.steps.size <= curves.POINTS
    width = -(-points // curves.POINTS)
    count = np.full(thin.steps.size, width)
    count[-1] = points - width * (thin.steps.size - 1)
    np.testing.assert_allclose((thin.values * count).sum(), curve.values.sum())


def trial(status, values, name="a-s0"):
    curve = Curve(np.arange(len(values)), np.asarray(values, float))
    return TrialResult(name, "a", 0, status=status, curves={("train", "loss"): curve})


def draw(*trials, split="train", metric="loss", way="min"):
    line = curves.Line("a", "a", trials, "#000000")
    with style.paper():
        return curves.draw([line], split, metric, way), curves.caption([line], split, metric)


def test_a_diverged_trial_is_marked_and_leaves_the_axis_alone():
    figure, caption = draw(trial("finished", [3, 2, 1]), trial("diverged", [3, 2, 1e30], "a-s1"))
    (axes,) = figure.axes
    assert axes.get_ylim()[1] < 4
    marks = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(marks) == 1
    assert marks[0].get_xdata()[0] == 2
    assert "n = 1" in caption
    assert "× (diverged)" in caption


def test_the_band_is_the_range_of_the_seeds():
    figure, caption = draw(trial("finished", [3, 2, 1]), trial("finished", [5, 3, 2], "a-s1"))
    (band,) = figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (1, 5)
    assert "minimum and maximum" in caption


def test_an_error_that_falls_far_has_a_logarithmic_axis():
    figure, _ = draw(trial("finished", 3 * 0.9 ** np.arange(60)))
    assert figure.axes[0].get_yscale() == "log"
    figure, _ = draw(trial("finished", [3, 2, 1]))
    assert figure.axes[0].get_yscale() == "linear"


def test_nothing_logged_is_no_figure():
    assert draw(trial("finished", [1, 2]), split="validation")[0] is None
    figure, _ = draw(trial("diverged", [np.nan, np.nan]))
    assert figure is not None


def test_many_variants_are_grey_but_for_the_best_and_the_baseline(make_run):
    variants = {"baseline": {}} | {f"v{i:02d}": {"model.name": f"v{i:02d}"} for i in range(20)}

    def scores(variant, seed):
        return {"test/error": 0.9 if variant == "baseline" else 0.01 * int(variant[1:])}

    folder = make_run(variants=variants, scores=scores, seeds=(0,), every=500)
    lines = figures._lines(tables.build(read_runs([folder])))
    assert [line.name for line in lines if not line.grey] == ["baseline", *(f"v{i:02d}" for i in range(7))]
    assert "13 of 21 variants are grey" in curves.caption(lines, "train", "loss")
    axes = curves.draw(lines, "train", "loss").axes[0]
    together = next(line for line in axes.lines if np.isnan(line.get_ydata()).any())  # all grey ones, not joined up
    assert np.isnan(together.get_ydata()).sum() == np.isnan(together.get_xdata()).sum() == 13


def test_pruned_variants_are_not_named_beside_finished_ones(make_run):
    variants = grid(optimizer__learning_rate=(1e-4, 1e-3, 1e-2, 1e-1), optimizer__weight_decay=(0.0, 0.1, 0.2))
    ends = {f"{name}-s0": {"pruned_at_step": 500, "metrics": {}} for name in variants if not name.startswith("0.001")}
    folder = make_run(variants=variants, scores=accuracy, seeds=(0,), ends=ends, baseline=None, every=500)
    lines = figures._lines(tables.build(read_runs([folder])))
    assert [line.name for line in lines if not line.grey] == ["0.001,0.0", "0.001,0.1", "0.001,0.2"]


def test_long_names_are_abbreviated_and_the_caption_says_how(make_run):
    variants = {f"learning_rate={x},weight_decay={y}": {"a": x, "b": y} for x in (1e-3, 3e-3) for y in (0.1, 0.2)}
    folder = make_run(variants=variants, scores=accuracy, every=500, baseline=None, seeds=(0,))
    caption = pictures(folder)["curve-train-loss"].caption
    assert caption.endswith(" lr: learning_rate, wd: weight_decay.")


@hypothesis.settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-c]{1,3}(_[a-c]{1,3}){0,2}=[0-9]{1,20}", fullmatch=True), min_size=1, unique=True))
def test_labels_stay_apart(given_names):
    labels, initials = names.shortened(given_names)
    assert list(labels) == given_names
    assert len(set(labels.values())) == len(labels)
    assert len(set(initials.values())) == len(initials)


def test_names_that_fit_are_left_alone():
    assert names.shortened(["a_b=1", "c"]) == ({"a_b=1": "a_b=1", "c": "c"}, {})
    ambiguous = [f"weight_decay={'1' * 20}", f"warmup_duration={'1' * 20}"]
    labels, initials = names.shortened(ambiguous)
    assert initials == {}
    assert all(len(label) <= names.LIMIT for label in labels.values())


def test_colours_are_told_apart():
    names = [f"v{i}" for i in range(10)]
    assert len(set(style.colors(names, ["v3"]).values())) == 10
    assert style.colors(names, ["v3"])["v3"] == style.BASELINE


@hypothesis.settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.3))
def test_labels_keep_their_order_and_their_distance(wanted, gap):
    placed = style.spread(wanted, gap, 0.0, 1.0)
    room = min(gap, 1 / max(len(wanted) - 1, 1))
    order = np.argsort(wanted, kind="stable")
    assert min(placed) >= -1e-9
    assert max(placed) <= 1 + 1e-9
    assert all(np.diff(np.asarray(placed)[order]) >= room - 1e-9)


def test_labels_with_room_stay_where_they_belong():
    assert style.spread([0.9, 0.1, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.9, 0.1, 0.5])


def test_hostile_names_are_drawn_as_they_stand(make_run):
    variants = {"baseline": {}, "$x_{1$ \\frac": {"model.name": "$y_"}, "a$b$c": {"model.name": "%&\\"}}
    for picture in pictures(make_run(variants=variants, scores=accuracy, seeds=(0, 1), every=500)).values():
        assert picture.png().startswith(b"\x89PNG")


def test_the_same_figure_is_the_same_bytes(make_run):
    folder = make_run(variants=ABLATION, scores=accuracy, every=500)
    first, second = pictures(folder)["scores"], pictures(folder)["scores"]
    assert first.png() == second.png()
    assert first.svg() == second.svg()


def test_settings_of_the_caller_are_untouched(make_run):
    import matplotlib

    before = dict(matplotlib.rcParams)
    pictures(make_run(variants=ABLATION, scores=accuracy, every=500))
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    figure = style.new_figure(1, 1)
    style.save(figure, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    style.save(figure, tmp_path / "b")
    assert (tmp_path / "b").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="xyz"):
        style.save(figure, tmp_path / "a.xyz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b"]


def test_where_nothing_is_chosen_nothing_is_marked(make_run):
    folder = make_run(variants=grid(model__width=(8, 16, 32)), scores=accuracy, baseline=None, validation=False)
    name, figure, caption = landscape.draw(read_run(folder), "test/accuracy")
    assert name == "line" and "circled" not in caption
    low, high = figure.axes[0].get_ylim()
    assert 0.8 < low < high < 1
