"""One graph from two tables: the nodes with their features and labels, and the edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from research.data.source import Columns, Source, canonical
from research.data.sources.table_columns import as_text, distinct
from research.data.sources.table_files import check_columns, check_delimiter, read_table, row_indices
from research.data.spec import Data, Splits, check_amount
from research.errors import RequestError, nearest, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeList(Data):
    """A graph from a table of nodes and a table of edges (.csv, .tsv, also .gz; .parquet).

    >>> data = EdgeList(nodes="papers.csv", edges="citations.csv", id="paper", label="topic")

    An example is a node with a label: `node` int32 [] and `label` int32 [].  The graph is shared: `nodes` float32
    [nodes, features] and `edges` int32 [edges, 2], in the order of targets.  Equal edges are one edge.

    Attributes:
      nodes: the table of nodes, one a row.
      edges: the table of edges.
      id: the column of the nodes that the edges refer to.
      label: the column of labels; a node whose cell is empty has none, and is in no split.
      features: the columns of features, all numbers; () takes all others of the table.
      source, target: the columns of the edges.
      directed: keep the direction of edges; otherwise each goes both ways.
      loops: keep the edges from a node to itself; otherwise they are left out.
      test: the fraction or number of labelled nodes in the test split.
      class_names: the labels in order; None for those of the table, sorted, by size if all are numbers.
      delimiter: of CSVs.
    """

    nodes: str
    edges: str
    id: str = "id"
    label: str = "label"
    features: tuple[str, ...] = ()
    source: str = "source"
    target: str = "target"
    directed: bool = False
    loops: bool = False
    test: float | int = 0.2
    class_names: tuple[str, ...] | None = None
    delimiter: str = ","

    def check(self) -> None:
        super().check()
        check_amount("test", self.test)
        check_delimiter(self.delimiter)

    def read(self) -> Splits:
        table, shared = self._graph()
        texts = [(text or "").strip() for text in as_text(table[self.label]).to_pylist()]
        names = self._names(table)
        codes = {name: i for i, name in enumerate(names)}
        for row, text in enumerate(texts, 1):
            if text and text not in codes:
                line = f"{self.nodes}, row {row}: label {text!r} is not in class_names; {nearest(text, codes)}"
                raise RequestError(line)
        node = np.array([i for i, text in enumerate(texts) if text], np.int32)
        require(len(node) > 0, f"label={self.label!r}: no node has a label")
        label = np.array([codes[texts[i]] for i in node], np.int32)
        train, test = self.hold_out(Columns({"node": node, "label": label}, shared), "test")
        return Splits(train=train, test=test)

    def fit(self, train: Source) -> Self:
        """Fills in `class_names`."""
        return self if self.class_names else dataclasses.replace(self, class_names=self._names(self._table("nodes")))

    def encode(self, raw: Sequence[Any] | dict[str, Any]) -> dict[str, Any]:
        """Encodes ids of nodes for prediction; reads the graph, of which the nodes are a part."""
        if isinstance(raw, dict):
            return super().encode(raw)
        table, shared = self._graph()
        numbers = self._numbers(table)
        if unknown := [given for given in raw if str(given) not in numbers]:
            raise RequestError(f"node {unknown[0]!r}: {nearest(str(unknown[0]), numbers)}")
        return {"node": np.array([numbers[str(given)] for given in raw], np.int32), "shared": shared}

    def _table(self, field: str) -> pa.Table:
        path = getattr(self, field)
        table = read_table(path, delimiter=self.delimiter)
        for name in ("id", "label") if field == "nodes" else ("source", "target"):
            check_columns(table, path, name, [getattr(self, name)])
        return table

    def _names(self, table: pa.Table) -> tuple[str, ...]:
        if self.class_names is not None:
            return self.class_names
        texts = [text.strip() for text in as_text(table[self.label]).to_pylist() if text and text.strip()]
        return distinct(pa.array(texts, pa.string()))

    def _numbers(self, table: pa.Table) -> dict[str, int]:
        """{id: number of the node}."""
        numbers: dict[str, int] = {}
        for row, text in enumerate(as_text(table[self.id]).to_pylist()):
            require(bool(text), f"{self.nodes}, row {row + 1}: {self.id!r} is empty")
            require(text not in numbers, f"{self.nodes}, row {row + 1}: a second node with {self.id} {text!r}")
            numbers[text] = row
        return numbers

    def _graph(self) -> tuple[pa.Table, dict[str, np.ndarray]]:
        """The table of nodes, and the shared columns."""
        table, links = self._table("nodes"), self._table("edges")
        numbers = self._numbers(table)
        ends = []
        for name in (self.source, self.target):
            texts = as_text(links[name]).to_pylist()
            for row, text in enumerate(texts, 1):
                known = text in numbers
                require(known, f"{self.edges}, row {row}: no node has {self.id} {text!r}, the {name} of the edge")
            ends.append(np.array([numbers[text] for text in texts], np.int32))
        edges = np.stack(ends, 1)
        edges = edges if self.loops else edges[edges[:, 0] != edges[:, 1]]
        edges = edges if self.directed else np.concatenate([edges, edges[:, ::-1]])
        edges = np.unique(edges[:, ::-1], axis=0)[:, ::-1]
        return table, {"nodes": self._features(table), "edges": np.ascontiguousarray(edges)}

    def _features(self, table: pa.Table) -> np.ndarray:
        check_columns(table, self.nodes, "features", self.features)
        others = [n for n in table.column_names if n not in (self.id, self.label) and n not in row_indices(table)]
        names = self.features or tuple(others)
        require(bool(names), f"features=(): {self.nodes} has no column of features")
        columns = []
        for name in names:
            try:
                column = np.array([float(x) for x in table[name].to_pylist()], np.float32)
            except (TypeError, ValueError):
                raise RequestError(f"features: column {name!r} of {self.nodes} is not all numbers") from None
            require(
                np.isfinite(column).all(), f"features: column {name!r} of {self.nodes} has a number that is not finite"
            )
            columns.append(column)
        return canonical(np.stack(columns, 1), "features")
