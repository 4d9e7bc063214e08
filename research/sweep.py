"""Sweeps: lists of named overrides.

    grid("optimizer.learning_rate", 1e-3, 1e-2)                      one variant per value
    product(grid(...), grid(...))                                    every combination
    zipped(grid("model.widths", ...), grid("steps", ...))            the first with the first, ...
    chain(grid(...), grid(...))                                      one after the other
    random(20, {"optimizer.learning_rate": log_uniform(1e-4, 1)})    random values, from a seed
    ablation(baseline={}, variants={"no dropout": {"model.dropout": 0.0}})
    product(..., seeds(5)), or --seeds 5 on the command line         repeats with other seeds
    product(..., repeats(grid("data.split_seed", 0, 1, 2)))          repeats with other splits, averaged for each seed

A sweep is a value.  `launch` runs it; `trials(experiment, sweep, ...)` returns its experiments to any other caller.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from research.config.once import Once
from research.config.override import override
from research.console import counted
from research.errors import RequestError, nearest, prefixed, require
from research.experiment import Experiment

LONGEST_NAME = 200
"""The maximum number of characters of a folder's name; file systems allow 255, and temporary names need a few."""

SHOWN = 20
"""The number of variants that the text of a sweep names."""

MOST_TRIALS = 100_000
"""The maximum number of trials of a sweep; planning more takes minutes."""

