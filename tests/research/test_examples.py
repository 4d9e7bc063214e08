"""Runs the examples in docstrings; every class that users start from has one."""

import dataclasses
import doctest
import importlib
import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import research
from research import data, models, optimizers, schedules, sweep, tasks
from research.data import augment

ROOT = pathlib.Path(__file__).parent.parent.parent
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for top in ("research", "launch")
    for path in sorted((ROOT / top).glob("**/*.py"))
    if ">>> " in path.read_text()
]
KNOWN = {"jax": jax, "jnp": jnp, "np": np, "optax": optax}
KNOWN |= {name: x for name, x in vars(schedules).items() if inspect.isclass(x)}
KNOWN |= {name: getattr(research, name) for name in research.__all__}
"""Names that examples use without importing them, in addition to those of their module."""

OPTIMIZERS = [getattr(optimizers, name) for name in optimizers.__all__]
STARTS = [x for x in (*OPTIMIZERS, *vars(schedules).values()) if inspect.isclass(x) and x.__doc__]
STARTS = [x for x in STARTS if issubclass(x, optimizers.Optimizer | schedules.Schedule) and x.__name__[0] != "_"]

BASES = (models.Model, tasks.Task, data.Data, data.Transform, augment.BatchAugmentation)
FAMILIES = {getattr(face, name) for face in (models, tasks, data, augment) for name in face.__all__}
FAMILIES = {x for x in FAMILIES if inspect.isclass(x) and issubclass(x, BASES) and not inspect.isabstract(x)}
FAMILIES = sorted(FAMILIES - {models.EncoderDecoder, *BASES}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write runs
    own = importlib.import_module(module)
    names = {name: x for name, x in KNOWN.items() if not hasattr(own, name)}
    result = doctest.testmod(own, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("cls", STARTS, ids=lambda cls: cls.__name__)
def test_every_optimizer_and_schedule_tells_its_fields_with_an_example(cls):
    assert ">>> " in cls.__doc__ or cls is optimizers.Layerwise
    told = inspect.getdoc(cls).partition("Attributes:\n")[2]
    for field in dataclasses.fields(cls):
        assert re.search(rf"^  (.*, )?{field.name}(, .*)?: ", told, re.MULTILINE), field.name


@pytest.mark.parametrize("cls", FAMILIES, ids=lambda cls: cls.__name__)
def test_every_model_task_and_data_set_tells_its_fields_with_an_example(cls):
    assert ">>> " in cls.__doc__
    told = inspect.getdoc(cls).partition("Attributes:\n")[2]
    for field in dataclasses.fields(cls):
        linen = issubclass(cls, models.Model) and field.name in ("parent", "name")
        assert linen or re.search(rf"\b{field.name}\b", told), field.name


@pytest.mark.parametrize(
    "name", ["ablation", "chain", "grid", "product", "random", "repeats", "seeds", "trials", "zipped"]
)
def test_every_way_to_make_a_sweep_has_an_example(name):
    assert ">>> " in getattr(sweep, name).__doc__
