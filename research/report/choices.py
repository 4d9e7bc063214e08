"""What an author chooses about a report: the metrics, variants and names to show, and how numbers are written."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from research.errors import RequestError, nearest, require
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
            if kind not in FORMATS:
                raise RequestError(f"--figures {kind}: {nearest(kind, FORMATS)}")
        if self.correction not in CORRECTIONS:
            raise RequestError(f"--correction {self.correction}: {nearest(self.correction, CORRECTIONS)}")

    def of_runs(self, runs: Sequence[RunResult]) -> list[RunResult]:
        """The runs with the chosen variants only, in the chosen order and under their new names.

        Raises:
          RequestError: a name or pattern matches no variant, or two variants get one name.
        """
        known = list(dict.fromkeys(variant for run in runs for variant in run.variants))
        kept = matching("--variants", self.variants, known) if self.variants else known
        renamed = {variant: self.names.get(variant, variant) for variant in kept}
        if not renamed:
            return list(runs)
        (name, count), *_ = Counter(renamed.values()).most_common(1)
        require(count == 1, f"--name: two variants would be called {name!r}")
        found = []
        for run in runs:
            trials = [
                dataclasses.replace(trial, variant=renamed[variant]) for variant in kept for trial in run.of(variant)
            ]
            baseline = renamed.get(run.baseline, run.baseline)
            if trials or not run.trials:
                found.append(dataclasses.replace(run, trials=tuple(trials), baseline=baseline))
        return found

    def of_metrics(self, known: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
        """The metrics to show, out of the `known` ones; the `usual` ones if none are chosen."""
        return tuple(matching("--metrics", self.metrics, known)) if self.metrics else tuple(usual)

    def check(self, variants: Sequence[str], metrics: Sequence[str]) -> None:
        """Raises RequestError if a name is of no variant or metric, or a pattern of --percent of no metric."""
        for name in self.names:
            if name not in (known := [*variants, *metrics]):
                raise RequestError(f"--name {name}={self.names[name]}: {nearest(name, known)}")
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
        if not own:
            raise RequestError(f"{option} {pattern}: {nearest(pattern, known)}")
        found |= dict.fromkeys(own)
    return list(found)


def _matches(name: str, pattern: str) -> bool:
    """True if a pattern is the name, its last word, or fits it; brackets of a name are no pattern."""
    return pattern in (name, name.rpartition("/")[2]) or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
