"""What an author chooses about a report: the metrics, variants and names to show, and how numbers are written."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Literal

from research.errors import nearest, require
from research.report.runs import RunResult

CORRECTIONS = ("none", "holm")
FORMATS = ("png", "svg", "pdf")


@dataclasses.dataclass(frozen=True)
class Choices:
    """An author's choices; by default the report's own.

    Attributes:
      metrics: names or patterns of the metrics to show, in this order: ("test/accuracy", "validation/*").
      variants: names or patterns of the variants to show, in this order.
      names: what variants and metrics are called in the report: {"model.norm=none": "without norm"}.
      percent: names or patterns of the metrics that are written in percent.
      digits: decimals of means and spreads; None follows the spread.
      figures: formats in which figures are written as files, "png", "svg", "pdf"; the page has them as SVG in any case.
      correction: "holm" corrects the comparisons of a metric with the baseline for their number (Holm, 1979).
    """

    metrics: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    percent: tuple[str, ...] = ()
    digits: int | None = None
    figures: tuple[str, ...] = ("png",)
    correction: Literal["none", "holm"] = "none"

    def __post_init__(self) -> None:
        require(self.digits is None or 0 <= self.digits <= 12, f"--digits {self.digits}: expected 0 to 12")
        for kind in self.figures:
            require(kind in FORMATS, f"--figures {kind}: {nearest(kind, FORMATS)}")
        require(
            self.correction in CORRECTIONS, f"--correction {self.correction}: {nearest(self.correction, CORRECTIONS)}"
        )

    def of_runs(self, runs: Sequence[RunResult]) -> list[RunResult]:
        """The runs with the chosen variants only, in the chosen order and under their new names.

        Raises:
          RequestError: a name or pattern matches no variant, or two variants get one name.
        """
        known = list(dict.fromkeys(variant for run in runs for variant in run.variants))
        kept = matching("--variants", self.variants, known) if self.variants else known
        renamed = {variant: self.names.get(variant, variant) for variant in kept}
        same = [name for name in renamed.values() if list(renamed.values()).count(name) > 1]
        require(not same, f"--name: two variants would be called {same and same[0]!r}")
        found = []
        for run in runs:
            trials = [
                dataclasses.replace(trial, variant=renamed[variant]) for variant in kept for trial in run.of(variant)
            ]
            baseline = renamed.get(run.baseline, run.baseline)
            found.append(dataclasses.replace(run, trials=tuple(trials), baseline=baseline))
        return found

    def of_metrics(self, known: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
        """The metrics to show, out of the `known` ones; the `usual` ones if none are chosen."""
        return tuple(matching("--metrics", self.metrics, known)) if self.metrics else tuple(usual)

    def check(self, variants: Sequence[str], metrics: Sequence[str]) -> None:
        """Raises RequestError if a name is of no variant or metric, or a pattern of --percent of no metric."""
        for name in self.names:
            given = f"--name {name}={self.names[name]}"
            require(name in (*variants, *metrics), f"{given}: {nearest(name, [*variants, *metrics])}")
        if self.percent:
            matching("--percent", self.percent, metrics)

    def in_percent(self, metric: str) -> bool:
        return any(_matches(metric, pattern) for pattern in self.percent)


def matching(option: str, patterns: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known names that match, in the order of the patterns.

    >>> matching("--metrics", ["*/loss", "test/accuracy"], ["test/accuracy", "test/loss"])
    ['test/loss', 'test/accuracy']

    Raises:
      RequestError: a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        own = [name for name in known if _matches(name, pattern)]
        require(own, f"{option} {pattern}: {nearest(pattern, known)}")
        found |= dict.fromkeys(own)
    return list(found)


def _matches(name: str, pattern: str) -> bool:
    """True if a pattern is the name, its last word, or fits it; brackets of a name are no pattern."""
    return pattern in (name, name.rpartition("/")[2]) or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
