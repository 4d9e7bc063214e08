"""Uses of a finished run: predictions from its folder, evaluation, and initial parameters for other runs."""

import dataclasses
import hashlib
import json
import re
import shutil

import jax
import numpy as np
import PIL.Image
import pytest
import toys
from command_line import files, launch, lines, quickly, read, refused, state, write_module

from research.config.brief import brief
from research.config.serialization import stable_hash
from research.data.sources import Classes, ImageFolder, Sklearn
from research.data.transforms import Scale, Standardize
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import Predictor, load
from research.models.mlp import MLP
from research.tasks import Classification
from research.tasks.randomness import per_example
from research.training.checkpoints import Checkpoints, Store
from research.training.folder import read_experiment, read_variables

MODULE = """
    import dataclasses

    import toys
    from research.training.checkpoints import Checkpoints
    from research.data.transforms import Scale, Standardize
    from research.sweep import grid


    def experiment():
        return toys.experiment(
            steps=12,
            eval_every=4,
            eval_batch_size=16,
            preprocess=(Scale("image", 0.5), Standardize("image")),
            checkpoints=Checkpoints(best="validation/loss", keep=3),
        )


    def sweeps():
        return {"rates": grid("optimizer.learning_rate", 1e-3, 1e-2)}
    """


@pytest.fixture(autouse=True, scope="module")
def quick(tmp_path_factory):
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return write_module(tmp_path_factory.mktemp("module") / "mine.py", MODULE)


@pytest.fixture(scope="module")
def run(module):
    folder = module.parent / "run"
    assert launch("run", module, "--set", "ema_decay=0.5", "--out", folder).status == 0
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).normal(size=(37, 4, 3)).astype(np.float32)


def test_three_lines(run, images):
    predict = load(run).predict
    predicted = predict(images)

    experiment = read_experiment(run / "trials" / "base-s0")
    best = read(run / "trials" / "base-s0" / "result.json")["best_step"]
    saved = state(run / "trials" / "base-s0", best)
    (mean, std) = experiment.preprocess[1].mean, experiment.preprocess[1].std
    logits = experiment.model.apply(saved["ema"], (images * 0.5 - mean) / std)
    np.testing.assert_array_equal(predicted["label"], np.argmax(logits, -1))
    np.testing.assert_allclose(predicted["probability"], jax.nn.softmax(logits), rtol=1e-5)
    assert len(set(predicted["label"])) > 1


def test_the_experiment_is_read_back_as_it_was_resolved(run):
    folder = run / "trials" / "base-s0"
    experiment = read_experiment(folder)
    assert isinstance(experiment, Experiment) and experiment.model == MLP(widths=(16, 8), classes=3)
    scale, standardize = experiment.preprocess
    assert scale == Scale("image", 0.5) and isinstance(standardize, Standardize) and len(standardize.mean) == 3
    assert stable_hash(experiment) == read(folder / "config.json")["hash"]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32])
def test_predictions_do_not_depend_on_how_many_are_asked_for(run, images, count):
    predictor = load(run)
    assert predictor.experiment.eval_batch_size == 16
    whole, part = predictor.predict(images), predictor.predict(images[:count])
    assert len(part["label"]) == count
    np.testing.assert_allclose(part["probability"], whole["probability"][:count], rtol=1e-5)


def test_what_can_be_given(run, images):
    predict = load(run / "trials" / "base-s0").predict
    expected = predict(images)["probability"]
    for given in ({"image": images}, {"image": images.astype(np.float64)}, jax.numpy.asarray(images)):
        np.testing.assert_allclose(predict(given)["probability"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([[1.0]], "expected a dict of arrays"),
        ({"image": np.array(["a", "b"])}, "'image' is text"),
        ({"image": np.zeros((3, 4, 3)), "label": np.zeros(2)}, "the numbers of examples differ"),
        ({"imgae": np.zeros((3, 4, 3))}, "no column 'image'; did you mean 'imgae'?"),
        ({"image": np.zeros((0, 4, 3))}, "at least one example"),
        (np.float32(3), "no axis of examples"),
    ],
)
def test_what_cannot_be_given_is_one_line(run, given, says):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        load(run).predict(given)
    assert says in str(error.value)


