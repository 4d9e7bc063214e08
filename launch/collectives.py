"""Reads the collectives of a compiled program from its text: how often each runs, and how many bytes a device sends.

A ring moves n bytes among g devices with (g - 1) / g · n bytes sent by each: an all-gather of n bytes in all, a
reduce-scatter or an all-to-all; an all-reduce sends twice as many (Thakur et al., 2005).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

BETWEEN = "send between slices"
"""The kind of a transfer by the runtime of several slices, which XLA makes of their part of a collective."""

_CALL = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|\w+_computations?)=(?:%?([\w.\-]+)|\{([^}]*)\})")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_SEND = re.compile(r"= \((.*?), u32\[\], token\[\]\) send\(.*_xla_megascale_transfer_type=\"(\w+)\"")
_CHANNEL, _TRIPS = re.compile(r"channel_id=(\d+)"), re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_WHILE = re.compile(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)")
_LISTED = re.compile(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}")


class Collective(NamedTuple):
    """A collective of a program.

    Attributes:
      kind: one of `KINDS`, or `BETWEEN`.
      times: how often it runs in a call of the program.
      sent: bytes that a device sends each time.
      outside: the bytes, out of `sent`, that leave the device's slice or host, if every slice first combines its own.
    """

    kind: str
    times: int
    sent: float
    outside: float


def collectives(program: str, domains: Sequence[int]) -> list[Collective]:
    """The collectives of a compiled program.

    Args:
      program: its text (`Compiled.as_text()`).
      domains: the slice, or the host of GPUs, of each device, in the order of the mesh.
    """
    found: dict[tuple, Collective] = {}
    for name, times in _times(bodies := _computations(program)).items():
        for number, line in enumerate(bodies[name]):
            if send := _SEND.search(line):
                found[name, number] = _between(send, times, len(set(domains)))
            if not (call := _CALL.search(line)):
                continue
            channel = _CHANNEL.search(line)
            # XLA may do parts of one collective inside a loop that runs at the same time: all have its channel, and its
            # start and its end run as often as it does.
            key = (channel[1], call[2]) if channel else (name, number)
            one = _collective(call, line, times, domains)
            if key not in found or found[key].times > times:
                found[key] = one
    return [one for one in found.values() if one.sent]


def _between(send: re.Match, times: int, slices: int) -> Collective:
    """A slice's part of a collective over several slices."""
    share = 2 * (slices - 1) / slices if send[2] == "ALL_REDUCE" else slices - 1
    return Collective(BETWEEN, times, share * _bytes(send[1]), share * _bytes(send[1]))


def _collective(call: re.Match, line: str, times: int, domains: Sequence[int]) -> Collective:
    kind, started, size = call[2], call[3], _bytes(call[1])
    if kind == "collective-permute":
        size /= 2 if started else 1  # the type of a start has its operand as well
        pairs = [tuple(map(int, pair.split(","))) for pair in _inner(_PAIRS.search(line))]
        crosses = any(domains[a] != domains[b] for a, b in pairs)
        return Collective(kind, times, size, size if crosses else 0)
    group = _groups(line, len(domains))[0]
    g = len(group)
    if kind in ("all-gather", "reduce-scatter"):
        size = size * g / (g + 1) if started else size * (g if kind == "reduce-scatter" else 1)
    if kind == "all-to-all" and started:
        size /= 2
    parts = len({domains[device] for device in group})
    rounds = 2 if kind == "all-reduce" else 1
    return Collective(
        kind, times, rounds * size * (g - 1) / g, rounds * size * parts / g * (parts - 1) / parts if parts > 1 else 0
    )


def _computations(program: str) -> dict[str, list[str]]:
    """{name of a computation: its lines}; the one where the program starts is named ""."""
    found, lines = {}, []
    for line in program.splitlines():
        if not line.startswith(" ") and (head := _COMPUTATION.match(line)):
            lines = found.setdefault("" if head[1] else head[2], [])
        elif line.startswith(" "):
            lines.append(line)
    return found


def _times(bodies: dict[str, list[str]]) -> dict[str, int]:
    """Counts the runs of each computation in a call of the program; loops without a known number of rounds run once."""
    times: dict[str, int] = defaultdict(int)

    def visit(name: str, rounds: int) -> None:
        times[name] += rounds
        for line in bodies[name]:
            loop = _WHILE.search(line)
            for one, several in _CALLED.findall(line):
                for inner in (part.strip(" %") for part in (several or one).split(",")):
                    if inner in bodies:
                        again = _trips(line, bodies[loop[1]]) if loop and inner == loop[2] else 1
                        visit(inner, rounds * again)

    visit("", 1)
    return times


def _trips(line: str, condition: list[str]) -> int:
    """Rounds of a loop: as XLA knows them, or from its condition, which compares a counter from 0 with a constant."""
    if known := _TRIPS.search(line):
        return int(known[1])
    text = "\n".join(condition)
    limits = re.findall(r"[su]32\[\]\S* constant\((\d+)\)", text)
    return int(limits[0]) if len(limits) == 1 and "direction=LT" in text else 1


def _groups(line: str, devices: int) -> list[list[int]]:
    """The groups of devices among which a collective runs, by their places in the mesh."""
    if listed := _LISTED.search(line):
        groups = [[int(x) for x in group.split(",") if x] for group in _inner(listed)]
        return groups if groups and groups[0] else [list(range(devices))]
    if iota := _IOTA.search(line):
        shape, dims, order = ([int(x) for x in part.split(",")] if part else None for part in iota.groups())
        places = np.arange(math.prod(dims)).reshape(dims)
        return (places if order is None else places.transpose(order)).reshape(shape).tolist()
    if mesh := _MESH.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        over = re.findall(r"'(\w+)'", mesh[2])
        places = np.arange(math.prod(map(int, sizes.values()))).reshape([int(x) for x in sizes.values()])
        axes = [list(sizes).index(axis) for axis in over]
        last = np.moveaxis(places, axes, range(-len(axes), 0))
        return last.reshape(-1, math.prod(places.shape[axis] for axis in axes)).tolist()
    return [list(range(devices))]


def _inner(listed: re.Match | None) -> list[str]:
    """The parts of "{1,2},{3,4}"."""
    return re.findall(r"\{([\d,]*)\}", listed[1]) if listed else []


def _bytes(types: str) -> float:
    """Bytes of a type or tuple of types, without the scalars of a start."""
    total = 0.0
    for dtype, dims in _SHAPE.findall(types):
        if dtype == "u32" and not dims and types.startswith("("):
            continue
        bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
        total += math.prod(int(x) for x in dims.split(",") if x) * bits / 8
    return total
