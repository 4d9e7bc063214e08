"""`launch compile`: compiles a step for other devices, from shapes alone."""

import importlib.util
import re

import jax
import pytest
from command_line import launch, write_module

from launch import compiled
from research.parallel.chips import Chip

MODULE = """
    import dataclasses
    import numpy as np
    import toys
    from research.data.spec import Data
    from research.models.mlp import MLP
    from research.parallel.spec import Parallel
    from research.sweep import grid

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
    one = said(launch("compile", module, "--topology", "cpu:1"))
    work, share = (float(lines["FLOPs"].split()[0]) for lines in (one, found))
    assert share == pytest.approx(work / 4, rel=1e-3)
    assert work == 3 * 2 * 32 * (12 * 16 + 16 * 8 + 8 * 3) - 2 * 32 * 12 * 16  # inputs get no gradients
    assert one["collectives"].strip() == "none"
    sent = float(found["collectives"].split("all-reduce ")[1].split()[0]) * 2**20
    assert sent == pytest.approx(2 * 3 / 4 * 4 * 371, rel=0.1)


@pytest.fixture
def chip(monkeypatch):
    """Gives CPU devices the figures of a chip with some bytes of memory."""

    def give(memory):
        monkeypatch.setattr(compiled, "chip_of", lambda kind: Chip("tiny", (kind,), 1e12, memory, 1e9, 1e9, None))

    return give


def test_a_known_chip_bounds_the_time_and_the_batch(module, chip):
    chip(100_000)
    found = said(launch("compile", module, "--devices", "4"))
    assert "GiB of 0.00 GiB per device" in found["memory"] and found["fits"].strip() == "yes"
    bounds = dict(re.findall(r"(compute|memory|links) ([\d.e-]+ m?s)", found["step"]))
    assert float(bounds["compute"].split()[0]) == pytest.approx(1e3 * float(found["FLOPs"].split()[0]) / 1e12, rel=0.01)
    assert found["step"].split("least ")[1].startswith(bounds["memory"])
    largest = int(found["largest batch"].split()[0].replace(",", ""))
    assert largest > 32 and largest % 4 == 0 and f"(--set batch_size={largest})" in found["largest batch"]
    again = launch("compile", module, "--devices", "4", "--set", f"batch_size={largest}", "--no-search")
    assert said(again)["fits"].strip() == "yes" and "largest batch" not in again.out


def test_a_step_that_does_not_fit_says_what_would(tmp_path, chip):
    module = write_module(tmp_path / "wide.py", MODULE.replace("batch_size=32", "batch_size=8, " + WIDE))
    chip(3_500_000)
    outcome = launch("compile", module, "--devices", "8")
    found = dict(line.split(":", 1) for line in outcome.out.splitlines())
    assert outcome.status == 1 and found["fits"].strip() == "no"
    settings = found["would fit"].split()
    assert settings == ["--set", "parallel.shard=fsdp"]
    assert launch("compile", module, "--devices", "8", "--no-search", *settings).status == 0


WIDE = "model=MLP(widths=(512, 512), classes=3)"


def test_every_variant_of_a_sweep_is_compiled(tmp_path):
    text = MODULE + "\n    def sweeps():\n        return {'batch': grid('batch_size', 16, 32)}\n"
    module = write_module(tmp_path / "swept.py", text)
    outcome = launch("compile", module, "--sweep", "batch", "--devices", "4", "--no-search")
    assert outcome.status == 0
    assert [line for line in outcome.out.splitlines() if line.startswith("batch")] == [
        "batch_size=16:", "batch:         16 examples, 4 per device",
        "batch_size=32:", "batch:         32 examples, 8 per device",
    ]  # fmt: skip


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
