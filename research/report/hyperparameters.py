"""The resolved hyperparameters of a variant, as a table for an appendix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from research.report import numbers
from research.report.runs import RunResult, lookup

LEFT_OUT = ("data.path", "data.test_path", "class_names", "targets_sha256")
"""Fields that are no hyperparameters, by their last words."""


def hyperparameters(run: RunResult) -> list[tuple[str, str]]:
    """(dotted path, value) of the baseline, or of the first variant: every field that is set, from its config.json.

    A file that is no such record, nested without end, has none.
    """
    variant = run.baseline if run.baseline in run.by_variant else next(iter(run.by_variant), None)
    config = next((trial.config for trial in run.of(variant) if trial.config), {})
    experiment = lookup(config, "experiment") or {}
    try:
        return [(path, value) for path, value in _leaves(experiment, "") if not path.endswith(LEFT_OUT)]
    except RecursionError:
        return []


def _leaves(part: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(part, Mapping):
        if "_type" in part and path:
            yield path, str(part["_type"]).rpartition(":")[2]
        for name, value in part.items():
            if name not in ("_type", "seed"):
                yield from _leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(part, list) and any(isinstance(x, Mapping) for x in part):
        for i, value in enumerate(part):
            yield from _leaves(value, f"{path}.{i}")
    elif part is not None and part != []:
        yield path, numbers.value(part)
