"""`launch run`: trains a request with progress on the terminal, and prints its table."""

from __future__ import annotations

import sys

from launch.reporting import report
from research.console import say
from research.errors import Stopped
from research.parallel import hosts
from research.running.folder import RunFolder
from research.running.request import Request
from research.running.run import run as run_request
from research.training.loop import Interrupted
from research.training.progress import TextProgress


def run(
    request: Request, out: str | None, *, stack: str = "auto", prune: str | None = None, own_process: bool = False
) -> int:
    """Trains unfinished trials and reports; returns the exit status of the command.

    Args:
      request: the trials to train.
      out: the run's folder; None means runs/EXPERIMENT/SWEEP.
      stack, prune, own_process: as for `research.running.run.run`.

    Raises:
      RequestError: the request is wrong; nothing has been trained.
    """
    folder = RunFolder(out or request.folder, "--out ")
    how = {"stack": stack, "prune": prune, "own_process": own_process}
    try:
        outcome = run_request(request, folder, progress=TextProgress(), report=lambda path: report([path]), **how)
    except hosts.Lost:
        raise
    except Interrupted as interrupted:
        if hosts.leads():
            say(f"{interrupted}; the same command continues from there", sys.stderr)
        return hosts.AGAIN if hosts.several() else 1
    except Stopped as stopped:
        if hosts.leads():
            say(str(stopped), sys.stderr)
        return 1
    return 0 if outcome.ended else 1