Overrides = dict[str, Any]
"""{dotted path in the experiment: value}, as for `research.config.override`."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A name with its overrides.  Variants that differ only in `repeat` or seed form one row of the table."""

    name: str
    overrides: Overrides
    repeat: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Variants of an experiment, in order; `baseline` names the variant that the others are compared with.

    >>> ablation({}, {"no dropout": {"model.dropout": 0.0}}, name="dropout")
    Sweep of 2 variants, compared with 'dropout'
      dropout
      no dropout  model.dropout=0.0
    """

    variants: tuple[Variant, ...]
    baseline: str | None = None

    def __iter__(self) -> Iterator[Variant]:
        return iter(self.variants)

    def __len__(self) -> int:
        return len(self.variants)

    def __repr__(self) -> str:
        against = "" if self.baseline is None else f", compared with {self.baseline!r}"
        width = max((len(variant.name) for variant in self.variants[:SHOWN]), default=0)
        lines = [
            f"  {variant.name:{width}}  {', '.join(f'{path}={value!r}' for path, value in variant.overrides.items())}"
            for variant in self.variants[:SHOWN]
        ]
        more = [f"  … {len(self) - SHOWN:,} more"] if len(self) > SHOWN else []
        return "\n".join(
            line.rstrip() for line in [f"Sweep of {counted(len(self), 'variant')}{against}", *lines, *more]
        )

    def check(self) -> None:
        """Raises RequestError for an empty sweep, or for two variants that cannot be told apart."""
        require(len(self) > 0, "the sweep has no variant")
        seen = set()
        for variant in self:
            own = (variant.name, variant.repeat, variant.overrides.get("seed"))
            require(own not in seen, f"the sweep has two variants named {variant.name!r}; names must differ")
            seen.add(own)


def grid(path: str, *values: Any) -> Sweep:
    """Makes one variant per value of a field.

    >>> [v.name for v in grid("optimizer.learning_rate", 0.1, 0.2)]
    ['learning_rate=0.1', 'learning_rate=0.2']
    """
    leaf = path.rpartition(".")[2]
    return Sweep(tuple(Variant(f"{leaf}={short(value)}", {path: value}) for value in values))


def seeds(number: int, first: int = 0) -> Sweep:
    """Repeats with the seeds first, first + 1, ...; rows of the table average over them.

    >>> [variant.overrides for variant in seeds(3, first=10)]
    [{'seed': 10}, {'seed': 11}, {'seed': 12}]
    """
    _check_number(number, f"seeds({number}): ")
    return Sweep(tuple(Variant("", {"seed": seed}) for seed in range(first, first + number)))


def repeats(sweep: Sweep) -> Sweep:
    """Turns a sweep's variants into repeats; rows of the table average over them and pair them, as with seeds.

    >>> splits = repeats(grid("data.split_seed", 0, 1))
    >>> [(v.name, v.repeat) for v in product(grid("model.depth", 2, 4), splits)]  # doctest: +NORMALIZE_WHITESPACE
    [('depth=2', 'split_seed=0'), ('depth=2', 'split_seed=1'),
     ('depth=4', 'split_seed=0'), ('depth=4', 'split_seed=1')]
    """
    return Sweep(tuple(Variant("", variant.overrides, variant.name) for variant in sweep))


def product(*sweeps: Sweep) -> Sweep:
    """Combines every variant of each sweep with every variant of the others; the last sweep varies fastest.

    >>> [v.name for v in product(grid("model.depth", 2, 4), grid("model.width", 32, 64))]
    ['depth=2,width=32', 'depth=2,width=64', 'depth=4,width=32', 'depth=4,width=64']
    """
    _check_number(math.prod(map(len, sweeps)), "product(...): ")
    combined = [Variant("", {})]
    for sweep in sweeps:
        combined = [_merged(a, b) for a in combined for b in sweep]
    baselines = ["" if all(not variant.name for variant in sweep) else sweep.baseline for sweep in sweeps]
    return Sweep(tuple(combined), None if None in baselines else _join(*baselines) or None)


def zipped(*sweeps: Sweep) -> Sweep:
    """Combines the first variants of all sweeps, the second ones, and so on.

    >>> [v.name for v in zipped(grid("model.depth", 2, 4), grid("steps", 1000, 500))]
    ['depth=2,steps=1000', 'depth=4,steps=500']

    Raises:
      RequestError: the sweeps differ in length.
    """
    lengths = [len(sweep) for sweep in sweeps]
    require(len(set(lengths)) <= 1, f"zipped: the sweeps have {lengths} variants; expected equal numbers")
    combined = []
    for variants in zip(*sweeps, strict=True):
        merged = Variant("", {})
        for variant in variants:
            merged = _merged(merged, variant)
        combined.append(merged)
    return Sweep(tuple(combined))


def chain(*sweeps: Sweep) -> Sweep:
    """Concatenates sweeps; the first baseline counts.

    >>> [v.name for v in chain(grid("model.depth", 2), grid("model.width", 32, 64))]
    ['depth=2', 'width=32', 'width=64']
    """
    baselines = [sweep.baseline for sweep in sweeps if sweep.baseline]
    return Sweep(tuple(variant for sweep in sweeps for variant in sweep), baselines[0] if baselines else None)


def ablation(baseline: Overrides, variants: Mapping[str, Overrides], *, name: str = "baseline") -> Sweep:
    """Makes a baseline, and named variants whose overrides are added to those of the baseline.

    >>> sweep = ablation({"steps": 500}, {"no dropout": {"model.dropout": 0.0}}, name="dropout")
    >>> sweep.baseline, [(v.name, v.overrides) for v in sweep]
    ('dropout', [('dropout', {'steps': 500}), ('no dropout', {'steps': 500, 'model.dropout': 0.0})])
    """
    changed = [Variant(key, {**baseline, **overrides}) for key, overrides in variants.items()]
    return Sweep((Variant(name, dict(baseline)), *changed), name)


def shared(sweep: Sweep, paths: Iterable[str]) -> tuple[Overrides, Sweep]:
    """Splits off the overrides at or above one of the `paths` that all variants share; returns them and the remaining
    sweep.

    Shared overrides are settings of the sweep that it does not compare, so overrides from outside take precedence.

    >>> shared(ablation({"steps": 9, "seed": 1}, {"wide": {"model.widths": (64,)}}), ["steps"])[0]
    {'steps': 9}
    """
    asked = tuple(f"{path}." for path in paths)
    first = next(iter(sweep), Variant("", {}))
    alike = {
        path: value
        for path, value in first.overrides.items()
        if any(a.startswith(f"{path}.") for a in asked)
        and all(path in v.overrides and v.overrides[path] == value for v in sweep)
    }
    # A field below a part that differs between variants must be set after that part.
    parts = {path for variant in sweep for path in variant.overrides if path not in alike}
    alike = {path: value for path, value in alike.items() if not any(path.startswith(f"{part}.") for part in parts)}
    left = [
        dataclasses.replace(v, overrides={path: x for path, x in v.overrides.items() if path not in alike})
        for v in sweep
    ]
    return alike, dataclasses.replace(sweep, variants=tuple(left))


# -- random sweeps -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The distribution of a field's values in `random`: a kind and its parameters."""

    kind: str
    parameters: tuple[Any, ...]

    def draw(self, generator: np.random.Generator) -> Any:
        """One value."""
        if self.kind == "choice":
            return self.parameters[int(generator.integers(len(self.parameters)))]
        low, high = self.parameters
        if self.kind == "integers":
            return int(generator.integers(low, high, endpoint=True))
        if self.kind == "log_uniform":
            return float(math.exp(generator.uniform(math.log(low), math.log(high))))
        return float(generator.uniform(low, high))


