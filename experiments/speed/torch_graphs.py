"""The peer of `against_torch gcn gin`: PyTorch Geometric's layers in eager PyTorch on a CPU.

    venv/bin/python experiments/speed/torch_graphs.py --threads 2 --only gcn

Needs torch and torch_geometric.  Prints "CASE N steps/s", or molecules/s, the median of the repeats.  The graphs are
random: one of Cora's size, whose normalised edges are cached, and molecules of ESOL's sizes, whose batches are collated
before the clock starts.  A step consists of zero_grad, forward, loss, backward and Adam's fused update.
"""

import argparse
import statistics
import time

import torch
from torch.nn import BatchNorm1d, Linear, Module, ModuleList, ReLU, Sequential
from torch.nn.functional import cross_entropy, dropout, mse_loss, relu
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, GINEConv, global_mean_pool

WARM_UP, STEPS = 5, 100
PAPERS, WORDS, CITATIONS, TOPICS, LABELLED = 2708, 1433, 10556, 7, 140
ATOMS, RINGS, ATOM_FEATURES, BOND_FEATURES, MOLECULES = 12.05, 1.05, 37, 8, 84


class GCN(Module):
    def __init__(self):
        super().__init__()
        self.layers = ModuleList([GCNConv(WORDS, 16, cached=True), GCNConv(16, TOPICS, cached=True)])

    def forward(self, x, edges):
        x = dropout(x, 0.5, self.training)
        x = relu(self.layers[0](x, edges))
        return self.layers[1](dropout(x, 0.5, self.training), edges)


class GIN(Module):
    def __init__(self, width=64, depth=4):
        super().__init__()
        self.layers, self.norms = ModuleList(), ModuleList()
        for i in range(depth):
            inputs = ATOM_FEATURES if i == 0 else width
            inner = Sequential(Linear(inputs, width), BatchNorm1d(width), ReLU(), Linear(width, width))
            self.layers.append(GINEConv(inner, train_eps=True, edge_dim=BOND_FEATURES))
            self.norms.append(BatchNorm1d(width))
        self.head = Linear(depth * width, 1)

    def forward(self, batch):
        x, kept = batch.x, []
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            y = relu(norm(layer(x, batch.edge_index, batch.edge_attr)))
            y = dropout(y, 0.2, self.training)
            x = y if i == 0 else x + y
            kept.append(x)
        return self.head(global_mean_pool(torch.cat(kept, 1), batch.batch, size=MOLECULES))[:, 0]


def molecule():
    atoms = max(2, int(torch.poisson(torch.tensor(ATOMS))))
    first = torch.cat([torch.arange(1, atoms), torch.randint(0, atoms, (int(torch.poisson(torch.tensor(RINGS))),))])
    bonds = torch.stack([first, torch.randint(0, atoms, first.shape)])
    edges = torch.cat([bonds, bonds.flip(0)], 1)
    return Data(
        x=torch.rand(atoms, ATOM_FEATURES),
        edge_index=edges,
        edge_attr=torch.rand(edges.shape[1], BOND_FEATURES),
        y=torch.randn(1),
    )


def gcn():
    """Returns (loss of a step, parameters, units per step)."""
    model = GCN()
    x, edges = torch.rand(PAPERS, WORDS), torch.randint(0, PAPERS, (2, CITATIONS))
    labels, train = torch.randint(0, TOPICS, (LABELLED,)), torch.arange(LABELLED)
    return model, lambda: cross_entropy(model(x, edges)[train], labels), 1


def gin():
    model = GIN()
    batches = [Batch.from_data_list([molecule() for _ in range(MOLECULES)]) for _ in range(12)]
    turn = iter(range(10**9))

    def loss():
        batch = batches[next(turn) % len(batches)]
        return mse_loss(model(batch), batch.y)

    return model, loss, MOLECULES


CASES = {"gcn": (gcn, "steps/s"), "gin": (gin, "molecules/s")}


def measure(case):
    model, loss, units = case()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        found = loss()
        found.backward()
        optimizer.step()
        return found

    for _ in range(WARM_UP):
        step()
    started = time.perf_counter()
    for _ in range(STEPS):
        found = step()
    float(found)
    return units * STEPS / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=list(CASES), required=True)
    parser.add_argument(
        "--max-tries", type=int, help="accepted for the harness, without effect: every repeat counts here"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    case, unit = CASES[asked.only]
    rate = statistics.median(measure(case) for _ in range(asked.repeats))
    print(f"{asked.only} {rate:.3f} {unit}")


if __name__ == "__main__":
    main()
