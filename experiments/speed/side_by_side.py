"""Compares speeds on a machine that is never quite idle: in turns, by the median of the ratios of all rounds."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int = 5) -> dict[str, list[float]]:
    """Runs every contender once per round, in order; returns the results (such as steps/s) by round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            found[name].append(run())
    return found


def report(found: Mapping[str, list[float]], unit: str, against: str) -> None:
    """Prints each contender's median, and the median, minimum and maximum of its ratios to `against`."""
    for name, values in found.items():
        ratios = sorted(a / b for a, b in zip(values, found[against], strict=True))
        ratio = (
            ""
            if name == against
            else f"; {statistics.median(ratios):.2f}x of {against} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
        print(f"{name:28} {statistics.median(values):10.4g} {unit}{ratio}", flush=True)
    print(
        f"{len(found[against])} rounds in turns; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        flush=True,
    )