def uniform(low: float, high: float) -> Distribution:
    """Uniform between two bounds: random(20, {"model.dropout": uniform(0.0, 0.5)})."""
    return _between("uniform", low, high)


def log_uniform(low: float, high: float) -> Distribution:
    """Log-uniform between two positive bounds: {"optimizer.learning_rate": log_uniform(1e-4, 1e-1)}."""
    require(low > 0, f"log_uniform({low}, {high}): expected bounds above 0")
    return _between("log_uniform", low, high)


def integers(low: int, high: int) -> Distribution:
    """Uniform over the whole numbers from low to high, inclusive: {"model.depth": integers(1, 8)}."""
    return _between("integers", low, high)


def choice(*values: Any) -> Distribution:
    """Uniform over the values: {"model.activation": choice("relu", "gelu")}."""
    require(len(values) > 0, "choice(): expected at least one value")
    return Distribution("choice", values)


def _between(kind: str, low: float, high: float) -> Distribution:
    require(low <= high, f"{kind}({low}, {high}): expected the lower bound first")
    return Distribution(kind, (low, high))


def random(number: int, space: Mapping[str, Distribution], *, seed: int = 0) -> Sweep:
    """Draws every field of `space` for `number` variants; the same seed gives the same values.

    >>> sweep = random(8, {"optimizer.learning_rate": log_uniform(1e-4, 1e-1), "model.depth": integers(1, 4)}, seed=1)
    >>> [v.name for v in sweep][:2], all(1e-4 <= v.overrides["optimizer.learning_rate"] <= 1e-1 for v in sweep)
    (['random-0', 'random-1'], True)

    The draws of a field depend only on the seed and its path, so adding a field does not change the others.
    """
    _check_number(number, f"random({number}, ...): ")
    columns = {}
    for path, distribution in space.items():
        generator = np.random.default_rng([seed, *path.encode()])
        columns[path] = [distribution.draw(generator) for _ in range(number)]
    width = len(str(number - 1))
    return Sweep(
        tuple(Variant(f"random-{i:0{width}d}", {path: x[i] for path, x in columns.items()}) for i in range(number))
    )


# -- names -------------------------------------------------------------------------------------------------------------


def short(value: Any) -> str:
    """Formats a value for a variant's name.

    >>> short((128, 128)), short(3e-4), short(None)
    ('128-128', '0.0003', 'none')
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return "-".join(short(child) for child in value) or "empty"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    return str(value)


def folder_name(variant: str, seed: int, repeat: str = "", *, apart: bool = False) -> str:
    """The name of a trial's folder, <variant>-s<seed>, with characters that every file system and store allows.

    `apart` adds digits that depend on the characters that are replaced as well.
    """
    own, again = (re.sub(r"[^A-Za-z0-9_.=+-]+", "-", part).strip("-.") for part in (variant, repeat))
    name = f"{own or 'variant'}-{again}" if again else own or "variant"
    if apart or len(name) > LONGEST_NAME:
        whole = f"{variant}\n{repeat}" if apart else name
        digits = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
        name = f"{name[:LONGEST_NAME]}-{digits}"
    return f"{name}-s{seed}"


def folder_names(trials: Sequence[tuple[str, int, str]]) -> list[str]:
    """Names the folders of trials, each given by (variant, seed, repeat).

    Names that would differ only in characters that are replaced, or in case, which some file systems ignore, get
    digits.

    >>> folder_names([("wide", 0, ""), ("α", 0, ""), ("β", 0, "")])
    ['wide-s0', 'variant-91bb11dc-s0', 'variant-55423745-s0']
    """
    plain = [folder_name(*trial) for trial in trials]
    shared = collections.Counter(folder_name(*trial).lower() for trial in set(trials))
    return [folder_name(*trial, apart=shared[name.lower()] > 1) for trial, name in zip(trials, plain, strict=True)]


def _join(*names: str) -> str:
    return ",".join(name for name in names if name)


def _merged(a: Variant, b: Variant) -> Variant:
    for path in a.overrides.keys() & b.overrides.keys():
        if a.overrides[path] != b.overrides[path]:
            raise RequestError(f"{_join(a.name, b.name)}: {path} is set twice, by {a.name!r} and by {b.name!r}")
    return Variant(_join(a.name, b.name), {**a.overrides, **b.overrides}, _join(a.repeat, b.repeat))


# -- trials ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PlannedTrial:
    """One training of a sweep: its folder's name, variant, seed, all its overrides, and the resulting experiment."""

    name: str
    variant: str
    seed: int
    overrides: Overrides
    experiment: Experiment


