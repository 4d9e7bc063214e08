"""Convolutions, forward and for each of their two gradients, with each kernel of research/layers/convolve.py.

    python -m experiments.speed.convolution_kernels            the layers of small CNNs, ResNets and ViT
    python -m experiments.speed.convolution_kernels resnet     those of one network

The table for `kernel="auto"` is based on these timings.  Prints GFLOP/s (2 per product, including padding), best first;
* marks the table's choice.  For ConvNeXt and EfficientNet, only depthwise layers are measured.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax

from experiments.speed.side_by_side import in_turns
from research.layers.convolve import choose_kernels, convolve
from research.layers.kernels import target_platform
from research.layers.window import Window, output_size

LAYERS = {  # batch, side of the map, channels, features, side of the kernel, stride
    "resnet": (
        (32, 32, 3, 64, 7, 2), (32, 8, 64, 64, 3, 1), (32, 8, 64, 128, 3, 2), (32, 4, 128, 128, 3, 1),
        (32, 4, 128, 256, 3, 2), (32, 2, 256, 256, 3, 1), (32, 2, 256, 512, 3, 2), (32, 1, 512, 512, 3, 1),
        (32, 4, 128, 256, 1, 2),
    ),
    "resnet_cifar": (
        (32, 32, 3, 64, 3, 1), (32, 32, 64, 64, 3, 1), (32, 32, 64, 128, 3, 2), (32, 16, 128, 128, 3, 1),
        (32, 16, 128, 256, 3, 2), (32, 8, 256, 256, 3, 1), (32, 8, 256, 512, 3, 2), (32, 4, 512, 512, 3, 1),
        (32, 32, 64, 128, 1, 2),
    ),
    "small": (
        (128, 28, 1, 16, 3, 1), (128, 28, 1, 32, 3, 1), (128, 28, 16, 16, 3, 1), (128, 28, 16, 32, 3, 2),
        (128, 14, 32, 64, 3, 1), (128, 14, 32, 64, 3, 2), (128, 7, 64, 64, 3, 1),
    ),
    "vit": ((32, 32, 3, 192, 4, 4),),
    "convnext": ((32, 16, 24, 24, 7, 1), (32, 8, 48, 48, 7, 1), (32, 4, 96, 96, 7, 1), (8, 56, 96, 96, 7, 1)),
    "efficientnet": (
        (8, 112, 32, 32, 3, 1), (8, 112, 96, 96, 3, 2), (8, 56, 144, 144, 5, 2), (8, 14, 480, 480, 5, 1),
        (8, 7, 1152, 1152, 3, 1),
    ),
}  # fmt: skip
DEPTHWISE = ("convnext", "efficientnet")
PASSES = ("output", "input gradient", "weight gradient")
KERNELS = ("xla", "patches", "shifts")
SECONDS = 0.05  # per turn
ROUNDS = 3


def contender(which: str, kernel: str, layer: tuple[int, ...], groups: int) -> Callable[[], float]:
    """Makes a function that returns the calls/s of one pass over a layer with one kernel."""
    shape, extents, window = shapes(layer, groups)
    x = jax.random.normal(jax.random.key(0), shape)
    weights = jax.random.normal(jax.random.key(1), extents)
    forward = partial(convolve, strides=window.strides, padding=window.padding, groups=groups, kernel=kernel)
    dy = forward(x, weights)
    run = {
        "output": lambda x, weights, dy: forward(x, weights),
        "input gradient": lambda x, weights, dy: jax.vjp(lambda x: forward(x, weights), x)[1](dy),
        "weight gradient": lambda x, weights, dy: jax.vjp(lambda weights: forward(x, weights), weights)[1](dy),
    }[which]
    program = jax.jit(run, keep_unused=True).lower(x, weights, dy).compile()
    jax.block_until_ready(program(x, weights, dy))

    def measured() -> float:
        calls, started = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - started < SECONDS:
            jax.block_until_ready(program(x, weights, dy))
            calls += 1
        return calls / (time.perf_counter() - started)

    return measured


def shapes(layer: tuple[int, ...], groups: int) -> tuple[tuple[int, ...], tuple[int, ...], Window]:
    """The shapes of the map and the weights, with strides and padding."""
    batch, side, channels, features, extent, stride = layer
    half = 0 if extent == stride else extent // 2
    window = Window((stride, stride), ((half, half), (half, half)), groups)
    return (batch, side, side, channels), (extent, extent, channels // groups, features), window


def gflop(layer: tuple[int, ...], groups: int) -> float:
    shape, weights, window = shapes(layer, groups)
    return 2e-9 * shape[0] * math.prod(output_size(shape, weights, window)) * math.prod(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*LAYERS, []], default=[], metavar="network")
    asked = parser.parse_args()
    for network in asked.networks or LAYERS:
        print(f"{network}: batch, side, channels, features, side of the kernel, stride")
        for layer in LAYERS[network]:
            groups = layer[2] if network in DEPTHWISE else 1
            kernels = ("xla", "shifts") if network in DEPTHWISE else KERNELS
            chosen, _ = choose_kernels(*shapes(layer, groups), target_platform())
            for which, choice in zip(PASSES, chosen, strict=True):
                found = in_turns({kernel: contender(which, kernel, layer, groups) for kernel in kernels}, ROUNDS)
                rates = {kernel: gflop(layer, groups) * statistics.median(values) for kernel, values in found.items()}
                ranked = sorted(rates, key=lambda kernel: -rates[kernel])
                row = "  ".join(f"{kernel}{'*' * (kernel == choice)} {rates[kernel]:.3g}" for kernel in ranked)
                print(f"{layer!s:28} {which:16} {row}", flush=True)


if __name__ == "__main__":
    main()
