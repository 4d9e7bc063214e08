"""Llama: a decoder-only Transformer with rotary positions, RMS norms, gated MLPs and grouped-query attention.

Touvron et al. (2023); Grattafiori et al. (2024), Llama 3.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_part, check_size
from research.errors import require
from research.layers.attention import MultiHeadAttention, check_heads
from research.layers.attention_kernels import Kernel, check_kernel
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.positions import Llama3Scaling, Rotary
from research.layers.stack import Remat, stack
from research.layers.transformer import TENSOR_RULES, VOCABULARY_RULES
from research.models.decoder_only import DecoderOnly


class Llama(DecoderOnly):
    """Maps tokens [batch, length] to logits of the next tokens, [batch, length, vocab_size].

    >>> model = Llama(vocab_size=11, context_length=8, width=16, depth=1, num_heads=2, num_kv_heads=1, mlp_width=32)
    >>> tokens = jnp.zeros((2, 5), int)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)
    >>> logits.shape
    (2, 5, 11)

    Attributes:
      vocab_size: the number of tokens.
      context_length: the maximum number of tokens in a sequence.
      width: the features of a token.
      depth: the number of blocks.
      num_heads: the number of query heads.
      mlp_width: the hidden features of each gated MLP.
      num_kv_heads: the number of key and value heads, a divisor of `num_heads`; None means `num_heads`.
      head_dim: the features of a head; None means `width` / `num_heads`.
      rotary: rotates queries and keys, and scales the rotations for long contexts.
      norm_epsilon: of every RMS norm.
      attention_bias: give the attention projections a bias.
      mlp_bias: give the dense layers of the MLP a bias.
      tied_head: compute logits with the embedding table.
      pad_token: a token whose embedding is trained only as a row of a tied head; None if there is none.
      init_deviation: the standard deviation of initial weights.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    tensor_rules = TENSOR_RULES + VOCABULARY_RULES

    vocab_size: int
    context_length: int
    width: int
    depth: int
    num_heads: int
    mlp_width: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    rotary: Rotary = Rotary()
    norm_epsilon: float = 1e-5
    attention_bias: bool = False
    mlp_bias: bool = False
    tied_head: bool = False
    pad_token: int | None = None
    init_deviation: float = 0.02
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "vocab_size", "context_length", "width", "num_heads", "mlp_width", "head_dim")
        check_depths(self, "depth")
        check_heads(self.width, self.num_heads, self.num_kv_heads, self.head_dim, rotary=True)
        pad = self.pad_token
        require(pad is None or 0 <= pad < self.vocab_size, f"pad_token={pad}: expected 0 to {self.vocab_size - 1}")
        check_part("rotary", self.rotary)
        check_kernel(self.kernel, dtype=self.dtype, head_dim=self.head_dim or self.width // self.num_heads)

    def features(
        self, x: jax.Array, *, mask: jax.Array | None, positions: jax.Array, decode: bool, train: bool
    ) -> jax.Array:
        block = partial(
            Block,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            mlp_width=self.mlp_width,
            rotary=self.rotary,
            norm_epsilon=self.norm_epsilon,
            attention_bias=self.attention_bias,
            mlp_bias=self.mlp_bias,
            init_deviation=self.init_deviation,
            kernel=self.kernel,
            dtype=self.dtype,
        )
        x = stack(
            block,
            self.depth,
            x,
            lambda one, x: one(x, mask=mask, positions=positions, decode=decode),
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
        return _norm("norm", self)(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + down(silu(gate(norm(x))) · up(norm(x))); fields as in `Llama`."""

    num_heads: int
    num_kv_heads: int | None
    head_dim: int | None
    mlp_width: int
    rotary: Rotary
    norm_epsilon: float
    attention_bias: bool
    mlp_bias: bool
    init_deviation: float
    kernel: Kernel
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None, positions: jax.Array, decode: bool) -> jax.Array:
        normal = nn.initializers.normal(self.init_deviation)
        attention = MultiHeadAttention(
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            use_bias=self.attention_bias,
            rotary=self.rotary,
            kernel=self.kernel,
            dtype=self.dtype,
            kernel_init=normal,
            name="attention",
        )

        linear = partial(dense, dtype=self.dtype, use_bias=self.mlp_bias, init=normal)
        y = _norm("norm_attention", self)(x)
        x = x + attention(y, mask=mask, causal=True, positions=positions, decode=decode)
        y = _norm("norm_mlp", self)(x)
        gate, up = linear(self.mlp_width, name="gate")(y), linear(self.mlp_width, name="up")(y)
        return x + linear(x.shape[-1], name="down")(nn.silu(gate) * up)


def _norm(name: str, spec: Llama | Block) -> nn.RMSNorm:
    dtypes = {"dtype": spec.dtype, "param_dtype": param_dtype(spec.dtype)}
    return nn.RMSNorm(epsilon=spec.norm_epsilon, name=name, **dtypes)


_LLAMA3, _LLAMA32 = Rotary(theta=500_000.0), Rotary(theta=500_000.0, scaling=Llama3Scaling(factor=32.0))
_LLAMA31 = Rotary(theta=500_000.0, scaling=Llama3Scaling(factor=8.0))

SIZES: dict[str, tuple[dict[str, Any], int]] = {  # fields, parameters
    "llama2-7b": (
        {"vocab_size": 32000, "context_length": 4096, "width": 4096, "depth": 32, "num_heads": 32, "mlp_width": 11008},
        6_738_415_616,
    ),
    "llama2-13b": (
        {"vocab_size": 32000, "context_length": 4096, "width": 5120, "depth": 40, "num_heads": 40, "mlp_width": 13824},
        13_015_864_320,
    ),
    "llama3-8b": (
        {"vocab_size": 128256, "context_length": 8192, "width": 4096, "depth": 32, "num_heads": 32, "num_kv_heads": 8,
         "mlp_width": 14336, "rotary": _LLAMA3},
        8_030_261_248,
    ),
    "llama3.1-8b": (
        {"vocab_size": 128256, "context_length": 131072, "width": 4096, "depth": 32, "num_heads": 32,
         "num_kv_heads": 8, "mlp_width": 14336, "rotary": _LLAMA31},
        8_030_261_248,
    ),
    "llama3.2-1b": (
        {"vocab_size": 128256, "context_length": 131072, "width": 2048, "depth": 16, "num_heads": 32,
         "num_kv_heads": 8, "mlp_width": 8192, "rotary": _LLAMA32, "tied_head": True},
        1_235_814_400,
    ),
    "llama3.2-3b": (
        {"vocab_size": 128256, "context_length": 131072, "width": 3072, "depth": 28, "num_heads": 24,
         "num_kv_heads": 8, "mlp_width": 8192, "rotary": _LLAMA32, "tied_head": True},
        3_212_749_824,
    ),
    "tinyllama-1.1b": (
        {"vocab_size": 32000, "context_length": 2048, "width": 2048, "depth": 22, "num_heads": 32, "num_kv_heads": 4,
         "mlp_width": 5632},
        1_100_048_384,
    ),
    "smollm2-135m": (
        {"vocab_size": 49152, "context_length": 8192, "width": 576, "depth": 30, "num_heads": 9, "num_kv_heads": 3,
         "mlp_width": 1536, "rotary": Rotary(theta=100_000.0), "tied_head": True},
        134_515_008,
    ),
}  # fmt: skip
"""Touvron et al. (2023), Grattafiori et al. (2024), Zhang et al. (2024, TinyLlama), Allal et al. (2025, SmolLM2)."""


def llama(size: str, **fields: Any) -> Llama:
    """Llama in one of its published `SIZES`; `fields` override its fields.

    >>> llama("llama3.2-1b").tied_head
    True

    Raises:
      RequestError: the size is unknown.
    """
    check_size("Llama", size, SIZES)
    return Llama(**SIZES[size][0] | fields)
