"""Weights of PyTorch Geometric's layers: GCNConv, SAGEConv, GATConv, GATv2Conv, GINConv, GINEConv and NNConv.

The layers of a network are `convs.0`, `convs.1`, ..., those of GAT `conv1`, `conv2`, ..., and its last dense layer
`head`; MPNN's are called as in PyTorch Geometric's example: `lin0`, `conv`, `gru`, `set2set`, `lin1`, `lin2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from research.errors import require
from research.models.gnn import GAT, GCN, GIN, GraphNetwork, GraphSAGE
from research.models.mpnn import MPNN
from research.pretrained.config_values import row, whole
from research.pretrained.family import Family
from research.pretrained.rnn import recurrent
from research.pretrained.rules import SAME, KeyMap, Rule, Unused, batch_norm, each, kernel, norm

AGGREGATIONS = {"add": "sum", "sum": "sum", "mean": "mean", "max": "max"}
"""{PyTorch Geometric's name of an aggregation or a pooling: ours}."""

FIRST_ROW = each(lambda x: x[0], lambda x: x[None])
"""PyTorch Geometric keeps the vectors of heads as [1, heads, width]."""


def gcn(config: Mapping[str, Any]) -> GCN:
    """Builds a network of GCNConv from `d_in`, `hidden` (one width per layer) and `d_out`."""
    return GCN(widths=_widths(config, 16), classes=whole(config, "d_out", 1), input_width=_input(config))


def sage(config: Mapping[str, Any]) -> GraphSAGE:
    """Builds a network of SAGEConv; as `gcn`, and `aggr`."""
    widths, aggregation = _widths(config, 16), _aggregation(config, "aggr", "mean")
    shared = {"classes": whole(config, "d_out", 1), "input_width": _input(config)}
    return GraphSAGE(widths=widths, aggregation=aggregation, **shared)


def gat(config: Mapping[str, Any]) -> GAT:
    """Builds two layers of GATConv, or of GATv2Conv with `version` 2, from `d_in`, `hidden` (of each head), `heads`,
    `d_out`, `out_heads` and, with features of edges, `edge_dim`.
    """
    edge = _edge(config)
    return GAT(
        widths=_widths(config, 8),
        classes=whole(config, "d_out", 1),
        heads=whole(config, "heads", 1),
        out_heads=whole(config, "out_heads", 1),
        activation="elu",
        edge_features=edge is not None,
        version=whole(config, "version", 1),
        input_width=_input(config),
        edge_input_width=edge,
    )


def gin(config: Mapping[str, Any]) -> GIN:
    """Builds a network of GINConv, or of GINEConv with `edge_dim`, from `d_in`, `hidden`, `layers`, `d_out`, `pool`."""
    edge = _edge(config)
    return GIN(
        widths=_widths(config, 16) * whole(config, "layers", 2),
        classes=whole(config, "d_out", 1),
        output="graphs",
        readout=_aggregation(config, "pool", "sum"),
        edge_features=edge is not None,
        input_width=_input(config),
        edge_input_width=edge,
    )


def mpnn(config: Mapping[str, Any]) -> MPNN:
    """Builds the network of NNConv, GRU and Set2Set from `d_in`, `d_edge`, `dim`, `edge_hidden`, `rounds`,
    `set2set_steps`, `aggr` and `d_out`.
    """
    return MPNN(
        width=whole(config, "dim", 64),
        classes=whole(config, "d_out", 1),
        edge_width=whole(config, "edge_hidden", 128),
        rounds=whole(config, "rounds", 3),
        aggregation=_aggregation(config, "aggr", "mean"),
        readout_steps=whole(config, "set2set_steps", 3),
        input_width=_input(config),
        edge_input_width=_edge(config),
    )


def _input(config: Mapping[str, Any]) -> int:
    require(config.get("d_in") is not None, "d_in: missing in the config")
    return whole(config, "d_in", 1)


def _edge(config: Mapping[str, Any]) -> int | None:
    given = [key for key in ("d_edge", "edge_dim") if config.get(key) is not None]
    return whole(config, given[0], 1) if given else None


def _widths(config: Mapping[str, Any], usual: int) -> tuple[int, ...]:
    listed = isinstance(config.get("hidden"), list | tuple)
    return row(config, "hidden", (usual,)) if listed else (whole(config, "hidden", usual),)


def _aggregation(config: Mapping[str, Any], key: str, usual: str) -> str:
    given = config.get(key, usual)
    require(given in AGGREGATIONS, f"{key}={given!r} in the config: expected one of {', '.join(AGGREGATIONS)}")
    return AGGREGATIONS[given]


def _named(model: GraphNetwork) -> list[tuple[str, str]]:
    """The names of the layers: (theirs, ours)."""
    count = len(model.widths) + (model.output == "nodes" and model.jumping == "none")
    theirs = "conv{}" if isinstance(model, GAT) else "convs.{}"
    return [(theirs.format(i + isinstance(model, GAT)), f"layer{i}") for i in range(count)]


def key_maps(model: GraphNetwork) -> tuple[KeyMap, ...]:
    """The names of PyTorch Geometric's layers."""
    layer = {GCN: _gcn, GraphSAGE: _sage, GAT: _gat, GIN: _gin}[type(model)]
    norms = {"batch": batch_norm, "layer": norm}
    entries = [layer(model, theirs, ours) for theirs, ours in _named(model)]
    entries += [norms[model.norm](f"norms.{i}", f"norm{i}") for i in range(len(model.widths)) if model.norm != "none"]
    return (KeyMap("pyg", (*entries, kernel("head", "head"))),)


def _gcn(model: GCN, theirs: str, ours: str) -> tuple:
    return kernel(f"{theirs}.lin", f"{ours}/linear"), Rule(f"{theirs}.bias", f"params/{ours}/bias")


def _sage(model: GraphSAGE, theirs: str, ours: str) -> tuple:
    return kernel(f"{theirs}.lin_l", f"{ours}/neighbours"), kernel(f"{theirs}.lin_r", f"{ours}/own")


def _gat(model: GAT, theirs: str, ours: str) -> tuple:
    vectors = {"att_src": "attend_source", "att_dst": "attend_target", "att_edge": "attend_edge"}
    linear = {"lin": "source", "lin_edge": "edge"}
    if model.version == 2:
        vectors, linear = {"att": "attend"}, {"lin_l": "source", "lin_r": "target", "lin_edge": "edge"}
    return (
        *(Rule(f"{theirs}.{a}", f"params/{ours}/{b}", FIRST_ROW) for a, b in vectors.items()),
        *(kernel(f"{theirs}.{a}", f"{ours}/{b}") for a, b in linear.items()),
        Rule(f"{theirs}.bias", f"params/{ours}/bias"),
    )


def _gin(model: GIN, theirs: str, ours: str) -> tuple:
    last = 3 if model.inner_norm else 2
    return (
        Rule(f"{theirs}.eps", f"params/{ours}/epsilon") if model.learn_epsilon else Unused(f"{theirs}.eps"),
        kernel(f"{theirs}.nn.0", f"{ours}/dense0"),
        batch_norm(f"{theirs}.nn.1", f"{ours}/norm") if model.inner_norm else (),
        kernel(f"{theirs}.nn.{last}", f"{ours}/dense1"),
        kernel(f"{theirs}.lin", f"{ours}/edge"),
    )


def mpnn_key_maps(model: MPNN) -> tuple[KeyMap, ...]:
    """The names of PyTorch Geometric's example for NNConv."""
    names = {
        "lin0": "embedding",
        "conv.nn.0": "messages/edge0",
        "conv.nn.2": "messages/edge1",
        "conv.lin": "messages/own",
    }
    names |= {"lin1": "hidden", "lin2": "head"}
    entries = (
        *(kernel(theirs, ours) for theirs, ours in names.items()),
        Rule("conv.bias", "params/messages/bias", SAME),
        recurrent("gru.", "update/"),
        recurrent("set2set.lstm.", "readout/lstm/"),
    )
    return (KeyMap("pyg", entries),)


def inputs(model: GraphNetwork | MPNN) -> dict[str, jax.ShapeDtypeStruct]:
    """Two nodes and an edge, with features of the edge where the model uses them."""
    require(model.input_width is not None, "input_width=none: set it, since shapes are needed before there is an input")
    given = {"nodes": jax.ShapeDtypeStruct((2, model.input_width), np.float32)}
    given |= {"edges": jax.ShapeDtypeStruct((1, 2), np.int32)}
    if isinstance(model, MPNN) or getattr(model, "edge_features", False):
        require(model.edge_input_width is not None, "edge_input_width=none: set it, since shapes are needed first")
        given |= {"edge_features": jax.ShapeDtypeStruct((1, model.edge_input_width), np.float32)}
    pairs = {"pairs": jax.ShapeDtypeStruct((1, 2), np.int32)}
    return given | (pairs if getattr(model, "output", None) == "edges" else {})


def _depth(model: GraphNetwork) -> float:
    return len(model.widths)


FAMILIES = (
    *(
        Family(cls, name, {}, from_config, key_maps, inputs, layers=_depth)
        for cls, name, from_config in (
            (GCN, "gcn", gcn),
            (GraphSAGE, "sage", sage),
            (GAT, "gat", gat),
            (GIN, "gin", gin),
        )
    ),
    Family(MPNN, "mpnn", {}, mpnn, mpnn_key_maps, inputs, layers=lambda model: 1),
)
