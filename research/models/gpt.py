"""GPT: a decoder-only Transformer language model (Radford et al., 2018 and 2019)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_rates, check_size
from research.errors import RequestError
from research.layers.activations import Activation, activation
from research.layers.attention import MultiHeadAttention, check_heads
from research.layers.attention_kernels import Kernel, check_kernel
from research.layers.dense import dense
from research.layers.dtypes import DType
from research.layers.norms import layer_norm
from research.layers.positions import Rotary, learned, sinusoidal
from research.layers.stack import Remat, stack
from research.layers.transformer import TENSOR_RULES, VOCABULARY_RULES
from research.models.decoder_only import DecoderOnly

Positions = Literal["learned", "rotary", "sinusoidal", "none"]
NormPlacement = Literal["pre", "post"]


class GPT(DecoderOnly):
    """Maps tokens [batch, length] to logits of the next tokens, [batch, length, vocab_size].

    >>> model = GPT(vocab_size=11, context_length=8, width=16, depth=1, num_heads=2)
    >>> tokens = jnp.zeros((2, 5), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)
    >>> logits.shape
    (2, 5, 11)

    Attributes:
      vocab_size: the number of tokens.
      context_length: the maximum number of tokens in a sequence.
      width: the features of a token.
      depth: the number of blocks.
      num_heads: the number of attention heads, a divisor of `width`.
      mlp_width: the hidden features of each MLP; None means 4 `width`.
      activation: of the MLPs.
      norm: "pre" normalises the input of attention and MLP, and once more at the end (GPT-2); "post" normalises each
        residual sum (GPT-1).
      norm_epsilon: of every layer norm.
      positions: "learned" adds a table, "rotary" rotates queries and keys, "sinusoidal" adds sines and cosines to
        √width times the embeddings, "none" leaves positions out.
      use_bias: give dense layers and norms a bias (nanoGPT's `bias`).
      tied_head: compute logits with the embedding table.
      dropout: the dropout rate on embeddings and on the output of attention and MLP.
      attention_dropout: the dropout rate on attention weights; None means `dropout`.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    tensor_rules = TENSOR_RULES + VOCABULARY_RULES

    vocab_size: int
    context_length: int = 1024
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int | None = None
    activation: Activation = "gelu_tanh"
    norm: NormPlacement = "pre"
    norm_epsilon: float = 1e-5
    positions: Positions = "learned"
    use_bias: bool = True
    tied_head: bool = True
    dropout: float = 0.0
    attention_dropout: float | None = None
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size", "context_length", "width", "num_heads", "mlp_width")
        check_depths(self, "depth")
        check_heads(self.width, self.num_heads, rotary=self.positions == "rotary")
        if self.positions == "sinusoidal" and self.width % 2:
            raise RequestError(f"width={self.width}: expected an even number for sinusoidal positions")
        check_rates(self, "dropout", "attention_dropout")
        dropout = self.dropout if self.attention_dropout is None else self.attention_dropout
        check_kernel(self.kernel, dtype=self.dtype, head_dim=self.width // self.num_heads, dropout=dropout)

    def features(
        self, x: jax.Array, *, mask: jax.Array | None, positions: jax.Array, decode: bool, train: bool
    ) -> jax.Array:
        if self.positions == "learned":
            x = x + learned(self.context_length, self.width, dtype=self.dtype, name="position_embedding")(positions)
        elif self.positions == "sinusoidal":
            # Embeddings are small next to sines and cosines, so Vaswani et al. (2017), section 3.4, scale them up.
            x = x * self.width**0.5 + sinusoidal(positions, self.width).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        block = partial(
            Block,
            num_heads=self.num_heads,
            mlp_width=self.mlp_width or 4 * self.width,
            activation=self.activation,
            norm=self.norm,
            norm_epsilon=self.norm_epsilon,
            use_bias=self.use_bias,
            rotary=Rotary() if self.positions == "rotary" else None,
            dropout=self.dropout,
            attention_dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
            kernel=self.kernel,
            dtype=self.dtype,
            out_deviation=0.02 * (2 * self.depth) ** -0.5,
        )
        x = stack(
            block,
            self.depth,
            x,
            lambda one, x: one(x, mask=mask, positions=positions, decode=decode, train=train),
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
        if self.norm == "pre":
            x = layer_norm(dtype=self.dtype, epsilon=self.norm_epsilon, use_bias=self.use_bias, name="norm")(x)
        return x


class Block(nn.Module):
    """Attention, then an MLP, each with a residual connection; fields as in `GPT`."""

    num_heads: int
    mlp_width: int
    activation: Activation
    norm: NormPlacement
    norm_epsilon: float
    use_bias: bool
    rotary: Rotary | None
    dropout: float
    attention_dropout: float
    kernel: Kernel
    dtype: DType
    out_deviation: float  # of initial weights that write to the residual stream; shrinks with depth

    @nn.compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None, positions: jax.Array, decode: bool, train: bool):
        drop = nn.Dropout(self.dropout, deterministic=not train)
        normal, out_normal = nn.initializers.normal(0.02), nn.initializers.normal(self.out_deviation)
        attention = MultiHeadAttention(
            num_heads=self.num_heads,
            use_bias=self.use_bias,
            rotary=self.rotary,
            dropout=self.attention_dropout,
            kernel=self.kernel,
            dtype=self.dtype,
            kernel_init=normal,
            out_init=out_normal,
            name="attention",
        )

        linear = partial(dense, dtype=self.dtype, use_bias=self.use_bias)

        def norm(name):
            return layer_norm(dtype=self.dtype, epsilon=self.norm_epsilon, use_bias=self.use_bias, name=name)

        def attend(x):
            return drop(attention(x, mask=mask, causal=True, positions=positions, decode=decode, train=train))

        def mlp(x):
            hidden = activation(self.activation)(linear(self.mlp_width, init=normal, name="up")(x))
            return drop(linear(x.shape[-1], init=out_normal, name="down")(hidden))

        if self.norm == "pre":
            x = x + attend(norm("norm_attention")(x))
            return x + mlp(norm("norm_mlp")(x))
        x = norm("norm_attention")(x + attend(x))
        return norm("norm_mlp")(x + mlp(x))


SIZES = {  # name: depth, width, heads, parameters
    "distilgpt2": (6, 768, 12, 81_912_576),
    "gpt2": (12, 768, 12, 124_439_808),
    "gpt2-medium": (24, 1024, 16, 354_823_168),
    "gpt2-large": (36, 1280, 20, 774_030_080),
    "gpt2-xl": (48, 1600, 25, 1_557_611_200),
}
"""Radford et al. (2019), table 2, by the names of the published weights; distilgpt2 is from Sanh et al. (2019)."""


def gpt2(size: str = "gpt2", **fields: Any) -> GPT:
    """GPT-2 in one of its published `SIZES`, with 50,257 tokens and a context of 1,024; `fields` override its fields.

    >>> gpt2("gpt2-medium").depth
    24

    Raises:
      RequestError: the size is unknown.
    """
    check_size("GPT-2", size, SIZES)
    depth, width, num_heads, _ = SIZES[size]
    return GPT(**{"vocab_size": 50257, "depth": depth, "width": width, "num_heads": num_heads} | fields)