def test_arrays_are_given_to_a_model_of_image_files():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    model = MLP(widths=(8,), classes=3)
    preprocess = (Scale("image", 1 / 255),)
    experiment = toys.experiment(model=model, data=ImageFolder("gone", size=(4, 5)), preprocess=preprocess)
    predict = Predictor(experiment, model.init(jax.random.key(0), np.zeros((1, 4, 5, 3), np.float32))).predict
    expected = predict([PIL.Image.fromarray(image) for image in images])["probability"]
    for given in (images, {"image": images}, jax.numpy.asarray(images), list(images)):
        np.testing.assert_array_equal(predict(given)["probability"], expected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws(Classification):
    """Predicts a random number drawn with the example's key."""

    def predict(self, apply, batch):
        return {"drawn": per_example(batch["key"], 0, jax.random.uniform)}


def test_what_is_drawn_depends_on_the_seed_and_the_example_alone(images):
    def drawn(size, seed=0):
        experiment = toys.experiment(task=Draws(classes=3), eval_batch_size=size)
        return Predictor(experiment, {}).predict(images, seed=seed)["drawn"]

    first = drawn(37)
    assert len(set(first.tolist())) == 37
    for size in (1, 7, 64):
        np.testing.assert_array_equal(drawn(size), first)
    assert not np.isin(drawn(37, seed=1), first).any()
    with pytest.raises(RequestError, match="seed=-1: expected 0 to 4294967295"):
        drawn(37, seed=-1)


class OfTable(Classification):
    """Classifies rows of a shared table."""

    def inputs(self, batch):
        return {"x": batch["shared"]["table"][batch["row"]]}


def test_shared_columns_are_whole_in_every_batch():
    table, rows = np.random.default_rng(0).normal(size=(9, 12)).astype(np.float32), np.arange(9)[::-1]
    plain = toys.experiment(eval_batch_size=4)
    variables = plain.model.init(jax.random.key(0), table)
    of_table = Predictor(dataclasses.replace(plain, task=OfTable(classes=3, input="row")), variables)
    given = {"shared": {"table": table}, "row": rows}
    expected = Predictor(plain, variables).predict(table.reshape(9, 4, 3)[rows])["probability"]
    np.testing.assert_allclose(of_table.predict(given)["probability"], expected, rtol=1e-5)
    np.testing.assert_array_equal(of_table.inputs(given)["x"], table[rows])
    with pytest.raises(RequestError, match="'shared': expected a dict of arrays, got ndarray"):
        of_table.predict({"shared": table, "row": rows})


def test_classes_are_named_where_the_data_name_them():
    iris = Sklearn("iris")
    iris = iris.fit(iris.load().train)
    model = MLP(widths=(8,), classes=3)
    variables = model.init(jax.random.key(0), np.zeros((1, 4), np.float32))
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)

    def names(data):
        task = Classification(classes=3, input="features")
        predicted = Predictor(toys.experiment(model=model, data=data, task=task), variables).predict(rows)
        return predicted["label"], predicted.get("class_name")

    label, named = names(iris)
    assert len(set(label)) > 1
    np.testing.assert_array_equal(named, np.array(["setosa", "versicolor", "virginica"])[label])
    _, kept = names(Classes(iris, keep=(2, 0)))
    np.testing.assert_array_equal(kept, np.array(["virginica", "setosa", ""])[label])
    assert names(Classes(Sklearn("iris"), keep=(2, 0)))[1] is None


def test_what_is_loaded_says_what_it_is(run):
    said = repr(load(run))
    best = read(run / "trials" / "base-s0" / "result.json")["best_step"]
    assert said.splitlines() == [
        "Predictor",
        "  model MLP(widths=(16, 8), classes=3), 371 parameters",
        "  task  Classification(classes=3)",
        f"  data  {brief(read_experiment(run / 'trials' / 'base-s0').data)}",
        f"  from  {run / 'trials' / 'base-s0'}, step {best}",
    ]


def test_a_step_may_be_chosen(run, images):
    steps = [4, 8, 12]
    found = [load(run, step=step).predict(images)["probability"] for step in steps]
    assert not np.allclose(found[0], found[2])
    with pytest.raises(RequestError, match=r"step=5: .* has checkpoints of the steps \[4, 8, 12\]"):
        load(run, step=5)


def test_a_trial_may_have_to_be_chosen(module, tmp_path, images):
    assert launch("run", module, "--sweep", "rates", "--set", "steps=8", "--out", tmp_path / "run").status == 0
    one, other = sorted(p.name for p in (tmp_path / "run" / "trials").iterdir())
    found = [load(tmp_path / "run", trial=name).predict(images)["probability"] for name in (one, other)]
    assert not np.allclose(*found)
    with pytest.raises(RequestError, match=f"holds 2 trials; trial: one of: {one}, {other}"):
        load(tmp_path / "run")
    with pytest.raises(RequestError, match=f"trial='learning_rate=0.1-s0': did you mean '{other}'"):
        load(tmp_path / "run", trial="learning_rate=0.1-s0")


