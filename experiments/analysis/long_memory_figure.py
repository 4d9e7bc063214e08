"""RNN, LSTM and Transformer compared in one figure: parallelism, speed, long-range memory and gradients.

    python -m experiments.analysis.long_memory_figure runs/long_memory/near runs/long_memory/far --out docs

parallelism     the longest chain of dependent matrix products in a forward pass, counted in the program
training speed  milliseconds per training step by length, with 8 sequences; medians over rounds in turns
long range      test accuracy by distance, from the runs
context         norm of the loss's gradient at the first token, divided by that at the last; means over 64 sequences,
                before and after training

OUT gets long_memory.png, and long_memory.json with all numbers.  Speeds are measured once and kept there; delete the
file to measure them again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.long_memory import MODELS, experiment
from research.data.feed import make_feed
from research.data.sources.recall import Recall
from research.errors import command
from research.experiment import Experiment
from research.report import style
from research.report.read import read_runs
from research.report.runs import RunResult, lookup
from research.training.step import make_init, make_train_step
from research.whole_files import write_whole

DISTANCES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
FLOOR = 1e-30
"""Smaller values, or those that underflow in float32, are drawn here."""


def at(distance: int, model: nn.Module) -> Experiment:
    """The experiment at a distance with few examples, to inspect without training."""
    data = Recall(distance=distance, examples=80, validation=0, test_examples=64)
    return dataclasses.replace(experiment(), model=model, data=data, batch_size=8)


# -- parallelism -------------------------------------------------------------------------------------------------------


def longest_chain(model: nn.Module, tokens: np.ndarray) -> int:
    """The length of the longest chain of dependent matrix products in a forward pass on tokens [batch, length]."""
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens))
    program = jax.make_jaxpr(model.apply)(variables, tokens)
    return max(_depths(program.jaxpr, [0] * len(program.jaxpr.invars)))


def _depths(jaxpr: Any, inputs: Sequence[int]) -> list[int]:
    """The number of products on the longest path to each output of a program, given those up to its inputs."""
    depth = dict(zip(jaxpr.invars, inputs, strict=True)) | dict.fromkeys(jaxpr.constvars, 0)

    def of(atom: Any) -> int:
        return depth.get(atom, 0) if not hasattr(atom, "val") else 0

    for equation in jaxpr.eqns:
        given = [of(atom) for atom in equation.invars]
        inner = [x for x in equation.params.values() if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
        if equation.primitive.name == "scan":
            found = _scan_depths(equation.params, given)
        elif len(inner) == 1 and len(_open(inner[0]).invars) == len(given):  # a function call
            found = _depths(_open(inner[0]), given)
        else:
            more = equation.primitive.name in ("dot_general", "conv_general_dilated")
            found = [max(given, default=0) + more] * len(equation.outvars)
        depth |= dict(zip(equation.outvars, found, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def _scan_depths(params: Mapping[str, Any], given: list[int]) -> list[int]:
    """The same for a loop, where the state of each iteration depends on the one before."""
    consts, carries = params["num_consts"], params["num_carry"]
    state, outputs = given[consts : consts + carries], []
    for _ in range(params["length"]):
        found = _depths(_open(params["jaxpr"]), [*given[:consts], *state, *given[consts + carries :]])
        state = [max(a, b) for a, b in zip(found[:carries], state, strict=True)]
        outputs = found[carries:]
    return [*state, *outputs]


def _open(program: Any) -> Any:
    return program.jaxpr if hasattr(program, "jaxpr") else program


# -- training speed ----------------------------------------------------------------------------------------------------


def step_times(distance: int, seconds: float = 0.3, rounds: int = 3) -> dict[str, float]:
    """Milliseconds per training step of each model: medians over rounds in turns."""
    ready = {}
    for name, model in MODELS.items():
        one = at(distance, model)
        batch = make_feed(one.data.load().train, "host").batches(0, one.batch_size)[0]
        state = make_init(one)(jax.random.key(0), batch, {})
        step = jax.jit(make_train_step(one)).lower(state, batch).compile()
        ready[name] = (step, state, batch)
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, (step, state, batch) in ready.items():
            jax.block_until_ready(step(state, batch))
            start, steps = time.perf_counter(), 0
            while steps < 2 or time.perf_counter() - start < seconds:
                state, metrics = step(state, batch)
                jax.block_until_ready(metrics["loss"])
                steps += 1
            times[name].append(1e3 * (time.perf_counter() - start) / steps)
    return {name: statistics.median(own) for name, own in times.items()}


# -- context -----------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="model")
def token_gradients(model: nn.Module, variables: Any, tokens: jax.Array, label: jax.Array) -> jax.Array:
    """d loss / d embedded token, [batch, length, width], for the loss of each sequence at its last token."""

    def losses(added: jax.Array) -> jax.Array:
        def add(call, arguments, options, context):
            out = call(*arguments, **options)
            return out + added if isinstance(context.module, nn.Embed) and context.method_name == "__call__" else out

        with nn.intercept_methods(add):
            logits = model.apply(variables, tokens)[:, -1]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=-1).sum()

    (table,) = jax.tree.leaves(variables["params"]["token_embedding"])
    return jax.grad(losses)(jnp.zeros((*tokens.shape, table.shape[-1])))


def reach(model: nn.Module, variables: Any, distance: int) -> dict[str, float]:
    """The mean norm at the first token, at the last, and their ratio."""
    columns = at(distance, model).data.load().test.arrays()
    gradients = token_gradients(model, variables, columns["tokens"], columns["label"])
    norms = np.linalg.norm(np.asarray(gradients, np.float64), axis=-1).mean(axis=0)  # squares exceed float32's range
    return {"first": float(norms[0]), "last": float(norms[-1]), "ratio": float(norms[0] / norms[-1])}


# -- figure ------------------------------------------------------------------------------------------------------------


def measured(runs: Sequence[RunResult], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Collects all numbers of the figure; takes the speeds from `kept`, the earlier record."""
    from research.training.folder import read_variables

    record: dict[str, Any] = {"chain": {}, "milliseconds": dict(kept.get("milliseconds", {}))}
    record |= {"accuracy": {}, "before": {}, "after": {}}
    fresh = {name: model.init(jax.random.key(0), np.zeros((1, 2), np.uint8)) for name, model in MODELS.items()}
    for distance in DISTANCES:
        tokens = np.zeros((1, distance + 2), np.uint8)
        record["chain"][str(distance)] = {name: longest_chain(model, tokens) for name, model in MODELS.items()}
        if str(distance) not in record["milliseconds"]:
            record["milliseconds"][str(distance)] = step_times(distance)
        record["before"][str(distance)] = {name: reach(model, fresh[name], distance) for name, model in MODELS.items()}
    for run in runs:
        for trial in run.trials:
            name, distance = trial.variant.partition(",")[0], str(lookup(trial.config, "data.distance"))
            if name not in MODELS or "test/accuracy" not in trial.metrics:
                continue
            accuracies = record["accuracy"].setdefault(distance, {}).setdefault(name, {})
            accuracies[str(trial.seed)] = trial.metrics["test/accuracy"]
            after = record["after"].setdefault(distance, {})
            if name not in after:  # only for the first seed
                variables = read_variables(pathlib.Path(run.folder) / "trials" / trial.name)
                after[name] = reach(MODELS[name], variables, int(distance))
    return record


