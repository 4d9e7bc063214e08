"""Compiles the programs of the next trials in a thread, while those before train."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from research.data.feeds import Feeds
from research.experiment import Experiment
from research.parallel import hosts
from research.running.plan import ProgramCache


class Ahead:
    """At most one thread that compiles; who needs its program waits for it in `ProgramCache.get`.

    Nothing runs on the devices in the thread, so that no collective of training meets another.  It is only for a
    process of ours: a thread does not see what a caller has set around the call, such as JAX's precision.

    Args:
      cache: takes the compiled programs.
      own_process: this process does nothing else; if not, nothing is compiled ahead.
    """

    def __init__(self, cache: ProgramCache, *, own_process: bool):
        self._cache = cache
        self._on = own_process and not hosts.several()
        self._thread: threading.Thread | None = None

    def start(self, experiments: Sequence[Experiment], feeds: Feeds, *, stacked: bool) -> None:
        """Starts to compile the programs of a group, unless the thread is still busy."""
        if self._on and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._compile, args=(experiments, feeds, stacked))
            self._thread.start()

    def _compile(self, experiments: Sequence[Experiment], feeds: Feeds, stacked: bool) -> None:
        with contextlib.suppress(Exception):  # `get` meets the same error, and tells it
            self._cache.compile_ahead(experiments, feeds, stacked=stacked)
