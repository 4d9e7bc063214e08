"""Values as text: what an experiment prints is Python that makes it again."""

import dataclasses

import numpy as np
import pytest
import toys

import research
from research import EarlyStopping, Evaluation, ablation, data, models, optimizers, schedules, tasks
from research.config.brief import brief, changed, written
from research.sweep import grid


def rebuilt(text):
    names = {name: getattr(face, name) for face in (models, data, optimizers, tasks, research) for name in face.__all__}
    return eval(text, {**names, **vars(schedules), "Blobs": toys.Blobs})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preprocess": (data.Standardize("image", mean=0.5, std=2.0), data.Scale("image", 0.5)), "seed": 3},
        {"evaluations": (Evaluation("fit", split="train", every=5),), "early_stopping": EarlyStopping("fit/loss")},
        {"model": models.MLP(widths=tuple(range(1, 16)), classes=3), "optimizer": optimizers.Muon(learning_rate=0.5)},
    ],
    ids=str,
)
def test_an_experiment_prints_code_that_makes_it(changes):
    mine = toys.experiment(**changes)
    text = repr(mine)
    assert rebuilt(text) == mine
    lines = text.splitlines()
    assert lines[0] == "Experiment(" and lines[-1] == ")" and max(map(len, lines)) < 120
    top = [line for line in lines if line.startswith("    ") and line[4] not in " )"]
    assert [line.strip().partition("=")[0] for line in top] == [name for name, _ in changed(mine)]
    assert "clip_norm" not in text and "eval_batch_size" not in text


def test_long_values_are_shortened():
    vocabulary = data.Standardize("image", mean=tuple(float(i) for i in range(1000)))
    assert len(written(vocabulary)) < 100 and "… 1,000 values)" in written(vocabulary)
    assert len(written(dataclasses.replace(toys.experiment(), init_from="x" * 5000))) < 900
    arrays = data.InMemory({"image": np.zeros((9, 4, 3)), "label": np.zeros(9, int)})
    assert "float64[9, 4, 3]" in written(arrays)
    assert "\n" not in brief(toys.experiment())


def test_a_sweep_names_its_variants():
    assert repr(grid("model.widths", (), (8,))) == (
        "Sweep of 2 variants\n  widths=empty  model.widths=()\n  widths=8      model.widths=(8,)"
    )
    many = repr(grid("steps", *range(1, 100)))
    assert many.endswith("\n  … 79 more") and len(many.splitlines()) == 22
    assert repr(ablation({}, {"a": {}}, name="b")).startswith("Sweep of 2 variants, compared with 'b'\n")
