"""`launch compile`: compiles the step that users run for other devices, from shapes alone, and says what it needs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from launch import targets
from research.console import say
from research.errors import require

if TYPE_CHECKING:
    import jax

    from launch.compiled import Compiled
    from launch.estimate import Estimate
    from research.experiment import Experiment

UTILIZATION = 0.4
"""The share of a chip's FLOP/s for which the time of a step is stated."""


def compile_experiment(
    experiment: str,
    *,
    sweep: str | None = None,
    settings: Sequence[str] = (),
    topology: str | None = None,
    devices: int | None = None,
    slices: int = 1,
    search: bool = True,
) -> int:
    """Compiles the train step of an experiment and prints its requirements per device.

    Args:
      experiment, sweep, settings: as for `launch run`; of a sweep, every variant is compiled.
      topology: such as v5e:4x4, v5litepod-16, h100:8 or cpu:8 (`launch/targets.py`).
      devices: the number of virtual CPU devices; without either, the devices of this machine.
      slices: the number of TPU slices of the topology.
      search: also look for the largest batch that fits or, if the step does not fit, for settings that do.

    Returns:
      The exit status: 0 if everything fits, 1 if something does not.

    Raises:
      RequestError: the request is wrong, or no compiler for that topology is installed.
    """
    require(slices == 1 or topology is not None, f"--slices {slices}: expected --topology too, a TPU slice")
    if topology is not None or devices is not None:
        targets.prepare()
    if topology is not None:
        found = targets.devices_of(topology, slices)
    elif devices is not None:
        found = targets.virtual_devices(devices, f"--devices {devices}")
    else:
        import jax

        found = jax.devices()

    from launch.data import check_there
    from launch.request import read_request

    request = read_request(experiment, sweep=sweep, settings=settings)
    if any(trial.experiment.data.example() is None for trial in request.trials):
        check_there(request)
    variants = {trial.variant: trial for trial in request.trials}
    status = 0
    for name, trial in variants.items():
        if len(variants) > 1:
            say(f"{name}:")
        status = max(status, _compile(trial.experiment, found, search))
    return status


def _compile(experiment: Experiment, devices: list[jax.Device], search: bool) -> int:
    from launch import fitting
    from launch.compiled import compile_step, known
    from launch.estimate import estimate
    from research.training.programs import placement_of

    placement_of(experiment, devices=devices)  # a layout that does not fit is said before any data are read
    given = known(experiment)
    compiled = compile_step(given, devices)
    if compiled.program is None:
        say(f"does not fit: {compiled.refusal}")
    else:
        _say_all(_lines(compiled, devices, estimate(compiled)))
    if search and compiled.chip is not None:
        sys.stdout.flush()
        say("compiling for other batch sizes and settings; --no-search leaves this out", sys.stderr)
        _say_all([_largest(*fitting.largest_batch(compiled, devices), experiment.batch_size)])
        if compiled.fits is False:
            settings = fitting.what_would_fit(given, devices)
            tried = "none of fsdp, parts of the vocabulary, recomputing and accumulation, alone or together"
            sets = " ".join(f"--set {path}={str(x).lower()}" for path, x in (settings or {}).items())
            _say_all([("would fit", sets or tried)])
    return 1 if compiled.fits is False else 0


def _say_all(lines: Sequence[tuple[str, str]]) -> None:
    for name, text in lines:
        say(f"{name + ':':15}{text}")


def _lines(compiled: Compiled, devices: list[jax.Device], found: Estimate) -> list[tuple[str, str]]:
    mesh = " x ".join(f"{axis} {size}" for axis, size in compiled.placement.mesh.shape.items())
    size, chip, memory = compiled.experiment.batch_size, compiled.chip, compiled.memory
    of = f" of {_gibibytes(chip.memory)}" if chip else ""
    kernels = ", ".join(f"{name}: {kernel}" for name, kernel in compiled.kernels.items())
    lines = [
        ("devices", f"{compiled.placement.mesh.size} x {devices[0].device_kind} (mesh: {mesh})"),
        ("parameters", f"{compiled.parameters:,}"),
        ("batch", f"{size:,} examples, {size / compiled.placement.shards:,.6g} per device"),
        (
            "memory",
            f"{_gibibytes(memory.total)}{of} per device: {_gibibytes(memory.kept)} of state and batch, "
            f"{_gibibytes(memory.temporaries)} of temporaries",
        ),
        ("FLOPs", f"{found.flops:.4g} per device and step; {found.model_flops:.4g} by three forward passes"),
        ("collectives", "; ".join(_collectives(found)) or "none"),
        ("kernels", kernels or "none to choose"),
        ("compiled in", f"{compiled.seconds:.1f} s"),
    ]
    if chip is None:
        return lines
    bounds = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in found.bounds.items())
    best = found.model_flops / chip.flops / found.least
    stated = found.model_flops / chip.flops / UTILIZATION
    note = "" if stated >= found.least else ", which its bounds do not allow"
    lines += [
        ("step", f"at least {_seconds(found.least)} ({bounds}); MFU at most {min(best, 1):.0%}"),
        (f"at {UTILIZATION:.0%} MFU", f"{_seconds(stated)} per step, {size / stated:,.4g} examples per second{note}"),
        ("fits", "yes" if compiled.fits else "no"),
    ]
    return lines


def _collectives(found: Estimate) -> Iterator[str]:
    """A line for each kind of collective: how many run in a step, and how many bytes a device sends."""
    times, sent, outside = Counter(), Counter(), Counter()
    for one in found.collectives:
        times[one.kind] += one.times
        sent[one.kind] += one.times * one.sent
        outside[one.kind] += one.times * one.outside
    for kind in sorted(sent, key=sent.get, reverse=True):
        some = 0 < outside[kind] < sent[kind]
        leaves = f", {_size(outside[kind])} of it to other hosts" if some else ""
        yield f"{times[kind]:,} {kind} {_size(sent[kind])}{leaves}"


def _largest(fitting: int, failing: int | None, batch_size: int) -> tuple[str, str]:
    if not fitting:
        return "largest batch", f"none was found to fit, down to {failing:,}"
    beyond = "" if failing is None else f"; {failing:,} do not fit"
    change = "" if fitting == batch_size else f" (--set batch_size={fitting})"
    return "largest batch", f"{fitting:,} examples{change}{beyond}"


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"


def _size(size: float) -> str:
    return f"{size / 2**20:,.3g} MiB" if size < 2**30 else _gibibytes(size)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.3g} s" if seconds >= 1 else f"{1e3 * seconds:,.3g} ms"
