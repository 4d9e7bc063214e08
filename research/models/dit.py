"""Diffusion Transformer with adaLN-Zero blocks (Peebles & Xie, 2023)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import check_counts, check_depths, check_factors, check_images, check_rates, check_size
from research.errors import RequestError
from research.layers.activations import Activation, activation
from research.layers.attention import MultiHeadAttention, check_heads
from research.layers.attention_kernels import Kernel
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import layer_norm
from research.layers.positions2d import sincos_2d
from research.layers.stack import Remat, stack
from research.layers.time_embedding import TimeEmbedding, check_labels, class_embedding
from research.layers.transformer import TENSOR_RULES
from research.models.model import Model


class DiT(Model):
    """Maps noisy images [batch, height, width, channels] at times [batch] to a prediction of the same size.

    >>> model = DiT(image_size=8, patch_size=2, width=16, depth=1, num_heads=2, channels=1, classes=10)
    >>> inputs = {"x": jnp.zeros((4, 8, 8, 1)), "time": jnp.zeros(4), "label": jnp.arange(4)}
    >>> jax.eval_shape(model.init_with_output, jax.random.key(0), **inputs)[0].shape
    (4, 8, 8, 1)

    Attributes:
      image_size: the side, in pixels, or (height, width).
      patch_size: the side of a patch, in pixels.
      channels: of the prediction; twice those of the images if the variance is predicted as well, after the mean.
      width: the features of a token.
      depth: the number of blocks.
      num_heads: the number of attention heads, a divisor of `width`.
      mlp_width: the hidden features of each MLP; None means 4 `width`.
      classes: the number of classes; the table of embeddings has one more row, the null class, which stands for no
        class.  None builds a model without classes.
      block_embeddings: give each block its own embeddings of time and class; the head uses those of the first block.
      waves: the number of sines and cosines of the time.
      activation: of the MLPs.
      norm_epsilon: of the layer norms before attention and before the head.
      mlp_norm_epsilon: of the layer norms before the MLPs; None means `norm_epsilon`.
      dropout: the dropout rate after attention and after the MLPs.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    tensor_rules = TENSOR_RULES

    image_size: int | tuple[int, int] = 32
    patch_size: int = 2
    channels: int = 3
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_width: int | None = None
    classes: int | None = None
    block_embeddings: bool = False
    waves: int = 256
    activation: Activation = "gelu_tanh"
    norm_epsilon: float = 1e-6
    mlp_norm_epsilon: float | None = None
    dropout: float = 0.0
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "image_size", "patch_size", "channels", "width", "num_heads", "mlp_width", "classes")
        check_depths(self, "depth")
        check_heads(self.width, self.num_heads)
        sides = (self.image_size,) if isinstance(self.image_size, int) else self.image_size
        if any(side % self.patch_size for side in sides):
            raise RequestError(f"image_size={self.image_size}: expected a multiple of patch_size={self.patch_size}")
        if self.width % 4:
            raise RequestError(f"width={self.width}: expected a multiple of 4, for the positions of patches")
        if self.waves < 4 or self.waves % 2:
            raise RequestError(f"waves={self.waves}: expected an even number of at least 4")
        check_rates(self, "dropout")
        check_factors(self, "norm_epsilon", "mlp_norm_epsilon")

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array, label: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Predicts [batch, height, width, channels], in at least float32.

        Args:
          x: noisy images, from about -1 to 1.
          time: [batch], from 0 (no noise) to 1000 (only noise).
          label: int [batch], the class of each image; `classes` is the null class, as is None for all images.
          train: apply dropout.
        """
        patch = self.patch_size
        check_images(x, f"DiT with patch_size={patch}", least=patch, multiple=patch)
        check_labels("DiT", self.classes, True, label)
        if self.classes is not None and label is None:
            label = jnp.full(len(x), self.classes)
        x = conv(
            self.width,
            patch,
            stride=patch,
            padding="valid",
            use_bias=True,
            dtype=self.dtype,
            kernel_init=nn.initializers.lecun_normal(),
            name="patches",
        )(x)
        rows, columns = x.shape[1:3]
        # The first half of the features encodes the column, as in the authors' code.
        positions = jnp.roll(sincos_2d(rows, columns, self.width), self.width // 2, axis=-1)
        x = x.reshape(len(x), -1, self.width) + positions.astype(x.dtype)

        names = [f"embedding{i}" for i in range(self.depth)] if self.block_embeddings else ["embedding"]
        conditions = [_Embedding(fields(self), name=name)(time, label) for name in names]
        x = stack(
            partial(Block, fields(self)),
            self.depth,
            x,
            lambda block, x, own=conditions[0]: block(x, own, train=train),
            along=conditions if self.block_embeddings else None,
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
        shift, scale = modulation(2, conditions[0], "head_modulation", self.dtype)
        x = _norm("norm", self.norm_epsilon, self.dtype)(x) * (1 + scale) + shift
        x = dense(patch * patch * self.channels, dtype=self.dtype, init=nn.initializers.zeros, name="head")(x)
        x = x.reshape(len(x), rows, columns, patch, patch, self.channels).swapaxes(2, 3)
        return x.reshape(len(x), rows * patch, columns * patch, self.channels).astype(param_dtype(self.dtype))


class _Embedding(nn.Module):
    """The sum of the embeddings of time and class: [batch, width]; `spec` holds the fields of `DiT`."""

    spec: Fields

    @nn.compact
    def __call__(self, time: jax.Array, label: jax.Array | None) -> jax.Array:
        spec = self.spec
        x = TimeEmbedding(spec.width, spec.waves, cosine_first=True, dtype=spec.dtype, name="time")(time)
        if spec.classes is not None:
            x = x + class_embedding(spec.classes, True, spec.width, dtype=spec.dtype, name="class")(label)
        return x


class Block(nn.Module):
    """Attention, then an MLP; `condition` [batch, width] shifts and scales the input and scales the output of both.

    All scales of outputs start at zero, so that the block starts as the identity.
    """

    spec: Fields

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, *, train: bool) -> jax.Array:
        spec, xavier = self.spec, nn.initializers.xavier_uniform()
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation(6, condition, "modulation", spec.dtype)
        dropout = nn.Dropout(spec.dropout, deterministic=not train)
        linear = partial(dense, dtype=spec.dtype, init=xavier)

        attention = MultiHeadAttention(
            num_heads=spec.num_heads, kernel=spec.kernel, dtype=spec.dtype, kernel_init=xavier, name="attention"
        )
        y = _norm("norm_attention", spec.norm_epsilon, spec.dtype)(x) * (1 + scale) + shift
        x = x + gate * dropout(attention(y, train=train))
        epsilon = spec.norm_epsilon if spec.mlp_norm_epsilon is None else spec.mlp_norm_epsilon
        y = _norm("norm_mlp", epsilon, spec.dtype)(x) * (1 + mlp_scale) + mlp_shift
        y = activation(spec.activation)(linear(spec.mlp_width or 4 * spec.width, name="up")(y))
        x = x + mlp_gate * dropout(linear(spec.width, name="down")(y))
        self.sow("intermediates", "out", x)
        return x


def modulation(parts: int, condition: jax.Array, name: str, dtype: str) -> list[jax.Array]:
    """Shifts and scales [batch, 1, width] from `condition` [batch, width]; all are zero at initialization."""
    layer = dense(parts * condition.shape[-1], dtype=dtype, init=nn.initializers.zeros, name=name)
    return jnp.split(layer(nn.silu(condition))[:, None], parts, axis=-1)


def _norm(name: str, epsilon: float, dtype: str) -> nn.LayerNorm:
    return layer_norm(dtype=dtype, epsilon=epsilon, use_scale=False, use_bias=False, name=name)


SIZES = {  # width, depth, heads
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "xl": (1152, 28, 16),
}
"""Peebles & Xie (2023), table 1."""


def dit(size: str = "xl", patch_size: int = 2, **fields: Any) -> DiT:
    """DiT-S, B, L or XL (the paper uses patches of 2, 4 or 8); `fields` override its fields.

    >>> dit("b", patch_size=4).width
    768

    Raises:
      RequestError: the size is unknown.
    """
    check_size("DiT", size, SIZES)
    width, depth, num_heads = SIZES[size]
    return DiT(**{"width": width, "depth": depth, "num_heads": num_heads, "patch_size": patch_size} | fields)