def test_loading_changes_nothing(run, images):
    before = files(run)
    load(run).predict(images)
    assert files(run) == before


@pytest.mark.parametrize("missing", ["run", "config.json", "checkpoints"])
def test_what_is_not_there_is_one_line(run, tmp_path, missing):
    folder = tmp_path / "run"
    if missing != "run":
        shutil.copytree(run / "trials" / "base-s0", folder)
        target = folder / missing
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(RequestError, match="no run there" if missing != "checkpoints" else "no checkpoint in it"):
        load(folder)


# -- evaluating a finished run -----------------------------------------------------------------------------------------


def test_eval_gives_the_numbers_of_the_result(run):
    outcome = launch("eval", run)
    assert outcome.status == 0 and outcome.err == ""
    metrics = read(run / "trials" / "base-s0" / "result.json")["metrics"]
    expected = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items() if name.startswith("test/"))
    assert outcome.out == f"base-s0: {expected}\n"


def test_eval_on_another_split_and_of_one_trial(run):
    trial = run / "trials" / "base-s0"
    best = read(trial / "result.json")["best_step"]
    outcome = launch("eval", trial, "--split", "validation")
    assert outcome.status == 0 and outcome.out.startswith("base-s0: validation/loss ")
    (logged,) = [record for record in lines(trial, "validation") if record["step"] == best]
    assert f"validation/loss {logged['loss']:.6g}," in outcome.out
    assert launch("eval", run, "--split", "train").out.startswith("base-s0: train/loss ")


def test_eval_with_another_setting_scores_the_same_parameters_by_it(run):
    score = lambda *settings: launch("eval", run, *settings).out  # noqa: E731
    assert "top_2_accuracy" in score("--set", "task.top_k=2,")
    first, again = score("--set", "task.calibration_bins=3"), score()
    assert first.split(", test/calibration_error ")[0] == again.split(", test/calibration_error ")[0]
    assert first != again


def test_eval_gives_the_mean_of_the_seeds_of_a_variant(module, tmp_path):
    run = tmp_path / "run"
    assert launch("run", module, "--seeds", "2", "--set", "steps=8", "--out", run).status == 0
    mean = launch("eval", run).out.splitlines()[-1]
    losses = [read(trial / "result.json")["metrics"]["test/loss"] for trial in (run / "trials").iterdir()]
    assert mean.startswith(f"base: test/loss {np.mean(losses):.6g} ± {np.std(losses, ddof=1):.2g} (2), ")


def test_eval_scores_the_others_where_one_cannot_be(module, tmp_path):
    run = tmp_path / "run"
    assert launch("run", module, "--sweep", "rates", "--set", "steps=8", "--out", run).status == 0
    one, other = sorted((run / "trials").iterdir())
    shutil.rmtree(one / "checkpoints")
    outcome = launch("eval", run)
    assert outcome.status == 1
    assert outcome.out.startswith(f"{other.name}: test/loss ") and outcome.out.count("\n") == 1
    assert outcome.err == f"{one.name}: {one}: no checkpoint in it yet\n"


# -- runs of others ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["task", "optimizer", "extra"])
def test_nothing_of_theirs_is_executed_unless_it_is_trusted(run, module, part, tmp_path):
    theirs, mark, code = tmp_path / "theirs", tmp_path / "executed", tmp_path / "code.py"
    shutil.copytree(run, theirs)
    code.write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    config = theirs / "trials" / "base-s0" / "config.json"
    record = read(config)
    evil = {"_type": f"file:{code}:Evil", "_sha256": hashlib.sha256(code.read_bytes()).hexdigest()}
    if part == "extra":
        record["experiment"]["preprocess"] = [{"anything": [evil]}]
    else:
        record["experiment"][part] = evil
    text = json.dumps(record["experiment"], sort_keys=True, separators=(",", ":"))
    config.write_text(json.dumps(record | {"hash": hashlib.sha256(text.encode()).hexdigest()[:12]}))
    for file in ("sweep.json", "trials/base-s0/result.json"):
        (theirs / file).write_text(json.dumps(read(theirs / file) | {"experiment": f"file:{code}", "extra": evil}))

    line = f"{code}: not of this project, and this record would run its code for 'Evil'"
    with pytest.raises(RequestError, match=re.escape(line)):
        load(theirs)
    assert refused(["eval", theirs]).startswith(f"error: {line}")
    assert launch("report", theirs, "--inside").status == 0
    begun = launch("run", module, "--set", "steps=8", "--set", f"init_from={theirs}", "--out", tmp_path / "begun")
    assert begun.status == 0, begun.err
    assert not mark.exists()
    assert refused(["eval", theirs, "--trust"]) and mark.exists()


