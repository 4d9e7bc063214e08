"""Names of topologies are read, and wrong ones are refused in one line with the nearest."""

import importlib.util

import pytest
from command_line import refused

from launch.targets import _cloud_sizes, _spelled_out

NO_LIBTPU = importlib.util.find_spec("libtpu") is None


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        ("v5litepod-256", "v5e:16x16"),
        ("v5litepod-8", "v5e:2x4"),
        ("v6e-32", "v6e:4x8"),
        ("v4-8", "v4:2x2x1"),
        ("v4-32", "v4:2x2x4"),
        ("v5p-128", "v5p:4x4x4"),
        ("v5p-256", "v5p:4x4x8"),
        ("v7x-16", "tpu7x:2x2x2"),
        ("V5E:4x4", "v5e:4x4"),
        ("h100:8", "h100:8"),
    ],
)
def test_a_clouds_name_is_a_topology(name, topology):
    assert _spelled_out(name) == topology


def test_cloud_names_end_with_the_largest_slice():
    assert list(_cloud_sizes("v5e").items())[-1] == ("16x16", 256)
    assert list(_cloud_sizes("v5p"))[0] == "2x2x1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--topology", "v5litepod-255"), "no such topology; did you mean v5litepod-256?"),
        (("--topology", "h10:8"), "did you mean h100:8?"),
        (("--topology", "v5:4x4"), "did you mean v5e:4x4?"),
        (("--topology", "banana"), "no such topology; expected one such as v5e:4x4"),
        (("--topology", "v5e:0x4"), "no such topology; did you mean v5e:"),
        (("--topology", "v5e:2x2x2"), "expected 2 axes, such as v5e:4x4"),
        (("--topology", "v5p:4x4"), "expected 3 axes, such as v5p:2x2x2"),
        (("--topology", "v6e:4000x4000"), "expected at most"),
        (("--topology", "h100:12"), "expected 1 to 8 GPUs, or a multiple of 8"),
        (("--topology", "cpu:0"), "expected 1 to 10,000 devices"),
        (("--topology", "cpu:4000"), "this process has 8 CPU devices already"),
        (("--topology", "cpu:4", "--slices", "2"), "--slices 2: expected a TPU topology"),
        (("--slices", "2"), "--slices 2: expected --topology too"),
        (("--topology", "v5e:4x4", "--slices", "none"), "--slices none: expected a whole number, at least 1"),
    ],
)
def test_a_wrong_topology_is_one_line(arguments, says):
    assert says in refused(["compile", "digits_mlp", *arguments])


@pytest.mark.skipif(NO_LIBTPU, reason="libtpu is not installed")
def test_libtpu_describes_every_kind_of_slice():
    from launch.targets import devices_of, prepare
    from research.parallel.chips import chip_of

    prepare()
    for name, count in {"v4-16": 8, "v5litepod-1": 1, "v5p:2x2x1": 4, "v6e-16": 16, "tpu7x-16": 16}.items():
        devices = devices_of(name)
        assert len(devices) == count and chip_of(devices[0].device_kind) is not None
    assert {device.slice_index for device in devices_of("v5e:2x2", 2)} == {0, 1}
