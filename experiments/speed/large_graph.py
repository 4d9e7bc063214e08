"""A graph of a million nodes and ten million edges on this machine: seconds a step, and memory.

    python -m experiments.speed.large_graph                       in full batch
    python -m experiments.speed.large_graph --fan-out 10 10       by sampled neighbourhoods of 1,000 nodes a step
    python -m experiments.speed.large_graph --nodes 100000 --edges 1000000

Trains GCN with 16 features on generated features of 16 and random edges, through the programs of every other
experiment.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import time

import jax
import numpy as np

from research import Experiment, data, models, optimizers, tasks
from research.data.feeds import make_feeds
from research.errors import command
from research.training.abstract import hparam_arrays
from research.training.programs import make_programs


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomGraph(data.Data):
    """Random features and edges; the label of a node is the sign of its first feature."""

    nodes: int
    edges: int

    def read(self) -> data.Splits:
        generator = np.random.default_rng(0)
        features = generator.standard_normal((self.nodes, 16), np.float32)
        edges = generator.integers(0, self.nodes, (self.edges, 2), np.int32)
        loops = edges[:, 0] == edges[:, 1]
        edges[loops, 0] = (edges[loops, 0] + 1) % self.nodes
        edges = edges[np.argsort(edges[:, 1], kind="stable")]
        node = np.arange(1000, dtype=np.int32)
        labelled = {"node": node, "label": (features[:1000, 0] > 0).astype(np.int32)}
        return data.Splits(data.Columns(labelled, {"nodes": features, "edges": edges}))


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--fan-out", type=int, nargs="*", default=[], metavar="N", help="neighbours in each layer")
    args = parser.parse_args()
    experiment = Experiment(
        model=models.GCN(widths=(16,), classes=2),
        task=tasks.NodeClassification(classes=2, fan_out=tuple(args.fan_out)),
        data=RandomGraph(nodes=args.nodes, edges=args.edges, validation=0),
        optimizer=optimizers.Adam(learning_rate=1e-2),
        steps=args.steps + 1,
        batch_size=1000,
    )
    splits = experiment.data.load()
    experiment = experiment.fit(splits)
    feeds = make_feeds(splits, experiment.data)
    print(feeds.train.reason)
    programs = make_programs(experiment, feeds.train.resident)
    batches = feeds.train.batches(0, experiment.batch_size)
    state = programs.init([0], [hparam_arrays(experiment)], batches.sent(0))
    for step in range(args.steps + 1):
        start = time.perf_counter()
        state, metrics = programs.train(state, [batches.sent(step)])
        loss = float(np.asarray(jax.device_get(metrics["loss"])).ravel()[0])
        said = "with compiling" if step == 0 else ""
        print(f"step {step}: loss {loss:.4f}, {time.perf_counter() - start:.1f} s {said}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.nodes:,} nodes, {args.edges:,} edges: at most {peak:.1f} GiB of memory")


if __name__ == "__main__":
    raise SystemExit(main())
