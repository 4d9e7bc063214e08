"""Runs `python -m launch`."""

import sys

from launch.cli import main
from research.parallel.host_memory import keep_freed_memory_on_cpu

if __name__ == "__main__":
    keep_freed_memory_on_cpu()
    sys.exit(main(own_process=True))