# -- initialising from a run -------------------------------------------------------------------------------------------


def first_state(module, folder, *settings):
    """Returns the initial state of a run, from a run of one step whose learning rate changes nothing."""
    arguments = [
        part for setting in (*settings, "steps=1", "optimizer.learning_rate=1e-30") for part in ("--set", setting)
    ]
    no_warmup = ["--set", "optimizer.schedule.warmup_steps=0", "--set", "checkpoints.best=none"]
    outcome = launch("run", module, *arguments, *no_warmup, "--out", folder)
    assert outcome.status == 0, outcome
    (trial,) = (folder / "trials").iterdir()
    return state(trial)


def test_init_from_starts_from_the_parameters_that_were_scored(run, module, tmp_path):
    saved = read_variables(run / "trials" / "base-s0")
    best = read(run / "trials" / "base-s0" / "result.json")["best_step"]
    averaged = state(run / "trials" / "base-s0", best)["ema"]["params"]
    jax.tree.map(np.testing.assert_array_equal, saved["params"], averaged)
    found = first_state(module, tmp_path / "new", f"init_from={run}", "seed=9", "ema_decay=0.9")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found["params"], averaged)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found["ema"]["params"], averaged)
    assert found["step"] == 1


def test_checkpoints_that_average_the_parameters_alone_are_read(tmp_path):
    params, average = ({"head": {"kernel": np.full((2, 3), x, np.float32)}} for x in (1, 2))
    statistics = {"norm": {"mean": np.arange(3, dtype=np.float32)}}
    store = Store(tmp_path / "checkpoints", Checkpoints())
    store.save(5, {"params": params, "collections": {"batch_stats": statistics}, "ema": average})
    store.close()
    read_back = read_variables(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, read_back, {"params": average, "batch_stats": statistics})


@pytest.mark.parametrize("stack", ["on", "off"])
def test_init_from_in_a_sweep(run, module, tmp_path, stack):
    settings = ("--set", f"init_from={run}", "--set", "steps=5", "--set", "checkpoints.best=none")
    folder = tmp_path / "new"
    assert launch("run", module, "--sweep", "rates", "--stack", stack, *settings, "--out", folder).status == 0
    for trial in (folder / "trials").iterdir():
        first = state(trial)["params"]["Dense_0"]["kernel"]
        given = read_variables(run / "trials" / "base-s0")["params"]["Dense_0"]["kernel"]
        assert 0 < np.abs(first - given).max() < 0.1


def test_init_skip_keeps_what_is_fresh(run, module, tmp_path):
    saved = read_variables(run / "trials" / "base-s0")["params"]
    classes = ("model.classes=4", "task.classes=4")
    fresh = first_state(module, tmp_path / "fresh", *classes, "seed=9")["params"]
    found = first_state(module, tmp_path / "new", *classes, "seed=9", f"init_from={run}", "init_skip=params/Dense_2/*")[
        "params"
    ]
    for name in ("Dense_0", "Dense_1"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found[name], saved[name])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-20), found["Dense_2"], fresh["Dense_2"])
    assert found["Dense_2"]["kernel"].shape == (8, 4)


def test_statistics_come_along(tmp_path, module):
    """Batch statistics are part of the trained variables."""
    norm = ("--set", "model.norm=batch", "--set", "steps=8")
    assert launch("run", module, *norm, "--out", tmp_path / "old").status == 0
    old = read_variables(tmp_path / "old" / "trials" / "base-s0")
    found = first_state(module, tmp_path / "new", "model.norm=batch", f"init_from={tmp_path / 'old'}")
    # The single step moves the running statistics by one hundredth.
    for name in ("BatchNorm_0", "BatchNorm_1"):
        mean, before = found["collections"]["batch_stats"][name]["mean"], old["batch_stats"][name]["mean"]
        assert np.abs(before).max() > 0.02
        np.testing.assert_allclose(mean, before, atol=0.05)


def test_an_experiment_in_memory_can_start_from_it_too(run):
    from research.data.feeds import make_feeds
    from research.training.check import check_trainable

    experiment = toys.experiment(init_from=str(run))
    splits = experiment.data.load()
    check_trainable(experiment, make_feeds(splits, experiment.data))
    wrong = dataclasses.replace(experiment, model=MLP(widths=(16,), classes=3))
    with pytest.raises(RequestError, match="init_from=.*add fresh parameters to init_skip"):
        check_trainable(wrong, make_feeds(splits, wrong.data))
