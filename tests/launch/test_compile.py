"""`launch compile`: compiles a step for other devices, from shapes alone."""

import importlib.util

import jax
import pytest
from command_line import launch, write_module

MODULE = """
    import dataclasses
    import numpy as np
    import toys
    from research.data.spec import Data
    from research.parallel.spec import Parallel

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Elsewhere(Data):
        "Images that are on no disk here."

        def example(self):
            return {"image": np.zeros((4, 3), np.float32), "label": np.zeros((), np.int32)}

        def read(self):
            raise AssertionError("no data are needed to compile")

    def experiment():
        return toys.experiment(data=Elsewhere(), parallel=Parallel(), batch_size=32)
"""


@pytest.fixture(scope="module", autouse=True)
def devices():
    """Initialises the tests' eight devices, which JAX does once per process, before a command requests others."""
    assert jax.device_count() == 8


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return write_module(tmp_path_factory.mktemp("compile") / "elsewhere.py", MODULE)


def said(outcome) -> dict[str, str]:
    assert outcome.status == 0, outcome
    return dict(line.split(":", 1) for line in outcome.out.splitlines())


def test_it_says_what_a_device_needs_without_any_data(module):
    found = said(launch("compile", module, "--devices", "4"))
    assert found["devices"].strip() == "4 x cpu (mesh: data 4)"
    assert found["batch"].strip() == "32 examples, 8 per device"
    assert found["parameters"].strip() == "371"
    assert "GiB per device" in found["memory"] and "fits" not in found
    one = said(launch("compile", module, "--devices", "1"))
    work, share = (float(lines["FLOPs"].split()[0]) for lines in (one, found))
    assert 0.2 * work < share < 0.5 * work


def test_an_experiment_with_data_at_hand_needs_to_say_nothing_of_them(tmp_path):
    module = write_module(tmp_path / "here.py", "import toys\n\ndef experiment():\n    return toys.experiment()\n")
    assert said(launch("compile", module))["devices"].strip() == "1 x cpu (mesh: data 1)"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--devices", "none"), "error: --devices none: expected a whole number, at least 1"),
        (("--devices", "3"), "batch_size=32 in 1 micro-batches does not divide over 3 devices"),
        (("--devices", "4000"), "--devices 4000: this process has 8 CPU devices already"),
        (("--devices", "4", "--topology", "v5e:4x4"), "not allowed with argument --devices"),
        (("--devices", "4", "--set", "parallel.strategy=pmap"), "parallel.strategy=pmap: expected jit"),
        (("--devices", "4", "--set", "model.classes=2"), "task.classes=3: the model gives 2 logits"),
        (("--devices", "4", "--set", "optimizer.frozen=hed/*"), "frozen='hed/*': matches none"),
    ],
)
def test_a_wrong_request_is_one_line(module, arguments, says):
    outcome = launch("compile", module, *arguments)
    assert outcome.status == 2 and outcome.out == "" and outcome.err.count("\n") == 1
    assert says in outcome.err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_a_topology_without_its_compiler_names_the_extra(module):
    outcome = launch("compile", module, "--topology", "v5e:4x4")
    assert outcome.status == 2
    assert outcome.err == ("error: --topology v5e:4x4 needs libtpu, which is not installed: pip install -e '.[tpu]'\n")
