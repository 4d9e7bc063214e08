"""Loads and checks the data of a request, and resolves its experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from research.config.once import Once
from research.config.serialization import canonical
from research.data.feeds import Feeds, KnownFeeds, make_feeds
from research.errors import in_one_line
from research.experiment import FITTED, Experiment
from research.running import plan
from research.running.request import Request
from research.training.check import check_trainable


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The trials of a request with their data, resolved and checked.

    Attributes:
      experiments: the resolved experiment of each trial.
      feeds: the data of each trial.
      once: what was computed of the parts that the experiments share.
    """

    experiments: dict[str, Experiment]
    feeds: dict[str, Feeds]
    once: Once

    def of(self, names: Iterable[str]) -> Feeds:
        """The data that the trials of a group share."""
        return self.feeds[next(iter(names))]


def prepare(request: Request, prune: str | None = None, *, ended: Collection[str] = ()) -> Prepared:
    """Loads the data, resolves every trial's experiment, and checks that model, task, data and optimizer fit together.

    Args:
      request: the trials.
      prune: a metric that requires a validation split.
      ended: the names of trials that have been trained already, of which only the data are checked.

    Raises:
      RequestError: something does not fit; nothing has been compiled or written.
    """
    loaded: dict[tuple, tuple] = {}
    fitted: dict[tuple, Experiment] = {}
    known: KnownFeeds = {}
    once = Once()
    experiments, feeds, seen = {}, {}, set()
    for trial in request.trials:
        asked = trial.experiment
        with in_one_line(f"{trial.name}: " if len(request.trials) > 1 else ""):
            key = once(canonical, asked.data), asked.label
            if key not in loaded:
                splits = asked.load()
                own = make_feeds(splits, asked.data, known)
                loaded[key] = splits, own, (plan.shapes_of(own), *own.evaluation)
            splits, own, shapes = loaded[key]
            parts = (asked.label, *(once(canonical, getattr(asked, name)) for name in FITTED))
            if parts not in fitted:
                fitted[parts] = asked.fit(splits, own.decoded)
            experiment = dataclasses.replace(asked, **{name: getattr(fitted[parts], name) for name in FITTED})
            sign = plan.signature(experiment, once, data=False), shapes
            if sign not in seen and trial.name not in ended:
                check_trainable(experiment, own, prune)
                seen.add(sign)
        experiments[trial.name], feeds[trial.name] = experiment, own
    return Prepared(experiments, feeds, once)
