"""A process that takes leases on command, for tests of two launchers in one folder: `python contender.py`, with a
command on each line of standard input.

    hold FOLDER       takes the lease at once, marks the folder as being written to for a moment, gives it back
    train FOLDER      takes the lease and logs steps to metrics.jsonl until it is told to end by a file named `end`

Each command answers with a line: done, refused, lost, or two writers.
"""

import contextlib
import os
import pathlib
import random
import sys
import time

from research.errors import RequestError
from research.running.lease import Lease, LeaseLost
from research.training.records import MetricsLog, read_lines


def hold(folder: pathlib.Path) -> str:
    """Takes the lease; the file `writing`, created exclusively, shows whether somebody else holds it too."""
    mark = folder / "writing"
    with Lease(folder) as lease:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "two writers"
        time.sleep(random.uniform(0, 0.005))
        lease.check()
        mark.unlink()
    return "done"


def train(folder: pathlib.Path) -> str:
    """Logs one step after another, continuing from the last line that is there."""
    with Lease(folder) as lease:
        path = folder / "metrics.jsonl"
        step = max((line["step"] for line in read_lines(path)), default=0) if path.exists() else 0
        log = MetricsLog(folder, resume_from=step, permit=lease.check)
        while not (folder / "end").exists():
            step += 1
            log.write(step, "train", {"process": os.getpid()})
            log.flush()
    return "done"


if __name__ == "__main__":
    print("ready", flush=True)
    for asked in sys.stdin:
        command, _, where = asked.strip().partition(" ")
        answer = "lost"
        with contextlib.suppress(LeaseLost):
            try:
                answer = {"hold": hold, "train": train}[command](pathlib.Path(where))
            except RequestError:
                answer = "refused"
        print(answer, flush=True)
