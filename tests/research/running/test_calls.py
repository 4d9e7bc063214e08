"""`fit` and `run_sweep` leave the launcher's folder and return a `Run`, which any run's folder gives."""

import json
import os
import pathlib
import signal
import sys
import types

import numpy as np
import pytest
import toys
from command_line import files, launch, quickly, read, write_module

from research import ablation, fit, grid, open_run, run_sweep
from research.data import InMemory
from research.errors import RequestError
from research.inference import load
from research.models import MLP
from research.running.calls import _request, _whole
from research.running.notebook import NotebookProgress, progress_here
from research.running.prepared import prepare
from research.training.progress import Progress, TextProgress

SILENT = Progress()
SHALLOW = ablation({}, {"linear": {"model.widths": ()}}, name="two layers")


@pytest.fixture(autouse=True, scope="module")
def quick(tmp_path_factory):
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


def small(**changes):
    return toys.experiment(**({"steps": 6, "eval_every": 3, "log_every": 2} | changes))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A run of two variants with two seeds each."""
    folder = tmp_path_factory.mktemp("swept") / "widths"
    return run_sweep(small(), SHALLOW, seeds=2, stack="off", out=folder, progress=SILENT)


def scores(run, metric):
    """{variant: the metric of its trials}, read from the files."""
    found = {}
    for trial in read(run.folder / "sweep.json")["trials"]:
        result = read(run.folder / "trials" / trial["name"] / "result.json")
        found.setdefault(trial["variant"], []).append(result["metrics"][metric])
    return found


def test_a_call_leaves_the_files_of_the_command(swept, tmp_path):
    write_module(
        tmp_path / "mine.py",
        """
        import toys
        from research.sweep import ablation


        def experiment():
            return toys.experiment(steps=6, eval_every=3, log_every=2)


        def sweeps():
            return {"widths": ablation({}, {"linear": {"model.widths": ()}}, name="two layers")}
        """,
    )
    typed = ("run", tmp_path / "mine.py", "--sweep", "widths", "--seeds", "2", "--stack", "off", "--out")
    assert launch(*typed, tmp_path / "run").status == 0

    def names(folder):
        return {
            name for name in files(pathlib.Path(folder)) if "tensorboard" not in name and "/checkpoints/" not in name
        }

    assert names(swept.folder) == names(tmp_path / "run")
    of_command = open_run(tmp_path / "run")
    assert scores(of_command, "test/loss") == scores(swept, "test/loss")
    assert of_command.best().variant == swept.best().variant
    asked = [read(folder / "sweep.json") for folder in (swept.folder, tmp_path / "run")]
    assert asked[0]["trials"] == asked[1]["trials"] and asked[0].keys() == asked[1].keys()
    assert asked[0]["experiment"] == asked[0]["sweep"] == "widths"
    assert asked[0]["command"] == swept.result.command and swept.result.command.startswith("run_sweep in ")


def test_the_table_has_the_numbers_of_the_report(swept):
    pandas = pytest.importorskip("pandas", reason="the extra [test] installs pandas")
    table, written = swept.table(), pandas.read_csv(swept.folder / "report" / "table.csv", index_col="variant")
    shared = [name for name in table.columns if name in written.columns and name != "model.widths"]
    assert len(shared) > 15 and list(table.index) == ["two layers", "linear"]
    pandas.testing.assert_frame_equal(table[shared].astype(float), written[shared].astype(float))
    assert table["model.widths"].tolist() == [(16, 8), ()]
    assert written["model.widths"].tolist() == ["[16, 8]", "[]"]
    for variant, values in scores(swept, "test/loss").items():
        assert table.loc[variant, "test/loss mean"] == pytest.approx(np.mean(values))
        assert table.loc[variant, "test/loss n"] == 2
    gaps = np.subtract(scores(swept, "test/loss")["linear"], scores(swept, "test/loss")["two layers"])
    assert table.loc["linear", "test/loss difference"] == pytest.approx(gaps.mean())
    assert np.isnan(table.loc["two layers", "test/loss difference"])


def test_trials_and_curves_are_tidy(swept):
    pytest.importorskip("pandas", reason="the extra [test] installs pandas")
    trials, curves = swept.trials(), swept.curves()
    assert trials["seed"].tolist() == [0, 1, 0, 1] and set(trials["status"]) == {"finished"}
    assert trials["test/loss"].tolist() == [x for values in scores(swept, "test/loss").values() for x in values]
    logged = curves.query("trial == 'linear-s1' and split == 'train' and metric == 'loss'")
    lines = (swept.folder / "trials" / "linear-s1" / "metrics.jsonl").read_text().splitlines()
    train = [line for line in map(json.loads, lines) if line["split"] == "train"]
    assert logged["step"].tolist() == [line["step"] for line in train] == [2, 4, 6]
    assert logged["value"].tolist() == [line["loss"] for line in train]
    assert set(logged["variant"]) == {"linear"} and set(logged["seed"]) == {1}


def test_pandas_is_asked_for_in_one_line(swept, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for method in (swept.table, swept.trials, swept.curves):
        with pytest.raises(RequestError, match=r"needs pandas, .* pip install -e '.\[notebooks\]'$"):
            method()
    assert "test/accuracy" in repr(swept)


def test_the_best_is_chosen_as_the_task_declares(swept):
    for metric, choose in (("validation/loss", min), ("validation/accuracy", max)):
        means = {variant: np.mean(values) for variant, values in scores(swept, metric).items()}
        best = swept.best(metric)
        assert best.variant == choose(means, key=means.get)
        assert best.score.mean == pytest.approx(means[best.variant]) and best.score.n == 2
        assert best.hyperparameters == {"model.widths": () if best.variant == "linear" else (16, 8)}
        assert best.experiment.model.widths == best.hyperparameters["model.widths"]
        assert best.load().experiment == best.experiment


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("test/accuracy", "test/accuracy: the test split chooses nothing; "),
        ("validation/acuracy", "did you mean 'validation/accuracy'?"),
    ],
)
def test_what_cannot_choose_is_refused(swept, metric, said):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        swept.best(metric)
    assert said in str(error.value)


def test_a_model_is_loaded_by_variant_and_seed(swept):
    images = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    for opened in (swept, open_run(swept.folder)):
        mine = opened.load("linear", seed=1).predict(images)
        again = load(swept.folder, trial="linear-s1").predict(images)
        np.testing.assert_array_equal(mine["probability"], again["probability"])
    first = swept.load("linear").predict(images)["probability"]
    assert not np.array_equal(first, mine["probability"])
    np.testing.assert_array_equal(first, swept.load("linear", seed=0).predict(images)["probability"])
    for arguments, said in (
        ({}, "has 2 variants; name one: one of: linear, two layers"),
        ({"variant": "liner"}, "did you mean 'linear'?"),
        ({"variant": "linear", "seed": 7}, "linear has no seed 7; one of: 0, 1"),
    ):
        with pytest.raises(RequestError, match="^[^\n]+$") as error:
            swept.load(**arguments)
        assert said in str(error.value)


def test_the_same_call_trains_nothing_again_and_another_one_is_refused(swept):
    results = {name: x for name, x in files(pathlib.Path(swept.folder)).items() if name.endswith("result.json")}
    again = run_sweep(small(), SHALLOW, seeds=2, stack="off", out=swept.folder, progress=SILENT)
    assert {name: x for name, x in files(pathlib.Path(swept.folder)).items() if name.endswith("result.json")} == results
    assert again.best().score == swept.best().score
    with pytest.raises(RequestError, match="steps 6 became 7.*; choose another folder$"):
        run_sweep(small(steps=7), SHALLOW, seeds=2, out=swept.folder, progress=SILENT)
    with pytest.raises(RequestError, match="holds seeds=2, but seeds=3 was requested; choose another folder$"):
        run_sweep(small(), SHALLOW, seeds=3, out=swept.folder, progress=SILENT)


def test_figures_are_the_reports_own(swept, tmp_path):
    for picture in (swept.plot_scores(), swept.plot_curves("validation/loss"), swept.plot_curves()):
        assert "<svg" in picture._repr_svg_() and picture.caption
        picture.save(tmp_path / f"{picture.name}.pdf")
        assert (tmp_path / f"{picture.name}.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(RequestError, match="did you mean 'validation/loss'"):
        swept.plot_curves("validation/los")
    with pytest.raises(RequestError, match="varies no field in steps"):
        swept.plot_sweep()


def test_a_run_reads_well(swept):
    said = repr(swept)
    assert said.startswith(f"Run of {swept.folder}\n") and "linear" in said and "Against the baseline" in said
    page = swept._repr_html_()
    assert page.startswith('<div class="espalier">') and page.count("<tr>") == 3 and "two layers" in page
    assert "<h1>" not in page and ":root" not in page


def test_texts_are_texts_in_a_notebook_too(swept, monkeypatch):
    """Where rich would display a table instead of printing it."""
    said, table = repr(swept), str(small().summary())
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert repr(swept) == said and str(small().summary()) == table


def test_seeds_of_numpy_are_recorded_as_integers():
    assert json.dumps([_whole(np.arange(2)), _whole(np.int64(3)), _whole(range(2))]) == "[[0, 1], 3, [0, 1]]"


def test_a_refused_call_shows_nothing_in_a_notebook():
    display = Display()
    with pytest.raises(RequestError):
        fit(small(), out=__file__, progress=NotebookProgress(display))
    assert display.shown == []


# -- experiments of a notebook -----------------------------------------------------------------------------------------


def test_a_model_of_arrays_in_memory_predicts_elsewhere(tmp_path):
    generator = np.random.default_rng(0)
    image, label = generator.normal(size=(96, 4, 3)), np.arange(96, dtype=np.int32) % 3
    mine = small(data=InMemory({"image": image, "label": label}, validation=16))
    run = fit(mine, out=tmp_path / "run", progress=SILENT)
    assert run.experiment().data == mine.data
    other = open_run(tmp_path / "run")
    np.testing.assert_array_equal(run.load().predict(image[:4])["label"], other.load().predict(image[:4])["label"])
    with pytest.raises(RequestError, match="^InMemory: the arrays existed only in memory; build the experiment again"):
        other.experiment().load()
    assert other.experiment().data.describe() == mine.data.describe()
    with pytest.raises(RequestError, match="choose another folder"):
        fit(small(data=InMemory({"image": image + 1, "label": label}, validation=16)), out=tmp_path / "run")


def test_variants_that_choose_examples_of_arrays_in_memory_have_their_own(tmp_path):
    arrays = {"image": np.zeros((96, 4, 3), np.float32), "label": np.arange(96, dtype=np.int32) % 3}
    mine = small(data=InMemory(arrays, validation=16))
    asked = _request("run_sweep", mine, grid("data.train_examples", 32, 64), tmp_path / "run", None, ())
    assert [len(feeds.train.source) for feeds in prepare(asked).feeds.values()] == [32, 64]


def test_a_class_of_a_notebook_is_found_by_its_name(tmp_path, monkeypatch):
    class Mine(MLP):
        pass

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    fit(small(model=Mine(widths=(), classes=3)), out=tmp_path / "run", progress=SILENT)
    assert type(open_run(tmp_path / "run").experiment().model) is Mine
    monkeypatch.delattr(sys.modules["__main__"], "Mine")
    with pytest.raises(RequestError, match="^'Mine' was defined in the notebook or script that wrote this record: "):
        open_run(tmp_path / "run").load()


class Interrupting(Progress):
    """Presses Ctrl-C when training starts."""

    def start(self, step, total, trials):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_call_is_continued_by_the_same_call(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"^stopped at step \d; the same call continues from there$"):
        fit(small(steps=8, log_every=1), out=tmp_path / "run", progress=Interrupting())
    assert repr(open_run(tmp_path / "run")).endswith("No trial has finished yet.")
    with pytest.raises(RequestError, match="no trial has finished yet"):
        open_run(tmp_path / "run").best()
    whole = fit(small(steps=8, log_every=1), out=tmp_path / "whole", progress=SILENT)
    run = fit(small(steps=8, log_every=1), out=tmp_path / "run", progress=SILENT)
    assert scores(run, "test/loss") == scores(whole, "test/loss")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: fit("digits", out=out), "fit: the experiment is a str, not an Experiment"),
        (lambda out: run_sweep(small(), {"a": 1}, out=out), "sweep is a dict, not a Sweep; grid, product"),
        (lambda out: run_sweep(small(), grid("model.width", 3), out=out), "did you mean 'widths'"),
        (lambda out: run_sweep(small(), SHALLOW, out=out, stack="of"), "stack='of': did you mean 'off'?"),
        (lambda out: fit(small(), out=out, seeds=0), "seeds=0: expected at least 1"),
        (lambda out: fit(small(), out=out, seeds=[]), "seeds=[]: expected at least 1"),
        (lambda out: fit(small(), out=out, seeds=2.5), "seeds=2.5: "),
        (lambda out: fit(small(steps=0), out=out), "steps=0: expected at least 1"),
        (lambda out: fit(small(), out=__file__), "test_calls.py: a file, not a folder"),
        (lambda out: open_run(out), "no such folder"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(tmp_path, call, said):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        call(tmp_path / "run")
    assert said in str(error.value) and not (tmp_path / "run").exists()


# -- progress ----------------------------------------------------------------------------------------------------------


class Display:
    """IPython's `display`, as far as a display that changes needs it."""

    def __init__(self):
        self.shown, self.made = [], 0

    def __call__(self, bundle, *, raw, display_id):
        self.made += 1
        self.shown.append(bundle)
        return self

    def update(self, bundle, *, raw):
        self.shown.append(bundle)


def test_progress_in_a_notebook_is_one_display(tmp_path):
    display = Display()
    run = run_sweep(small(), SHALLOW, seeds=1, out=tmp_path / "run", stack="off", progress=NotebookProgress(display))
    assert display.made == 1 and len(display.shown) >= 3
    last = display.shown[-1]["text/plain"].splitlines()
    assert last[0].startswith(f"2 trials in {run.folder}") and len(last) == 3
    assert last[1].startswith("trial 1 of 2: two-layers-s0: step 6/6, loss ") and "; test loss " in last[1]
    assert "<progress" not in display.shown[-1]["text/html"]
    assert any(shown["text/plain"].endswith("\ntrial 2 of 2: compiling …") for shown in display.shown)
    assert any('max="6"' in shown["text/html"] for shown in display.shown)


def test_a_notebook_is_known_by_its_kernel(monkeypatch):
    assert type(progress_here()) is TextProgress
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    module.display = types.ModuleType("IPython.display")
    module.display.display = Display()
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    assert type(progress_here()) is NotebookProgress
    module.get_ipython = lambda: object()  # a terminal
    assert type(progress_here()) is TextProgress
