"""Vision Transformer: a Transformer encoder on image patches (Dosovitskiy et al., 2021; Beyer et al., 2022)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

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
from research.layers.positions2d import resize_grid, sincos_2d
from research.layers.stack import Remat, stack
from research.layers.stochastic_depth import StochasticDepth, linear_rates
from research.layers.transformer import TENSOR_RULES
from research.models.model import Model


class ViT(Model):
    """Maps images [batch, height, width, channels] to logits [batch, classes].

    >>> model = ViT(image_size=16, patch_size=4, width=16, depth=1, num_heads=2, classes=10)
    >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((4, 16, 16, 3)))
    >>> logits.shape
    (4, 10)

    Attributes:
      image_size: the side, in pixels, or (height, width) of the images that learned positions are made for.  For images
        of other multiples of `patch_size`, positions are interpolated.
      patch_size: the side of a patch, in pixels.
      width: the features of a token.
      depth: the number of blocks.
      num_heads: the number of attention heads, a divisor of `width`.
      mlp_width: the hidden features of each MLP; None means 4 `width`.
      classes: the number of logits.
      class_token: put a learned token before the patches.
      extra_tokens: the number of learned tokens after the patches: registers (Darcet et al., 2024), or the detection
        tokens of YOLOS.
      positions_again: learned positions are also added after each block but the last, other ones for each (YOLOS).
      pool: the input of the head: the class "token", or the "average" over the patches.
      norm_after_pool: apply the last layer norm after pooling instead of to every token.
      positions: "learned", or "sincos" for fixed sines and cosines of row and column (the class token then has none).
      qkv_bias: give the projections to queries, keys and values a bias.
      activation: of the MLPs.
      norm_epsilon: of every layer norm.
      dropout: the dropout rate after the positions and after every dense layer except queries, keys and values.
      attention_dropout: the dropout rate on attention weights.
      drop_path: the stochastic depth rate of the last block; earlier blocks have proportionally lower rates.
      kernel: of attention; see `research.layers.attention_kernels`.
      scan_layers: compile one block with stacked parameters `blocks`, instead of `block0`, `block1`, ...
      remat: the parts of a block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    tensor_rules = TENSOR_RULES

    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int | None = None
    classes: int = 1000
    class_token: bool = True
    extra_tokens: int = 0
    positions_again: bool = False
    pool: Literal["token", "average"] = "token"
    norm_after_pool: bool = False
    positions: Literal["learned", "sincos"] = "learned"
    qkv_bias: bool = True
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    kernel: Kernel = "auto"
    scan_layers: bool = False
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "patch_size", "width", "num_heads", "mlp_width", "classes")
        check_depths(self, "depth")
        check_heads(self.width, self.num_heads)
        if any(side < self.patch_size or side % self.patch_size for side in _pair(self.image_size)):
            raise RequestError(f"image_size={self.image_size}: expected a multiple of patch_size={self.patch_size}")
        if self.pool == "token" and not self.class_token:
            raise RequestError("pool='token': there is no class token; expected pool='average' or class_token=True")
        if self.positions == "sincos" and self.width % 4:
            raise RequestError(f"width={self.width}: expected a multiple of 4 for positions='sincos'")
        check_counts(self, "extra_tokens", least=0)
        if self.positions_again and (self.positions != "learned" or self.scan_layers):
            raise RequestError("positions_again=True: expected positions='learned' and scan_layers=False")
        check_rates(self, "dropout", "attention_dropout", "drop_path")
        check_factors(self, "norm_epsilon")

    @property
    def grid(self) -> tuple[int, int]:
        """The rows and columns of patches in an image of `image_size`."""
        height, width = _pair(self.image_size)
        return height // self.patch_size, width // self.patch_size

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """Returns logits; with `features`, all tokens [batch, tokens, width] after the last norm instead."""
        patch = self.patch_size
        check_images(x, f"ViT with patch_size={patch}", least=patch, multiple=patch)
        wide = param_dtype(self.dtype)
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
        grid = x.shape[1:3]
        x = x.reshape(len(x), -1, self.width)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width), wide)
            x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)).astype(x.dtype), x], axis=1)
        if self.extra_tokens:
            shape = (1, self.extra_tokens, self.width)
            extra = self.param("extra_tokens", nn.initializers.normal(0.02), shape, wide)
            x = jnp.concatenate([x, jnp.broadcast_to(extra, (len(x), *shape[1:])).astype(x.dtype)], axis=1)
        x = x + self._positions(grid).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        self.sow("intermediates", "embedded", x)

        again = self._positions_of_blocks(grid) if self.positions_again and self.depth > 1 else {}

        def apply(block: Block, x: jax.Array, drop: float | jax.Array = 0.0) -> jax.Array:
            x = block(x, drop, train=train)
            return x + again[block.name].astype(x.dtype) if block.name in again else x

        x = stack(
            lambda name: Block(fields(self), name=name),
            self.depth,
            x,
            apply,
            along=linear_rates(self.drop_path, self.depth) if self.drop_path > 0 else None,
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
        norm = layer_norm(dtype=self.dtype, epsilon=self.norm_epsilon, name="norm")
        x = x if self.norm_after_pool else norm(x)
        self.sow("intermediates", "tokens", x)
        if features:
            return norm(x) if self.norm_after_pool else x
        patches = slice(int(self.class_token), x.shape[1] - self.extra_tokens)
        x = x[:, 0] if self.pool == "token" else x[:, patches].mean(1)
        x = norm(x) if self.norm_after_pool else x
        self.sow("intermediates", "pooled", x)
        return dense(self.classes, dtype=self.dtype, init=nn.initializers.zeros, name="head")(x).astype(wide)

    def _positions(self, grid: tuple[int, int]) -> jax.Array:
        """Returns positions [1, tokens, width] for a grid of patches; the class token comes first."""
        if self.positions == "sincos":
            waves = sincos_2d(*grid, self.width)
            before, after = (jnp.zeros((count, self.width)) for count in (int(self.class_token), self.extra_tokens))
            return jnp.concatenate([before, waves, after])[None]
        return self._learned("positions", (1,), grid)

    def _positions_of_blocks(self, grid: tuple[int, int]) -> dict[str, jax.Array]:
        """Returns the positions [1, tokens, width] that are added after each block but the last, by its name."""
        tables = self._learned("positions_again", (self.depth - 1, 1), grid)
        return {f"block{i}": table for i, table in enumerate(tables)}

    def _learned(self, name: str, axes: tuple[int, ...], grid: tuple[int, int]) -> jax.Array:
        """Learned positions [*axes, tokens, width], interpolated to a grid of patches."""
        tokens = int(self.class_token) + math.prod(self.grid) + self.extra_tokens
        shape = (*axes, tokens, self.width)
        table = self.param(name, nn.initializers.normal(0.02), shape, param_dtype(self.dtype))
        if grid == self.grid:
            return table
        tables = table.reshape(-1, tokens, self.width)
        new = [resize_positions(one[None], self.grid, grid, after=self.extra_tokens) for one in tables]
        return jnp.stack(new).reshape(*axes, -1, self.width)


class Block(nn.Module):
    """Attention, then an MLP, each with pre-norm and a residual connection; `drop` is the rate of stochastic depth."""

    spec: Fields

    @nn.compact
    def __call__(self, x: jax.Array, drop: float | jax.Array, *, train: bool) -> jax.Array:
        spec = self.spec
        norm = {"dtype": spec.dtype, "epsilon": spec.norm_epsilon}
        xavier = nn.initializers.xavier_uniform()
        dropout = nn.Dropout(spec.dropout, deterministic=not train)
        drop_path = StochasticDepth(drop)
        linear = partial(dense, dtype=spec.dtype, init=xavier)

        attention = MultiHeadAttention(
            num_heads=spec.num_heads,
            use_bias=spec.qkv_bias,
            out_bias=True,
            dropout=spec.attention_dropout,
            kernel=spec.kernel,
            dtype=spec.dtype,
            kernel_init=xavier,
            name="attention",
        )
        y = attention(layer_norm(name="norm_attention", **norm)(x), train=train)
        x = x + drop_path(dropout(y), train=train)
        y = layer_norm(name="norm_mlp", **norm)(x)
        y = dropout(activation(spec.activation)(linear(spec.mlp_width or 4 * spec.width, name="up")(y)))
        y = dropout(linear(spec.width, name="down")(y))
        x = x + drop_path(y, train=train)
        self.sow("intermediates", "out", x)
        return x


def resize_positions(positions: jax.Array, old: tuple[int, int], new: tuple[int, int], *, after: int = 0) -> jax.Array:
    """Interpolates positions [1, tokens, width] from the `old` grid of patches to the `new` one.

    Tokens before the patches, and the `after` last ones, keep their positions.
    """
    end = positions.shape[1] - after
    prefix = end - math.prod(old)
    grid = resize_grid(positions[0, prefix:end].reshape(*old, -1), new)
    return jnp.concatenate([positions[0, :prefix], grid.reshape(math.prod(new), -1), positions[0, end:]])[None]


def resized(model: ViT, variables: dict[str, Any], image_size: int | tuple[int, int]) -> tuple[ViT, dict[str, Any]]:
    """Returns the model and its variables for another image size, to fine-tune at a higher resolution."""
    new = model.clone(image_size=image_size)
    new.check()
    params = dict(variables["params"])
    resize = partial(resize_positions, old=model.grid, new=new.grid, after=model.extra_tokens)
    if model.positions == "learned":
        params["positions"] = resize(params["positions"])
    if model.positions_again:
        params["positions_again"] = jnp.stack([resize(one) for one in params["positions_again"]])
    return new, {**variables, "params": params}


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


SIZES = {  # width, depth, heads
    "ti": (192, 12, 3),
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
}
"""Dosovitskiy et al. (2021), table 1; Ti and S are from Touvron et al. (2021)."""


def vit(size: str = "b", patch_size: int = 16, **fields: Any) -> ViT:
    """ViT-Ti, S, B or L (the papers use patches of 8, 14, 16 or 32 pixels); `fields` override its fields.

    >>> vit("s", patch_size=32).width
    384

    Raises:
      RequestError: the size is unknown.
    """
    check_size("ViT", size, SIZES)
    width, depth, num_heads = SIZES[size]
    return ViT(**{"width": width, "depth": depth, "num_heads": num_heads, "patch_size": patch_size} | fields)
