"""Kills one of two processes that train together at random moments, many times, and prints what came of it.

    python tests/kill_processes.py --kills 30 --terms 10

Each line: the signal, its moment, the exit statuses, and how long the processes took to end.  It ends with an error if
they hang, if a trial fails, or if the end differs from that of an undisturbed run.
"""

import argparse
import pathlib
import random
import signal
import tempfile

from command_line import read, write_module
from processes import Processes, assert_close, disturb

MODULE = """
    import families


    def experiment():
        return families.experiment("mlp", steps=4000, log_every=50, eval_every=200)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    generator = random.Random(asked.seed)
    signals = [signal.SIGKILL] * asked.kills + [signal.SIGTERM] * asked.terms
    generator.shuffle(signals)
    folder = pathlib.Path(tempfile.mkdtemp())
    module = write_module(folder / "mlp.py", MODULE)

    def whole(run: pathlib.Path) -> None:
        outcomes = Processes(folder / "io", 2, 2, "run", module, "--out", run).wait()
        assert [outcome.status for outcome in outcomes] == [0, 0], outcomes

    whole(folder / "undisturbed")
    longest, ended = 0.0, 0
    for attempt, number in enumerate(signals):
        run = folder / f"run{ended}"
        once = disturb(folder / f"io{attempt}", generator.randrange(2), number, generator, "run", module, "--out", run)
        longest = max(longest, once.seconds)
        results = [read(result)["status"] for result in run.glob("trials/*/result.json")]
        assert set(results) <= {"finished"}, once
        statuses = [outcome.status for outcome in once.outcomes]
        moment = f"{number.name} to process {once.victim} after {once.after:.1f} s"
        print(f"{moment}: {statuses} in {once.seconds:.1f} s", flush=True)
        if results:
            assert_close(run, folder / "undisturbed", atol=0)
            ended += 1
    whole(folder / f"run{ended}")
    assert_close(folder / f"run{ended}", folder / "undisturbed", atol=0)
    print(f"{len(signals)} signals; {ended + 1} runs as the undisturbed one; the longest end took {longest:.1f} s")


if __name__ == "__main__":
    main()
