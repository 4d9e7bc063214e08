"""Tasks on graphs: packed rows of many graphs, and the nodes and edges of one large graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data.source import Source, shared, where
from research.errors import RequestError, nearest, require
from research.layers.neighbourhoods import sampled_inputs
from research.metrics.labels import mean_over_labels
from research.tasks.classification import Classification
from research.tasks.randomness import per_example
from research.tasks.regression import Regression
from research.tasks.task import Apply, Batch, Direction, Task, Terms, require_columns, weighted, whole_column

ROW = ("nodes", "edges", "edge_features", "edge_weights", "graph", "mask")
"""The columns of `research.data.GraphData` that are arguments of a model."""


def row_inputs(batch: Batch) -> dict[str, jax.Array]:
    """A model's arguments for a batch of rows of packed graphs."""
    return {name: batch[name] for name in ROW if name in batch}


def _at_places(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values [rows, places, ...] of the graphs there are, [graph, ...]."""
    return x[mask.astype(bool)]


def _of_molecules(x: jax.Array) -> jax.Array:
    """Predictions [rows, places, ...]; rows of one graph lose the axis of places."""
    return x[:, 0] if x.shape[1] == 1 else x


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphRegression(Regression):
    """Predicts numbers for each graph in packed rows; fields, terms and metrics as in `Regression`.

    `shift` and `scale` are the mean and standard deviation of the training split's graphs.  A model returns [rows,
    places, targets].

    >>> task = GraphRegression(shift=10.0, scale=2.0)
    >>> outputs = {"predicted": np.array([[[9.0], [0.0]]]), "target": np.array([[[10.0], [0.0]]])}
    >>> task.finalize(outputs | {"mask": np.array([[True, False]])})["rmse"]
    1.0
    """

    input: str = "nodes"

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, target=self.target)
        require_columns(source, split, mask="mask")

    def fit(self, train: Source) -> Self:
        """Sets `shift` and `scale` from the targets of the training graphs where they are None."""
        mask = whole_column(train, "mask")
        targets = _at_places(whole_column(train, self.target).astype(np.float64), mask)
        return dataclasses.replace(
            self,
            shift=float(targets.mean()) if self.shift is None else self.shift,
            scale=float(targets.std() or 1.0) if self.scale is None else self.scale,
        )

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        return row_inputs(batch)

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        """Returns the term "loss", whose weight is the number of graphs."""
        outputs = apply(**self.inputs(batch), train=True)
        outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        losses = self._losses(outputs - self._scaled(batch, outputs)).mean(-1)
        return {"loss": weighted(losses, batch["weight"][:, None] * batch["mask"])}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"predicted", "target": [rows, places, targets], "mask": [rows, places]}."""
        predicted = self._predicted(apply, batch)
        return {"predicted": predicted, "target": batch[self.target].reshape(predicted.shape), "mask": batch["mask"]}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        return super().finalize({name: _at_places(outputs[name], outputs["mask"]) for name in ("predicted", "target")})

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"target": [rows, places, targets]} in the target's own units; [graph, targets] if a row has one."""
        return {"target": _of_molecules(self._predicted(apply, batch))}

    def _predicted(self, apply: Apply, batch: Batch) -> jax.Array:
        return super().predict(apply, batch)["target"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphLabels(Task):
    """Predicts `labels` independent labels, 0 or 1, for each graph in packed rows; -1 is missing.

    >>> task = GraphLabels(labels=2)
    >>> label = np.array([[[0, 1], [1, -1]]])
    >>> outputs = {"logit": np.array([[[-1.0, 3.0], [2.0, 0.0]]]), "label": label, "mask": np.array([[True, True]])}
    >>> {name: round(x, 3) for name, x in task.finalize(outputs).items()}
    {'loss': 0.163, 'accuracy': 1.0, 'roc_auc': 1.0, 'average_precision': 1.0, 'labels_scored': 1.0, 'roc_auc/0': 1.0}

    Training term: "loss", the mean cross-entropy of the labels that there are.  Metrics: that, "accuracy" at the
    threshold of one half, and "roc_auc" and "average_precision" (the area under the precision-recall curve), each a
    mean over the labels of which the split has both classes, as MoleculeNet and OGB state them.  "labels_scored" counts
    these, and with several labels "roc_auc/NAME" is that of one; a label that is left out has none.

    Attributes:
      labels: the number of labels of a graph.
      names: the names of the labels; () numbers them.
      label: the column of labels, int [rows, places, labels].
      input: the column of nodes.
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "loss": "min", "accuracy": "max", "roc_auc": "max", "average_precision": "max", "roc_auc/*": "max",
    }  # fmt: skip

    labels: int = 1
    names: tuple[str, ...] = ()
    label: str = "label"
    input: str = "nodes"

    def check(self) -> None:
        require(self.labels >= 1, f"labels={self.labels}: expected at least 1")
        require(len(self.names) in (0, self.labels), f"names={self.names}: expected {self.labels}, one per label")

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, label=self.label)
        labels = whole_column(source, self.label)
        given = labels.shape[2:]
        require(given == (self.labels,), f"task.labels={self.labels}: the {split} split has {list(given)} labels")
        bad = ~np.isin(labels, (-1, 0, 1)).all((1, 2))
        if bad.any():
            raise RequestError(f"{split} split, {where(source, int(bad.argmax()))}: a label other than 0, 1 and -1")
        there = _at_places(labels, whole_column(source, "mask"))
        both = [{0, 1} <= set(np.unique(column).tolist()) for column in there.T]
        require(any(both), f"{split} split: no label has both classes; expected one, for ROC AUC")

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        return row_inputs(batch)

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        logits = self._logits(apply, batch, train=True)
        label = batch[self.label]
        weight = batch["weight"][:, None, None] * batch["mask"][..., None] * (label >= 0)
        return {"loss": weighted(optax.sigmoid_binary_cross_entropy(logits, label), weight)}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"logit", "label": [rows, places, labels], "mask": [rows, places]}."""
        logits = self._logits(apply, batch, train=False)
        return {"logit": logits, "label": batch[self.label], "mask": batch["mask"]}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        logit, label = (_at_places(outputs[name], outputs["mask"]) for name in ("logit", "label"))
        names = self.names or tuple(map(str, range(self.labels)))
        return mean_over_labels(logit, label, names if self.labels > 1 else ())

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"probability": [rows, places, labels]}; [graph, labels] if a row has one graph."""
        return {"probability": jax.nn.sigmoid(_of_molecules(self._logits(apply, batch, train=False)))}

    def _logits(self, apply: Apply, batch: Batch, **options: Any) -> jax.Array:
        logits = apply(**self.inputs(batch), **options)
        count = logits.shape[-1]
        require(count == self.labels, f"task.labels={self.labels}: the model gives {count} outputs; make them equal")
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeClassification(Classification):
    """Assigns one of `classes` to nodes of one large graph; fields, terms and metrics as in `Classification`.

    The graph is shared: `batch["shared"]` holds the model's arguments, and the model computes all of its nodes.  An
    example is a node.

    >>> task = NodeClassification(classes=7)
    >>> list(task.inputs({"node": jnp.arange(2), "shared": {"nodes": jnp.zeros((5, 3)), "edges": jnp.zeros((4, 2))}}))
    ['nodes', 'edges']

    With `fan_out`, training computes a sampled neighbourhood of each example instead of the whole graph; it is drawn
    by the key of the example, which follows from the step.  Evaluations and predictions use the whole graph.

        python -m launch run cora_gnn --set "task.fan_out=(10, 10)" --set batch_size=32

    Attributes:
      input: the column of the nodes' numbers, int32 [batch].
      fan_out: the largest number of neighbours to draw in each layer of the model, from the last; () for all.
    """

    input: str = "node"
    fan_out: tuple[int, ...] = ()

    def check(self) -> None:
        super().check()
        require(all(n >= 1 for n in self.fan_out), f"fan_out={self.fan_out}: expected numbers of neighbours, 1 or more")

    def check_examples(self, source: Source, split: str) -> None:
        super().check_examples(source, split)
        _check_sampled(shared(source), self.fan_out)
        _check_shared(source, split)
        nodes, count = whole_column(source, self.input), len(shared(source)["nodes"])
        outside = (nodes < 0) | (nodes >= count)
        require(not outside.any(), f"{split} split: {self.input} {nodes[outside][:1]}; expected 0 to {count - 1}")

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        return dict(batch["shared"])

    def _logits(self, apply: Apply, batch: Batch, **options: Any) -> jax.Array:
        if self.fan_out and options.get("train"):
            given = sampled_inputs(batch["key"], batch[self.input], batch["shared"], self.fan_out)
            return super()._logits(lambda **_: apply(**given, **options)[:, 0], batch)
        return super()._logits(lambda **given: apply(**given)[batch[self.input]], batch, **options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinkPrediction(Task):
    """Predicts which pairs of nodes of one large graph have an edge.

    Training examples are pairs with an edge; each brings a random pair of nodes without one, as far as chance has it.
    In the other splits `label` says which pairs have one.  A model with `output="edges"` returns a logit for each pair.

    >>> task = LinkPrediction()
    >>> outputs = {"logit": np.array([2.0, -1.0, 0.5]), "label": np.array([1, 0, 1])}
    >>> {name: round(x, 3) for name, x in task.finalize(outputs).items()}
    {'loss': 0.305, 'accuracy': 1.0, 'roc_auc': 1.0, 'average_precision': 1.0}

    Training term: "loss", the mean cross-entropy over both pairs.  Metrics: that, and "accuracy", "roc_auc" and
    "average_precision" as in `GraphLabels`.

    Attributes:
      input: the column of pairs, int32 [batch, 2].
      label: the column that says which pairs have an edge, int32 [batch].
    """

    better: ClassVar[Mapping[str, Direction]] = {
        "loss": "min", "accuracy": "max", "roc_auc": "max", "average_precision": "max",
    }  # fmt: skip

    input: str = "pair"
    label: str = "label"

    def check_examples(self, source: Source, split: str) -> None:
        require_columns(source, split, input=self.input, label=self.label)
        _check_shared(source, split)
        labels = whole_column(source, self.label)
        both = {0, 1} <= set(np.unique(labels).tolist())
        require(split == "train" or both, f"{split} split: expected pairs with and without an edge, label 1 and 0")
        require(split != "train" or (labels == 1).all(), "train split: a pair without an edge; expected label 1")

    def inputs(self, batch: Batch) -> dict[str, jax.Array]:
        return {**batch["shared"], "pairs": batch[self.input]}

    def loss(self, apply: Apply, batch: Batch) -> Terms:
        count = len(batch["shared"]["nodes"])
        others = per_example(batch["key"], 0, jax.random.randint, (2,), minval=0, maxval=count)
        given = self.inputs(batch) | {"pairs": jnp.concatenate([batch[self.input], others])}
        logits = apply(**given, train=True)[..., 0]
        label = jnp.repeat(jnp.array([1.0, 0.0]), len(others), total_repeat_length=2 * len(others))
        losses = optax.sigmoid_binary_cross_entropy(logits, label).reshape(2, -1).mean(0)
        return {"loss": weighted(losses, batch["weight"])}

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"logit", "label"}, each [batch]."""
        return {"logit": apply(**self.inputs(batch), train=False)[..., 0], "label": batch[self.label]}

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        found = mean_over_labels(outputs["logit"][:, None], outputs["label"][:, None], ())
        return {name: x for name, x in found.items() if name != "labels_scored"}

    def predict(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"probability": [batch]} of an edge between the two nodes of a pair."""
        return {"probability": jax.nn.sigmoid(apply(**self.inputs(batch), train=False)[..., 0])}


def _check_sampled(given: Mapping[str, np.ndarray], fan_out: tuple[int, ...]) -> None:
    """Raises RequestError if neighbourhoods cannot be sampled from a graph."""
    if not fan_out or "edges" not in given:
        return
    edges, others = given["edges"], {"edge_features", "edge_weights"} & set(given)
    require(not others, f"task.fan_out={fan_out}: expected edges without features and weights")
    require((np.diff(edges[:, 1]) >= 0).all(), f"task.fan_out={fan_out}: expected edges in the order of their targets")
    loops = (edges[:, 0] == edges[:, 1]).any()
    require(not loops, f"task.fan_out={fan_out}: an edge from a node to itself; expected none (data.loops=false)")


def _check_shared(source: Source, split: str) -> None:
    found = shared(source)
    for name in ("nodes", "edges"):
        require(name in found, f"{split} split: no shared column {name!r}; {nearest(name, found)}")
