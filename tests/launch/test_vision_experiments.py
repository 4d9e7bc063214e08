"""Every variant of the vision experiments passes its checks, and one of each trains on generated data."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest
from command_line import launch, quickly, read

from research.config.hparams import hparams
from research.config.override import override
from research.data.source import Columns
from research.data.sources.tfds import TFDS
from research.data.spec import Splits
from research.errors import RequestError
from research.sweep import trials
from research.training.step import make_eval_step, make_init, make_train_step

SHAPES = {"fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
SMALL = {
    "fashion_mnist_cnn": {},
    "cifar10_resnet": {"model.depths": (1, 1, 1, 1), "model.widths": (8, 8, 8, 8), "model.stem_width": 8},
    "cifar10_vit": {"model.depth": 1},
    "cifar10_convnext": {"model.depths": (1, 1, 1), "model.widths": (8, 8, 16)},
    "fashion_diffusion": {"model.depth": 1},
    "cifar10_dit": {"model.depth": 1},
    "cifar10_unet": {"model.depth": 1},
}
"""Sizes with which a model has each of its parts once; variants may set others."""


@pytest.fixture(autouse=True, scope="module")
def quick(tmp_path_factory):
    """Leaves out figures, since these tests look at trials."""
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture
def made_up(monkeypatch):
    """Makes TFDS return noise in the format of the requested data set."""

    def read_splits(data):
        generator = np.random.default_rng(0)

        def part(n):
            labels = np.arange(n, dtype=np.int32) % 10
            return Columns({"image": generator.integers(0, 256, (n, *SHAPES[data.name]), np.uint8), "label": labels})

        return Splits(part(60), None, part(20))

    monkeypatch.setattr(TFDS, "read", read_splits)
    monkeypatch.setattr(TFDS, "fit", lambda data, train: data)


@pytest.mark.parametrize("name", SMALL)
def test_every_variant_fits_together(name, made_up):
    module = importlib.import_module(f"experiments.{name}")
    base = override(module.experiment(), SMALL[name])
    found = [t.experiment for sweep in (None, *module.sweeps().values()) for t in trials(base, sweep)]
    splits = base.data.load()
    same = {"optimizer": base.optimizer, "steps": base.steps, "data": base.data, "seed": 0}
    traced = set()
    for experiment in dict.fromkeys(dataclasses.replace(e, **same) for e in found):
        batch = {"image": np.zeros((8, *SHAPES[base.data.name]), np.uint8), "label": np.zeros(8, np.int32)}
        batch["weight"] = np.ones(8, np.float32)
        fitted = dataclasses.replace(experiment, batch_size=8).fit(splits)
        state = jax.eval_shape(make_init(fitted), jax.random.key(0), batch, hparams(fitted))
        # Gradients take longest, so models share the trace of the rest of the step.
        rest = type(fitted.model), dataclasses.replace(experiment, model=None)
        if rest not in traced:
            traced.add(rest)
            _, metrics = jax.eval_shape(make_train_step(fitted), state, batch)
            assert metrics["loss"].shape == ()
        outputs = jax.eval_shape(make_eval_step(fitted), state, batch)
        assert all(x.shape[0] == 8 for x in outputs.values())
        for name in [e.name for e in fitted.evaluations if e.task is not None and e.of_split is None]:
            samples = {"weight": np.ones(4, np.float32), "example": np.arange(4, dtype=np.int32)}
            drawn = jax.eval_shape(make_eval_step(fitted, task_of=name), state, samples)
            assert drawn["image"].shape[0] == 4


@pytest.mark.slow
def test_the_shift_sweep_ends_with_an_accuracy_for_every_shift(made_up, tmp_path):
    training = {"steps": 2, "batch_size": 8, "eval_batch_size": 16, "data.validation": 10}
    small = {"model.channels": "2,2", "optimizer.schedule": "Constant"}
    arguments = [part for path, value in (training | small).items() for part in ("--set", f"{path}={value}")]
    done = launch("run", "fashion_mnist_cnn", "--sweep", "shift", *arguments, "--out", tmp_path / "run")
    assert done.status == 0, done.err
    results = [read(path)["metrics"] for path in (tmp_path / "run").glob("trials/*/result.json")]
    assert len(results) == 6
    for metrics in results:
        assert {f"test/accuracy_shift_{shift}" for shift in (1, 2, 3, 4)} <= metrics.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_resnet", "cifar10_vit", "cifar10_convnext"])
def test_two_steps_through_the_launcher(name, made_up, tmp_path):
    training = {
        "steps": 2,
        "batch_size": 8,
        "data.validation": 10,
        "optimizer.schedule": "Constant",
        "eval_every": "none",
    }
    model = {path: ",".join(map(str, np.atleast_1d(value))) for path, value in SMALL[name].items()}
    arguments = [part for path, value in (training | model).items() for part in ("--set", f"{path}={value}")]
    done = launch("run", name, *arguments, "--out", tmp_path / "run")
    assert done.status == 0, done.err
    (result,) = (read(path) for path in (tmp_path / "run").glob("trials/*/result.json"))
    assert result["status"] == "finished" and 0 <= result["metrics"]["test/accuracy"] <= 1


def test_unprepared_data_are_a_line_that_says_how(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    told = "'fashion_mnist' is not in .*research.data.sources.tfds prepare fashion_mnist"
    with pytest.raises(RequestError, match=told):
        importlib.import_module("experiments.fashion_mnist_cnn").experiment().data.load()
