"""Citation networks as Yang et al. (2016) split them: one graph, a few labelled nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from research.data.source import Columns, canonical
from research.data.spec import Data, Splits, check_file
from research.errors import RequestError, require

ARRAYS = ("x_indptr", "x_indices", "x_data", "x_shape", "edges", "labels", "split")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planetoid(Data):
    """Cora, Citeseer or Pubmed in an .npz file: the features of nodes, the edges, and the public split.

    The file has `x_indptr`, `x_indices`, `x_data` and `x_shape` (sparse features by row), `edges` [edges, 2], each
    once, `labels` int [nodes] (-1 for none) and `split` int [nodes] (0 none, 1 train, 2 validation, 3 test).

    >>> data = Planetoid(path="cora.npz")

    An example is a labelled node: `node` int32 [] and `label` int32 [].  The graph is shared: `nodes` float32 [nodes,
    values] and `columns` int32 [nodes, values], its features that are not 0, and `edges` int32 [edges, 2], each in both
    directions.  A model needs `input_width`, the number of features.

    Attributes:
      path: the file.
      normalize: divide the features of each node by their sum, as both papers on GCN and GAT do.
      loops: keep the edges from a node to itself; otherwise they are left out.
    """

    path: str
    normalize: bool = True
    loops: bool = False

    def read(self) -> Splits:
        arrays = self._arrays()
        shared = self._shared(arrays)
        labels, split = arrays["labels"], arrays["split"]
        parts = []
        for number, name in enumerate(Splits._fields, 1):
            node = np.flatnonzero((split == number) & (labels >= 0)).astype(np.int32)
            require(len(node) > 0, f"path={self.path!r}: no labelled node in the {name} split")
            parts.append(Columns({"node": node, "label": labels[node].astype(np.int32)}, shared))
        return Splits(*parts)

    def encode(self, raw: Sequence[int] | np.ndarray | dict[str, Any]) -> dict[str, Any]:
        """Encodes numbers of nodes for prediction; reads the graph, of which the nodes are a part."""
        if isinstance(raw, dict) and "shared" in raw:
            return super().encode(raw)
        given = raw["node"] if isinstance(raw, dict) else raw
        node = canonical(np.atleast_1d(given), "the numbers of nodes")
        require(node.dtype.kind in "iu", f"expected numbers of nodes, got {node.dtype}")
        shared = self._shared(self._arrays())
        count = len(shared["nodes"])
        outside = (node < 0) | (node >= count)
        require(not outside.any(), f"node {node[outside][:1]}: expected 0 to {count - 1}")
        return {"node": node, "shared": shared}

    def _arrays(self) -> dict[str, np.ndarray]:
        check_file(epath.Path(self.path))
        try:
            with np.load(self.path, allow_pickle=False) as file:
                missing = [name for name in ARRAYS if name not in file.files]
                require(not missing, f"path={self.path!r}: no array {', '.join(missing)}")
                return {name: file[name] for name in ARRAYS}
        except (OSError, ValueError) as error:
            raise RequestError(f"path={self.path!r}: {str(error).splitlines()[0]}") from None

    def _shared(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count, width = (int(n) for n in arrays["x_shape"])
        starts, columns, data = arrays["x_indptr"], arrays["x_indices"], arrays["x_data"].astype(np.float32)
        sizes = np.diff(starts)
        require(len(sizes) == count, f"path={self.path!r}: {len(sizes)} rows of features for {count} nodes")
        node = np.repeat(np.arange(count), sizes)
        place = np.arange(len(columns)) - np.repeat(starts[:-1], sizes)
        values = np.zeros((count, int(sizes.max(initial=1))), np.float32)
        where = np.full(values.shape, width, np.int32)
        values[node, place], where[node, place] = data, columns
        if self.normalize:
            values /= np.where(values.sum(1, keepdims=True) == 0, 1, values.sum(1, keepdims=True))
        edges = arrays["edges"].reshape(-1, 2)
        outside = ((edges < 0) | (edges >= count)).any(1)
        if outside.any():
            i = int(outside.argmax())
            raise RequestError(
                f"path={self.path!r}: edge {i} is {edges[i].tolist()}; expected nodes from 0 to {count - 1}"
            )
        loop = edges[:, 0] == edges[:, 1]
        both = [edges[~loop], edges[~loop][:, ::-1], *([edges[loop]] if self.loops else [])]
        directed = np.concatenate(both)
        directed = directed[np.lexsort((directed[:, 0], directed[:, 1]))]  # by target: faster sums
        return {"nodes": values, "columns": where, "edges": directed.astype(np.int32)}
