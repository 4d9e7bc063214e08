"""Graphs that an aggregation can tell apart, and graphs that none can: sums, means and maxima (Xu et al., 2019).

Four pairs of generated graphs, of which a network of two layers says which kind it sees.  Neighbours and nodes are
aggregated in one way.

    python -m launch run experiments.graph_expressiveness                                  sums on degrees
    python -m launch run experiments.graph_expressiveness --sweep aggregation --seeds 3    all ways on all pairs

What the theory says: on `degree` only sums do better than chance; on `share` sums and means; on `presence` all three;
on `cycles`, which the Weisfeiler-Lehman test cannot tell apart, none.
"""

from research import Experiment, data, models, optimizers, tasks
from research.sweep import Sweep, Variant


def experiment() -> Experiment:
    return Experiment(
        model=models.GIN(widths=(16, 16), classes=1, output="graphs", readout="sum"),
        task=tasks.GraphLabels(),
        data=data.GraphPairs(pair="degree"),
        optimizer=optimizers.Adam(learning_rate=1e-2),
        steps=200,
        batch_size=8,  # rows of 128 nodes
        eval_every=100,
    )


def sweeps() -> dict[str, Sweep]:
    variants = [
        Variant(f"{pair}, {way}", {"data.pair": pair, "model.aggregation": way, "model.readout": way})
        for pair in ("degree", "share", "presence", "cycles")
        for way in ("sum", "mean", "max")
    ]
    return {"aggregation": Sweep(tuple(variants))}
