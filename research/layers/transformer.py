"""Stacks of transformer blocks, as an encoder or as a decoder with cross-attention (Vaswani et al., 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from research.layers.activations import Activation, activation
from research.layers.attention import MultiHeadAttention, check_heads
from research.layers.attention_kernels import Kernel, check_kernel
from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.fields import Fields, fields
from research.layers.masks import visible
from research.layers.norms import layer_norm
from research.layers.stack import Remat, stack

NormPlacement = Literal["pre", "post"]


TENSOR_RULES = (
    ("*attention/query/*", -1),
    ("*attention/key/*", -1),
    ("*attention/value/*", -1),
    ("*attention/out/kernel", -2),
    ("*/up/*", -1),
    ("*/gate/*", -1),
    ("*/down/kernel", -2),
)
"""The dimension of each parameter of a block that the mesh axis "tensor" splits (Shoeybi et al., 2019, section 3).

Attention is split by heads and the MLP by hidden features, so that a block needs one sum over the devices for each.
Dimensions are counted from the last, since scanned blocks have one more in front.
"""

VOCABULARY_RULES = (("*token_embedding/embedding", -2), ("*head/kernel", -1))
"""The same for embeddings and logits, which are split by tokens."""


class TransformerStack(nn.Module):
    """Transforms vectors [batch, length, width] to the same shape; the model adds embeddings and logits.

        encoded = TransformerStack(depth=6, num_heads=8, mlp_width=2048, name="encoder")(x, mask=mask, train=train)

    Attributes:
      depth: the number of blocks.
      num_heads: the number of attention heads, a divisor of the width.
      mlp_width: the hidden features of each MLP.
      decoder: use causal self-attention, and cross-attention to a memory.
      activation: of the MLP.
      norm: "pre" normalises the input of each part of a block, "post" each residual sum.
      final_norm: add a layer norm after the last block.
      key_bias: give key projections a bias; attention weights do not depend on it.
      dropout: the dropout rate on the output of each part of a block.
      attention_dropout: the dropout rate on attention weights.
      activation_dropout: the dropout rate on hidden features of the MLP.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
    """

    depth: int
    num_heads: int
    mlp_width: int
    decoder: bool = False
    activation: Activation = "relu"
    norm: NormPlacement = "post"
    final_norm: bool = False
    norm_epsilon: float = 1e-5
    key_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """Transforms x [batch, length, width] to the same shape.

        Args:
          x: embedded tokens.
          memory: [batch, memory length, features], which a decoder attends to; during decoding, only the first call
            reads it.
          mask: [batch, length] bool, False on padding, which is never attended to ([batch, cache length] during
            decoding); or [batch, 1, length, length] bool, True where a query may attend to a key.
          memory_mask: the same for the memory, [batch, memory length] or [batch, 1, length, memory length].
          decode: append to the cache; see `MultiHeadAttention`.
          train: apply dropout.
        """
        mask, memory_mask = (None if m is None else visible(m) for m in (mask, memory_mask))
        x = stack(
            partial(Block, fields(self)),
            self.depth,
            x,
            lambda one, x: one(x, memory, mask=mask, memory_mask=memory_mask, decode=decode, train=train),
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
        return layer_norm(dtype=self.dtype, epsilon=self.norm_epsilon, name="norm")(x) if self.final_norm else x


class Block(nn.Module):
    """Self-attention, cross-attention (in a decoder) and an MLP, each with a residual connection.

    `spec` holds the fields of `TransformerStack`.
    """

    spec: Fields

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None,
        *,
        mask: jax.Array | None,
        memory_mask: jax.Array | None,
        decode: bool,
        train: bool,
    ) -> jax.Array:
        spec, glorot = self.spec, nn.initializers.xavier_uniform()
        attention = partial(
            MultiHeadAttention,
            num_heads=spec.num_heads,
            key_bias=spec.key_bias,
            dropout=spec.attention_dropout,
            kernel=spec.kernel,
            dtype=spec.dtype,
            kernel_init=glorot,
        )
        linear = partial(dense, dtype=spec.dtype, init=glorot)

        def look_at_itself(x):
            return attention(name="self_attention")(x, mask=mask, causal=spec.decoder, decode=decode, train=train)

        def look_at_the_memory(x):
            return attention(name="cross_attention")(x, memory, mask=memory_mask, decode=decode, train=train)

        def mlp(x):
            hidden = activation(spec.activation)(linear(spec.mlp_width, name="up")(x))
            hidden = nn.Dropout(spec.activation_dropout, deterministic=not train)(hidden)
            return linear(x.shape[-1], name="down")(hidden)

        def add(x, part, name):
            norm = layer_norm(dtype=spec.dtype, epsilon=spec.norm_epsilon, name=name)
            drop = nn.Dropout(spec.dropout, deterministic=not train)
            return x + drop(part(norm(x))) if spec.norm == "pre" else norm(x + drop(part(x)))

        x = add(x, look_at_itself, "norm_self")
        if spec.decoder:
            x = add(x, look_at_the_memory, "norm_cross")
        return add(x, mlp, "norm_mlp")


def encoder_sizes(model: Any) -> dict[str, int]:
    """The `depth`, `num_heads` and `mlp_width` of a model's encoder; `mlp_width=None` means 4 `width`."""
    return {"depth": model.depth, "num_heads": model.num_heads, "mlp_width": model.mlp_width or 4 * model.width}


def decoder_sizes(model: Any) -> dict[str, int]:
    """The same sizes of a model's decoder, from the fields `decoder_depth` and so on; None copies the encoder's."""
    return {name: getattr(model, f"decoder_{name}") or size for name, size in encoder_sizes(model).items()}


def check_stack(model: Any, sizes: dict[str, int], *, num_heads: str = "num_heads") -> None:
    """Raises RequestError unless a model's width, kernel and dropout allow a stack of these sizes.

    Args:
      num_heads: the name of the field that holds the number of heads, for the error.
    """
    check_heads(model.width, sizes["num_heads"], field=num_heads)
    head_dim = model.width // sizes["num_heads"]
    check_kernel(model.kernel, dtype=model.dtype, head_dim=head_dim, dropout=model.attention_dropout)