def trials(
    experiment: Experiment, sweep: Sweep | None = None, *, seeds: int | Sequence[int] | None = None, base: str = "base"
) -> list[PlannedTrial]:
    """Lists the trials of a sweep over an experiment, after checking them; ordered by variant, then by seed.

    >>> experiment = Experiment(
    ...     model=models.MLP(widths=(32,), classes=10), task=tasks.Classification(classes=10),
    ...     data=data.Sklearn(name="digits"), optimizer=optimizers.AdamW(), steps=100, batch_size=32,
    ... )
    >>> [trial.name for trial in trials(experiment, grid("model.widths", (), (64, 64)), seeds=2)]
    ['widths=empty-s0', 'widths=empty-s1', 'widths=64-64-s0', 'widths=64-64-s1']

    Args:
      experiment: an `Experiment`.
      sweep: None means a single variant without overrides, named `base`.
      seeds: the seeds, or their number, counted from the experiment's seed; None keeps each variant's seed.

    Raises:
      RequestError: an override or the resulting experiment is invalid; the message names the variant.
    """
    sweep = sweep if sweep is not None else Sweep((Variant(base, {}),))
    sweep.check()
    each = 1 if seeds is None else seeds if isinstance(seeds, int) else len(seeds)
    _check_number(len(sweep) * each, "" if seeds is None else f"seeds={seeds!r:.40}: ")
    planned, once = [], Once()
    for variant in sweep:
        own = variant.overrides.get("seed", experiment.seed)
        name = variant.name or base
        chosen = [own] if seeds is None else range(own, own + seeds) if isinstance(seeds, int) else seeds
        for seed in chosen:
            overrides = {**variant.overrides, "seed": int(seed)}
            with prefixed(f"{name}: " if len(sweep) > 1 else ""):
                changed = override(experiment, overrides)
                changed.check(once)
            planned.append((name, int(seed), variant.repeat, overrides, changed))
    folders = folder_names([trial[:3] for trial in planned])
    twice = [folder for folder, times in collections.Counter(folders).items() if times > 1]
    require(not twice, f"two trials would share the folder {', '.join(twice[:1])}; name the variants apart")
    return [
        PlannedTrial(folder, name, seed, overrides, changed)
        for folder, (name, seed, _, overrides, changed) in zip(folders, planned, strict=True)
    ]


def _check_number(trials: int, given: str) -> None:
    require(trials <= MOST_TRIALS, f"{given}{trials:,} trials, expected at most {MOST_TRIALS:,}")


def as_sweep(value: Any, name: str = "it") -> Sweep:
    """Returns a value that is a sweep, or raises a RequestError that says what `name` is instead."""
    kind = type(value).__name__
    require(isinstance(value, Sweep), f"{name} is a {kind}, not a Sweep; grid, product, ablation, ... make one")
    return value


def require_sweep(sweeps: Mapping[str, Sweep], name: str) -> Sweep:
    """Returns the sweep of that name, or raises a RequestError that names the nearest."""
    if name not in sweeps:
        raise RequestError(f"--sweep {name}: no such sweep; {nearest(name, sweeps)}")
    return sweeps[name]
