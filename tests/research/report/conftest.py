"""Makes run folders like those of `python -m launch run`."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

Variants = Mapping[str, Mapping[str, Any]]

BETTER = {
    "loss": "min",
    "accuracy": "max",
    "wer": "min",
    "*_error": "min",
    "*_accuracy": "max",
    "accuracy_shift_*": "max",
}


@pytest.fixture(scope="session")
def write() -> Callable[..., pathlib.Path]:
    """`write_run`, for fixtures that are shared between tests."""
    return write_run


@pytest.fixture
def make_run(tmp_path) -> Callable[..., pathlib.Path]:
    """`write_run` into this test's own folder."""
    return lambda name="activation", **asked: write_run(tmp_path / name, **asked)


def write_run(
    folder: pathlib.Path,
    variants: Variants,
    scores: Callable[[str, int], Mapping[str, float | None]],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    splits: Sequence[int] = (),
    baseline: str | None = "baseline",
    ends: Mapping[str, Any] | None = None,
    steps: int = 1000,
    every: int = 100,
    better: Mapping[str, str] | None = BETTER,
    headline: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    validation: bool = True,
    **sweep: Any,
) -> pathlib.Path:
    """Writes a run.

    Args:
      variants: overrides by name.
      scores: maps (variant, seed) to the metrics of result.json.
      splits: values of data.split_seed that every variant is crossed with.
      ends: by trial name: a status; None for no result.json; a string starting with "{" for result.json's own text; a
        mapping of result.json's fields that differ.
      better: the declaration in the config.json of every trial; None for a run from before declarations existed.
      headline: the metrics that the task shows, in the config.json of every trial.
      data: the data of the experiment.
      validation: give every test metric the same value on validation, unless `scores` has one.
      sweep: other fields of sweep.json.
    """
    trials = []
    for variant, overrides in variants.items():
        for seed in seeds:
            for split in splits or (None,):
                name = f"{variant}-s{seed}" if split is None else f"{variant}-split{split}-s{seed}"
                full = {**overrides, "seed": seed} | ({} if split is None else {"data.split_seed": split})
                trials.append(
                    {"name": name, "variant": variant, "seed": seed, "overrides": full, "hash": f"{len(trials):08x}"}
                )
    asked = {
        "experiment": "experiments.digits_mlp",
        "sweep": folder.name,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "hash": "89abcdef01234567",
        "versions": {"jax": "0.10.2", "flax": "0.12.8"},
        "baseline": baseline,
        "trials": trials,
        "groups": [{"trials": [trial["name"] for trial in trials], "stacked": True}],
        "protocol": {"selection": "validation", "evaluations_of_test": 1},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({**asked, **sweep}))
    for i, trial in enumerate(trials):
        end = (ends or {}).get(trial["name"], "finished")
        metrics = dict(scores(trial["variant"], trial["seed"]))
        if validation:
            twins = {name.replace("test/", "validation/"): x for name, x in metrics.items() if name.startswith("test/")}
            metrics = twins | metrics
        own = folder / "trials" / trial["name"]
        write_trial(own, metrics, end, i, steps, every)
        config = {"experiment": {"_type": "research.experiment:Experiment", "model": {"depth": 2}}}
        config["experiment"] |= {} if data is None else {"data": data}
        config |= {} if better is None else {"better": better}
        config |= {"headline": list(headline)} if headline else {}
        (own / "config.json").write_text(json.dumps(config))
    return folder


def write_trial(folder: pathlib.Path, metrics: Mapping[str, float | None], end: Any, i: int, steps: int, every: int):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(i)
    accuracy = metrics.get("test/accuracy") or 0.5
    last = steps if end == "finished" else steps // 2
    lines = []
    for step in range(every, last + 1, every):
        left = math.exp(-4 * step / steps)
        loss = (1 - accuracy) * 2 + 2.3 * left + 0.05 * rng.normal() * left
        if end == "diverged" and step == last:
            loss = 1e6
        lines.append({"step": step, "split": "train", "loss": loss, "learning_rate": 1e-3})
        if step % (2 * every) == 0:
            value = accuracy - 0.6 * left + 0.01 * rng.normal()
            lines.append({"step": step, "split": "validation", "loss": loss * 1.1, "accuracy": value})
    if end == "diverged":
        lines.append({"step": last + every, "split": "train", "loss": None})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if end is None:
        return
    if isinstance(end, str) and end.startswith("{"):
        (folder / "result.json").write_text(end)
        return
    changes = {"status": end} if isinstance(end, str) else dict(end)
    result = {
        "status": "finished",
        "metrics": metrics,
        "steps": last,
        "seconds": 12.5 + i,
        "steps_per_second": 80.0,
        "stacked": 3,
        "error": None,
        "parameters": 118282,
    }
    (folder / "result.json").write_text(json.dumps(result | changes))
