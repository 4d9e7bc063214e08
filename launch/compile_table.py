"""The table of published sizes on topologies: memory, bounds on the time of a step, and bytes of collectives.

    python -m launch.compile_table --out compiled.jsonl
    python -m launch.compile_table --out compiled.jsonl --only gpt2,llama2-7b --on v5e:4x4,h100:8

Compiles each experiment of experiments/published_sizes.py for each topology, with a sixteenth of its batch on each
device.  Needs the extras [tpu] and [cuda13], but neither accelerators nor data; a program takes from ten seconds to
several minutes.  Each program adds a line to the file; what is there already is not compiled again.  The table is
printed in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import Any

from launch import targets
from research.errors import command, nearest, require

TOPOLOGIES = ("v5e:4x4", "v6e:16x16", "v5p:4x4x4", "h100:8")


def compiled(name: str, topology: str) -> dict[str, Any]:
    """Compiles a published size for a topology; returns what the table shows."""
    from experiments import published_sizes
    from launch.compiled import compile_step, known
    from launch.estimate import estimate
    from research.config.override import override
    from research.errors import RequestError

    devices = targets.devices_of(topology)
    own = override(published_sizes.experiment(), published_sizes.sizes()[name])
    own = dataclasses.replace(own, batch_size=max(1, own.batch_size // 16) * len(devices))
    row = {"size": name, "topology": topology, "devices": len(devices), "batch": own.batch_size}
    try:
        found = compile_step(known(own), devices)
    except RequestError as error:
        return row | {"fails": str(error)}
    row |= {"parameters": found.parameters, "seconds": round(found.seconds, 1), "fits": found.fits}
    if found.memory is not None:
        row["memory"] = found.memory.total
    if found.program is None:
        return row
    work = estimate(found)
    sent = sum(one.times * one.sent for one in work.collectives)
    return row | {"flops": work.flops, "model_flops": work.model_flops, "sent": sent, "bounds": work.bounds}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each size and topology; examples, memory, FLOPs and bytes sent are those of a device."""
    from research.parallel.chips import CHIPS

    peak = {chip.name: chip.flops for chip in CHIPS}
    lines = [
        "| size | topology | examples | memory, GiB | FLOPs | sent, MiB | step at least, ms | bound by | MFU at most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['size']} | {row['topology']} | {row['batch'] / row['devices']:g}"
        if "flops" not in row:
            needs = f"{row['memory'] / 2**30:.1f}" if "memory" in row else ""
            lines.append(f"{start} | {needs} | {'the compiler fails' if 'fails' in row else 'does not fit'} | | | | |")
            continue
        by, seconds = max(row["bounds"].items(), key=lambda bound: bound[1])
        best = row["model_flops"] / peak[row["topology"].partition(":")[0]] / seconds
        memory = f"{row['memory'] / 2**30:.1f}" + ("" if row["fits"] else ", does not fit")
        numbers = f"{row['flops']:.3g} | {row['sent'] / 2**20:,.0f} | {1e3 * seconds:.3g} | {by} | {min(best, 1):.0%}"
        lines.append(f"{start} | {memory} | {numbers} |")
    return "\n".join(lines)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="sizes, separated by commas (default: all)")
    parser.add_argument("--on", default=",".join(TOPOLOGIES), help="topologies, separated by commas")
    asked = parser.parse_args()
    require(asked.out.parent.is_dir(), f"--out {asked.out}: no folder {asked.out.parent}")
    targets.prepare()
    from experiments import published_sizes

    known = published_sizes.sizes()
    sizes, topologies = asked.only.split(",") if asked.only else list(known), asked.on.split(",")
    for name in sizes:
        require(name in known, f"--only {name}: no such size; {nearest(name, known)}")
    lines = asked.out.read_text().splitlines() if asked.out.exists() else []
    rows = {(row["size"], row["topology"]): row for row in map(json.loads, lines)}
    for topology in topologies:
        for name in sizes:
            if (name, topology) not in rows:
                print(f"{name} on {topology}", file=sys.stderr, flush=True)
                rows[name, topology] = compiled(name, topology)
                with asked.out.open("a") as file:  # several processes may add to it
                    file.write(json.dumps(rows[name, topology]) + "\n")
    print(markdown([rows[name, topology] for name in known for topology in topologies if (name, topology) in rows]))


if __name__ == "__main__":
    raise SystemExit(main())