def draw(record: Mapping[str, Any]) -> Any:
    """Draws four panels over the distance."""
    with style.paper():
        figure = style.new_figure(7.2, 5.2)
        colors = style.colors(list(MODELS))
        grid = figure.subplots(2, 2, gridspec_kw={"wspace": 0.55, "hspace": 0.5})
        for axes, title, unit in (
            (grid[0, 0], "Parallelism", "dependent products"),
            (grid[0, 1], "Training speed", "ms per step of 8 sequences"),
            (grid[1, 0], "Long range", "test accuracy"),
            (grid[1, 1], "Context", "gradient at the first token / last"),
        ):
            axes.set_title(f"{title}: {unit}")
            axes.set_xscale("log", base=2)
            axes.set_xticks(DISTANCES, [str(d) for d in DISTANCES])
            axes.set_xlabel("distance (tokens)")
        for axes, numbers in zip(grid[0], (record["chain"], record["milliseconds"]), strict=True):
            values = [x for own in numbers.values() for x in own.values()]
            axes.set_yscale("log")
            axes.set_ylim(min(values) / 1.2, 1.2 * max(values))
            style.log_ticks(axes.yaxis, min(values), max(values))
            _lines(axes, numbers, colors, lambda x: x)
        grid[1, 0].axhline(1 / Recall().symbols, color=style.FAINT, linewidth=1)
        grid[1, 0].annotate("chance", (4, 1 / Recall().symbols), (0, 3), textcoords="offset points", color=style.MUTED)
        grid[1, 0].set_ylim(0, 1.03)
        _lines(grid[1, 0], record["accuracy"], colors, lambda seeds: statistics.mean(seeds.values()), band=True)
        grid[1, 1].set_yscale("log")
        grid[1, 1].set_ylim(FLOOR, 1e2)
        before = {"dashes": (3, 2), "named": False}
        _lines(grid[1, 1], record["before"], colors, lambda x: max(x["ratio"], FLOOR), **before)
        _lines(grid[1, 1], record["after"], colors, lambda x: max(x["ratio"], FLOOR))
        grid[1, 1].annotate(
            "dashed: before training", (0.03, 0.04), xycoords="axes fraction", color=style.MUTED, fontsize=7
        )
        return figure


def _lines(axes: Any, by_distance: Mapping[str, Any], colors: Mapping[str, str], value: Any, **how: Any) -> None:
    """Draws a line per model through `value` of its entry at every distance, optionally with a band from the lowest to
    the highest seed.
    """
    band, named = how.pop("band", False), how.pop("named", True)
    ends = []
    for name, color in colors.items():
        found = [(int(d), own[name]) for d, own in sorted(by_distance.items(), key=lambda x: int(x[0])) if name in own]
        if not found:
            continue
        distances, values = [d for d, _ in found], [value(own) for _, own in found]
        axes.plot(distances, values, color=color, marker="o", markersize=2.5, **how)
        if band:
            low, high = ([f(own.values()) for _, own in found] for f in (min, max))
            axes.fill_between(distances, low, high, color=color, alpha=0.14, linewidth=0)
        ends.append((distances[-1], values[-1], name, color))
    axes.set_xlim(DISTANCES[0] * 0.85, DISTANCES[-1] * 1.15)
    axes.figure.canvas.draw()
    if named:
        style.label_lines(axes, ends)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.analysis.long_memory_figure", description=__doc__.splitlines()[0]
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of long_memory's sweeps")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder for the figure and its numbers")
    asked = parser.parse_args(arguments)
    runs = read_runs(asked.runs)
    out = pathlib.Path(asked.out)
    out.mkdir(parents=True, exist_ok=True)
    numbers = out / "long_memory.json"
    record = measured(runs, json.loads(numbers.read_text()) if numbers.exists() else {})
    write_whole(numbers, json.dumps(record, indent=1) + "\n")
    style.save(draw(record), out / "long_memory.png", bbox_inches="tight")
    print(f"{out / 'long_memory.png'}, {numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
