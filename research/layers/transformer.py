"""Transformer blocks one after another, as an encoder or as a decoder that looks at a memory (Vaswani et al., 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from research.layers.activations import Activation, activation
from research.layers.attention import Kernel, MultiHeadAttention, check_heads, check_kernel, visible
from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.fields import Fields, fields
from research.layers.norms import layer_norm
from research.layers.stack import stack

NormPlacement = Literal["pre", "post"]


class TransformerStack(nn.Module):
    """Vectors [batch, length, width] to the same; embeddings before it and logits after it are a model's business.

    Attributes:
      depth: blocks.
      num_heads: attention heads, a divisor of the width.
      mlp_width: hidden features of a block's MLP.
      decoder: whether a token sees only itself and those before it, and has a second attention, to a memory.
      activation: of the MLP.
      norm: layer normalisation of what goes into each part of a block, or of each sum.
      final_norm: whether one more normalisation ends the stack.
      key_bias: whether the keys' projections have a bias, which attention weights do not depend on.
      dropout: of what each part of a block adds.
      attention_dropout: of attention weights.
      activation_dropout: of the MLP's hidden features.
      kernel: of attention; see `research.layers.attention`.
      scan_layers: one compiled block and stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: recompute inner values in the backward pass.
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
    remat: bool = False
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
        """[batch, length, width] to the same.

        Args:
          x: embedded tokens.
          memory: [batch, memory length, features], what a decoder looks at; in decoding, only the first call reads it.
          mask: [batch, length] bool, False on padding, which nothing looks at; in decoding, [batch, cache length].  Or
            [batch, 1, length, length] bool, who may look at whom.
          memory_mask: the same for the memory, [batch, memory length] or [batch, 1, length, memory length].
          decode: whether to append to the cache; see `MultiHeadAttention`.
          train: whether to drop.
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
    """Attention to the tokens themselves, in a decoder attention to the memory, an MLP; each is added to its input.

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
    """`depth`, `num_heads` and `mlp_width` of an encoder's stack, from the fields of a model; None is 4 `width`."""
    return {"depth": model.depth, "num_heads": model.num_heads, "mlp_width": model.mlp_width or 4 * model.width}


def decoder_sizes(model: Any) -> dict[str, int]:
    """The same of a decoder's stack, from the fields `decoder_depth` and so on; None is as in the encoder."""
    return {name: getattr(model, f"decoder_{name}") or size for name, size in encoder_sizes(model).items()}


def check_stack(model: Any, sizes: dict[str, int], *, num_heads: str = "num_heads") -> None:
    """Raises RequestError unless a model's width, kernel and dropout allow a stack of these sizes.

    Args:
      num_heads: the field that says how many heads it has, for the error.
    """
    check_heads(model.width, sizes["num_heads"], field=num_heads)
    head_dim = model.width // sizes["num_heads"]
    check_kernel(model.kernel, dtype=model.dtype, head_dim=head_dim, dropout=model.attention_dropout)
