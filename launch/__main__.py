"""Runs `python -m launch`, and `espalier`, the same as an installed command."""

import os
import sys

from launch.cli import main
from research.parallel.host_memory import keep_freed_memory_on_cpu


def run() -> int:
    """Runs the command line of this process, and returns its exit status."""
    if os.getcwd() not in sys.path:  # where `python -m` looks for modules, too
        sys.path.append(os.getcwd())
    keep_freed_memory_on_cpu()
    return main(own_process=True)


if __name__ == "__main__":
    sys.exit(run())
