"""`launch run … --debug`: runs one batch operation by operation, to find the origin of a NaN."""

from __future__ import annotations

import pathlib
import sys
import traceback

import jax
import jax.numpy as jnp

from research.console import say
from research.data.feed import take
from research.running.prepared import prepare
from research.running.request import Request
from research.training.abstract import hparam_arrays
from research.training.step import make_init, make_train_step


def debug(request: Request) -> int:
    """Runs one step of the request's first trial without compiling it, and names the first operation that produces a
    NaN.

    Returns the exit status: 0 if every number is finite, 1 otherwise.
    """
    prepared = prepare(request)
    name, experiment = next(iter(prepared.experiments.items()))
    feeds = prepared.feeds[name]
    batch = take(feeds.train.resident, feeds.train.batches(experiment.seed, experiment.batch_size).largest())
    batch = jax.tree.map(jnp.asarray, batch)
    say(f"{name}: one step of batch_size={experiment.batch_size}, not compiled", sys.stderr)
    state = jax.jit(make_init(experiment))(jax.random.key(experiment.seed), batch, hparam_arrays(experiment))
    try:
        with jax.disable_jit(), jax.debug_nans(True):
            _, metrics = make_train_step(experiment)(state, batch)
    except FloatingPointError as error:
        first = str(error).strip().splitlines()[0].rstrip(".")
        say(f"{first}, at {_where(error)}")
        return 1
    for key, x in metrics.items():
        say(f"{key}: {float(x):.6g}")
    finite = all(bool(jnp.isfinite(x)) for x in metrics.values())
    say("no operation of the step produces a NaN" + ("" if finite else ", but some numbers are infinite"))
    return 0 if finite else 1


def _where(error: BaseException) -> str:
    """The innermost line of the traceback outside libraries."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    frame = [f for f in frames if f.name != "debug" and not f.filename.startswith("<")][-1]
    return f"{pathlib.Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
