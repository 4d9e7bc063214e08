import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, threading, sys
import numpy as np
from research.parallel.host_memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = []
thread = threading.Thread(target=lambda: found.extend(faults() for _ in range(3)))
thread.start()
thread.join()
print(found[-1])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_used_again():
    found = {}
    for how in ("keep", "plain"):
        run = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
        found[how] = int(run.stdout)
    assert found["keep"] < 100
    assert found["plain"] > 25 * found["keep"]
