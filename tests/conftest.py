"""Sets up eight virtual devices for every test in this process, and the folder of real data."""

import os
import pathlib
import tempfile

# On a CPU, a collective blocks one thread per device, so XLA deadlocks with fewer threads than devices.
os.environ.setdefault("NPROC", "32")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile many small programs and run each briefly, so most of their time would go into optimisation.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE "
    "--xla_cpu_use_fusion_emitters=false",
)

import pytest

# The processes of a session, including those that tests start, compile each larger program only once.
COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def pytest_configure(config: pytest.Config) -> None:
    """Removes the folder of compiled programs at the end of the session."""
    if COMPILED is not None:
        config.add_cleanup(COMPILED.cleanup)


@pytest.fixture(scope="session")
def data_root() -> pathlib.Path:
    """The folder of real data sets (`ESPALIER_DATA`); tests that need it are skipped without it."""
    path = os.environ.get("ESPALIER_DATA")
    if not path or not pathlib.Path(path).is_dir():
        pytest.skip("needs real data: set ESPALIER_DATA to the folder that holds it")
    return pathlib.Path(path)


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skips tests that run programs on a machine that cannot confine them."""
    from research.errors import RequestError
    from research.generated_code import run

    try:
        run("")
    except RequestError as error:
        pytest.skip(str(error))
