"""Sets up eight virtual devices for every test in this process, and the folder of real data."""

import os
import pathlib

# On a CPU, a collective blocks one thread per device, so XLA deadlocks with fewer threads than devices.
os.environ.setdefault("NPROC", "32")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile many small programs and run each briefly, so most of their time would go into optimisation.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import pytest


@pytest.fixture(scope="session")
def data_root() -> pathlib.Path:
    """The folder of real data sets (`ESPALIER_DATA`); tests that need it are skipped without it."""
    path = os.environ.get("ESPALIER_DATA")
    if not path or not pathlib.Path(path).is_dir():
        pytest.skip("needs real data: set ESPALIER_DATA to the folder that holds it")
    return pathlib.Path(path)
