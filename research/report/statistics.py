"""The numbers of the table: mean and spread over seeds, paired differences, and which way is better."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from research.report.read import Run, Trial

CONFIDENCE = 0.95
RESOLUTION = 1e-7  # of a float32, relative: two scores nearer than that are the same


@dataclasses.dataclass(frozen=True)
class Summary:
    """Values of one metric over the trials of one variant.

    Attributes:
      mean: None if there is no value.
      std: sample standard deviation (n − 1 in the denominator); None below two values: one seed says nothing of spread.
      n: how many values.
    """

    mean: float | None
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean of paired differences (variant − baseline) and its t interval.

    Attributes:
      low, high: None where there is no interval: below two pairs, or if all pairs differ by the same, as happens with
        few pairs and a score of few levels (accuracy on 100 examples); no spread is not certainty.
      n: how many pairs.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and (self.low > 0 or self.high < 0)


def summarize(values: Iterable[float]) -> Summary:
    """Mean, sample standard deviation and n of finite `values`."""
    x = np.asarray(list(values), np.float64)
    if x.size == 0:
        return Summary(None, None, 0)
    return Summary(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else None, int(x.size))


def paired_difference(
    variant: Mapping[Hashable, float], baseline: Mapping[Hashable, float], confidence: float = CONFIDENCE
) -> Difference:
    """The difference over the keys (seed, and split if there are several) that both have.

    The interval is Student's for the mean of the differences d: mean(d) ± t(n − 1) · std(d) / √n.  It answers for one
    comparison; it is not corrected for looking at many.
    """
    from scipy.special import stdtrit

    d = np.asarray([variant[key] - baseline[key] for key in variant if key in baseline], np.float64)
    if d.size == 0:
        return Difference(None, None, None, 0)
    mean = float(d.mean())
    if d.size == 1:
        return Difference(mean, None, None, 1)
    size = max(max(abs(variant[key]), abs(baseline[key])) for key in variant if key in baseline)
    if np.ptp(d) <= RESOLUTION * size:
        return Difference(mean, None, None, int(d.size))
    half = float(stdtrit(d.size - 1, (1 + confidence) / 2) * d.std(ddof=1) / math.sqrt(d.size))
    return Difference(mean, mean - half, mean + half, int(d.size))


def crossed_paths(run: Run) -> tuple[str, ...]:
    """What every variant is repeated over: `seed`, and paths that take several values within one variant (a split)."""
    paths = {"seed": None}
    for variant in run.variants:
        trials = run.of(variant)
        for path in dict.fromkeys(path for trial in trials for path in trial.overrides):
            if any(not same(trial.overrides.get(path), trials[0].overrides.get(path)) for trial in trials):
                paths[path] = None
    return tuple(paths)


def pairing_key(trial: Trial, crossed: Sequence[str]) -> Hashable:
    """What a trial has in common with its counterpart in another variant.

    >>> pairing_key(Trial("a-s1", "a", 1, {"seed": 1, "model.depth": 3}), ("seed",))
    ('1',)
    """
    return tuple(repr(trial.seed if path == "seed" else trial.overrides.get(path)) for path in crossed)


def by_pair(trials: Iterable[Trial], metric: str, crossed: Sequence[str]) -> dict[Hashable, float]:
    """The metric of the trials that count, by pairing key."""
    return {pairing_key(trial, crossed): trial.metrics[metric] for trial in counted(trials) if metric in trial.metrics}


def counted(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials that a mean is over: those that finished.

    A diverged, failed, pruned, missing or unreadable one has no final score to average; the table counts it beside.
    """
    return tuple(trial for trial in trials if trial.status == "finished")


def same(a, b) -> bool:
    """Equality of JSON values that keeps 1 and True apart."""
    return type(a) is type(b) and a == b if isinstance(a, bool) or isinstance(b, bool) else a == b


# Names are split into words ("roc_auc" → roc, auc; "mAP@0.5" → map); a word that says "less is better" decides first,
# so that "calibration_error_map" or "accuracy_loss" are not taken for scores.
_DOWN = frozenset(
    """loss error errors rmse mse mae perplexity ppl bits nats wer cer per ter ece calibration brier nll cost fid kid
    frechet distance divergence kl deviation regret misses""".split()  # noqa: SIM905  (words read better than a list)
)
_UP = frozenset(
    """accuracy acc auc auroc auprc bleu chrf rouge meteor f1 f map ap ar iou miou dice precision recall sensitivity
    specificity r2 psnr ssim pearson spearman kendall correlation mcc kappa ndcg mrr hits match em top likelihood elbo
    return reward validity valid uniqueness unique novelty novel success wins score""".split()  # noqa: SIM905
)


def direction(metric: str) -> Literal["up", "down"] | None:
    """Which way a metric gets better, from its name; None if the name does not say.

    >>> [direction(name) for name in ("test/accuracy", "validation/bits_per_byte", "test/mAP@0.5", "test/tokens")]
    ['up', 'down', 'up', None]
    """
    words = re.split(r"[^a-z0-9]+", metric.rsplit("/", 1)[-1].lower())
    words = {word for full in words for word in (full, full.rstrip("0123456789"))} - {""}
    if words & _DOWN:
        return "down"
    return "up" if words & _UP else None


def better(a: float, b: float, metric: str) -> bool:
    """Whether `a` is better than `b`; a metric whose direction is unknown is read as "more is better"."""
    return a < b if direction(metric) == "down" else a > b


def table_metrics(run: Run) -> tuple[str, ...]:
    """The columns: every test metric, or every validation metric if nothing was tested; the main one first."""
    names = dict.fromkeys(name for trial in counted(run.trials) or run.trials for name in trial.metrics)
    for split in ("test/", "validation/"):
        if chosen := [name for name in names if name.startswith(split)]:
            main = main_metric(_shared(run, chosen) or chosen, run.metric)
            return (main, *(name for name in chosen if name != main))
    return ()


def _shared(run: Run, names: Sequence[str]) -> list[str]:
    """Those of which every variant has a number that has any."""
    variants = [[trial.metrics for trial in counted(run.of(variant))] for variant in run.variants]
    return [name for name in names if all(any(name in found for found in own) for own in variants if any(own))]


def main_metric(names: Sequence[str], wanted: str = "") -> str:
    """The metric that orders variants: the one the protocol selects by, else a score, else an error, else a loss."""

    def rank(name: str) -> tuple:
        word = name.rsplit("/", 1)[-1]
        kind = {"up": 0, "down": 1, None: 3}[direction(name)]
        return (bool(wanted) and word != wanted.rsplit("/", 1)[-1], 2 if "loss" in word and kind == 1 else kind)

    return min(names, key=rank)


def varied_paths(run: Run) -> tuple[str, ...]:
    """The dotted paths in which variants differ, apart from what all of them are repeated over."""
    crossed = crossed_paths(run)
    paths = dict.fromkeys(path for trial in run.trials for path in trial.overrides if path not in crossed)
    return tuple(path for path in paths if len({repr(value_of(run, v, path)) for v in run.variants}) > 1)


def value_of(run: Run, variant: str, path: str):
    """The value of `path` in a variant: what it overrides, else what its resolved config says, else None."""
    from research.report.read import lookup

    trials = run.of(variant)
    for trial in trials:
        if path in trial.overrides:
            return trial.overrides[path]
    for trial in trials:
        if trial.config:
            return lookup(trial.config, path)
    return None
