"""The message-passing neural network (Gilmer et al., 2017): a matrix for each edge, a GRU for each node, set2set."""

from __future__ import annotations

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_rates
from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.graphs import graphs_of
from research.layers.message_passing import Aggregation, EdgeNetwork
from research.layers.readouts import Kind, Readout
from research.layers.recurrent import Recurrent
from research.models.model import Model


class MPNN(Model):
    """Maps graphs with features of nodes and edges to outputs for each graph.

    In each round, a node's message is the mean of A(e) h over its neighbours, with a matrix A(e) from the features of
    the edge; a GRU updates its state h.  All rounds share their parameters.

    >>> model = MPNN(width=16, classes=1)
    >>> nodes, edges, bonds = jnp.ones((5, 32)), jnp.array([[0, 1], [1, 0], [3, 4], [4, 3]]), jnp.ones((4, 6))
    >>> variables = model.init(jax.random.key(0), nodes, edges, bonds)
    >>> model.apply(variables, nodes, edges, bonds).shape
    (1, 1)

    Attributes:
      width: the features of a node's state.
      classes: the number of outputs for each graph.
      edge_width: the hidden features of the network that makes the matrices.
      rounds: of message passing.
      aggregation: of messages.
      readout: of a graph from its nodes.
      readout_steps: steps of "set2set".
      dropout: the dropout rate of the features of graphs, in training.
      input_width, edge_input_width: the numbers of features of nodes and of edges; None infers them.
      dtype: of the computation; parameters have at least float32.
    """

    width: int
    classes: int
    edge_width: int = 128
    rounds: int = 3
    aggregation: Aggregation = "mean"
    readout: Kind = "set2set"
    readout_steps: int = 3
    dropout: float = 0.0
    input_width: int | None = None
    edge_input_width: int | None = None
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(
            self, "width", "classes", "edge_width", "rounds", "readout_steps", "input_width", "edge_input_width"
        )
        check_rates(self, "dropout")

    @nn.compact
    def __call__(
        self,
        nodes: jax.Array,
        edges: jax.Array,
        edge_features: jax.Array | None = None,
        graph: jax.Array | None = None,
        mask: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Returns [rows, places, classes], without the axis of rows if `nodes` has none.

        Arguments are those of `GraphNetwork`.
        """
        one = nodes.ndim == 2
        graphs = graphs_of(nodes, edges, edge_features, None, graph, mask)
        nodes = nodes[None] if one else nodes
        h = nn.relu(dense(self.width, dtype=self.dtype, name="embedding")(nodes.astype(self.dtype)))
        network = EdgeNetwork(self.width, self.edge_width, self.aggregation, self.dtype, name="messages")
        matrices = network.matrices(graphs)
        gru, state = Recurrent("gru", self.width, dtype=self.dtype, name="update"), h.reshape(-1, 1, self.width)
        for _ in range(self.rounds):
            messages = nn.relu(network(graphs, h, matrices))
            _, (state,) = gru(messages.reshape(-1, 1, self.width), (state,))
            h = state.reshape(h.shape).astype(h.dtype)
        self.sow("intermediates", "nodes", h)
        x = Readout(self.readout, self.readout_steps, self.dtype, name="readout")(graphs, h)
        self.sow("intermediates", "read", x)
        x = nn.relu(dense(self.width, dtype=self.dtype, name="hidden")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        y = dense(self.classes, dtype=self.dtype, name="head")(x)
        return y[0] if one else y
