"""DETR: a Transformer that turns learned queries into a set of boxes (Carion et al., 2020).

A ResNet's last map, with positions, goes through an encoder; a decoder's queries attend to it; the same two heads read
class and box from every layer of the decoder.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.config.checks import check_counts, check_factors, check_images, check_rates
from research.detection.predictions import SetPredictions
from research.errors import RequestError, nearest, require
from research.layers.activations import Activation, activation
from research.layers.attention import MultiHeadAttention
from research.layers.attention_kernels import Kernel
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields, like
from research.layers.masks import padding_mask
from research.layers.norms import layer_norm
from research.layers.positions2d import sincos_of_mask
from research.layers.transformer import check_stack, decoder_sizes, encoder_sizes
from research.models.model import Model
from research.models.resnet import SIZES, ResNet


class DETR(Model):
    """Maps images [batch, height, width, channels] to classes and boxes of `num_queries` objects.

    >>> model = DETR(classes=5, num_queries=7, width=16, depth=1, decoder_depth=2, num_heads=2, mlp_width=32,
    ...     depths=(1,), widths=(8,), strides=(1,), stem_width=8, block="basic", norm="batch")
    >>> found, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, 32, 48, 3)))
    >>> found.logits.shape, found.boxes.shape  # a layer each, and a class for "no object"
    ((2, 2, 7, 6), (2, 2, 7, 4))

    Attributes:
      classes: the number of classes, without "no object".
      num_queries: the number of learned queries, and so of objects that can be found in an image.
      width: the features of a token, a multiple of 4.
      depth, decoder_depth: the number of blocks of the encoder and of the decoder.
      num_heads: the number of attention heads, a divisor of `width`.
      mlp_width: the hidden features of each MLP; None means 4 `width`.
      activation: of the MLPs.
      dropout: the dropout rate on the output of each part of a block.
      attention_dropout: the dropout rate on attention weights.
      activation_dropout: the dropout rate on hidden features of the MLPs.
      norm_epsilon: of the layer norms.
      carry_norm: each block of the decoder reads the norm's output of the block before, which the heads read too, and
        the last output is normalised twice; so does transformers with `auxiliary_loss`, unlike the paper.
      kernel: of attention; see `research.layers.attention_kernels`.
      depths, widths, block, stem, stem_width, strides, dilations, bottleneck_stride, zero_init, momentum, epsilon: of
        the backbone, as in `ResNet`.
      norm: of the backbone: "frozen", as published, for pre-trained weights; "batch" to train it.
      decoder_num_heads, decoder_mlp_width: of the decoder; None means the encoder's.
      dtype: of the computation; parameters have at least float32, and so have the predictions.
    """

    classes: int = 91
    num_queries: int = 100
    width: int = 256
    depth: int = 6
    decoder_depth: int | None = None
    num_heads: int = 8
    decoder_num_heads: int | None = None
    mlp_width: int | None = 2048
    decoder_mlp_width: int | None = None
    activation: Activation = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    norm_epsilon: float = 1e-5
    carry_norm: bool = False
    kernel: Kernel = "auto"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    block: Literal["basic", "bottleneck"] = "bottleneck"
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_width: int = 64
    strides: tuple[int, ...] = (1, 2, 2, 2)
    dilations: tuple[int, ...] | None = None
    bottleneck_stride: Literal["3x3", "1x1"] = "3x3"
    norm: Literal["frozen", "batch", "group", "none"] = "frozen"
    zero_init: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "classes", "num_queries", "width", "depth", "decoder_depth", "num_heads", "mlp_width")
        check_counts(self, "decoder_num_heads", "decoder_mlp_width")
        check_rates(self, "dropout", "attention_dropout", "activation_dropout")
        check_factors(self, "norm_epsilon")
        require(self.width % 4 == 0, f"width={self.width}: expected a multiple of 4, for positions in two dimensions")
        check_stack(self, encoder_sizes(self))
        check_stack(self, decoder_sizes(self), num_heads="decoder_num_heads" if self.decoder_num_heads else "num_heads")
        self._backbone(parent=None).check()

    def _backbone(self, **place: Any) -> ResNet:
        return like(self, ResNet, activation="relu", dropout=0.0, **place)

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool = False) -> SetPredictions:
        """Returns the predictions after each block of the decoder.

        Args:
          x: images; those of different sizes are padded at the end of rows and columns.
          mask: bool [batch, height, width], True where there is image; None means everywhere.
          train: apply dropout, and update batch norm unless it is frozen.
        """
        check_images(x, "DETR")
        *_, features = self._backbone(name="backbone")(x, train=train, features=True).values()
        if mask is None:
            seen = jnp.ones(features.shape[:3], bool)
        else:  # the nearest pixel
            rows, columns = (
                np.arange(n) * size // n for n, size in zip(features.shape[1:3], mask.shape[1:], strict=True)
            )
            seen = mask[:, rows][:, :, columns].astype(bool)
        positions = sincos_of_mask(seen, self.width).astype(features.dtype)
        memory = conv(self.width, 1, use_bias=True, dtype=self.dtype, name="project")(features)
        memory, positions, seen = (y.reshape(len(y), -1, *y.shape[3:]) for y in (memory, positions, seen))

        spec = fields(self)
        sizes = encoder_sizes(self)
        for i in range(sizes.pop("depth")):
            block = Block(spec, **sizes, name=f"encoder_block{i}")
            memory = block(memory, positions, mask=padding_mask(seen), train=train)
        self.sow("intermediates", "memory", memory)

        queries = self.param("queries", nn.initializers.normal(1.0), (self.num_queries, self.width))
        queries = jnp.broadcast_to(queries.astype(memory.dtype), (len(x), *queries.shape))
        norm = layer_norm(dtype=self.dtype, epsilon=self.norm_epsilon, name="decoder_norm")
        class_head = dense(self.classes + 1, dtype=self.dtype, name="class_head")
        box_head = MLPHead((self.width, self.width, 4), self.dtype, name="box_head")
        y, logits, boxes = jnp.zeros_like(queries), [], []
        sizes = decoder_sizes(self)
        last = sizes.pop("depth") - 1
        for i in range(last + 1):
            block = Block(spec, **sizes, name=f"decoder_block{i}")
            y = block(y, queries, memory, positions, mask=padding_mask(seen), train=train)
            out = norm(y)
            if self.carry_norm:
                y, out = out, norm(out) if i == last else out
            logits.append(class_head(out))
            boxes.append(jax.nn.sigmoid(box_head(out)))
        self.sow("intermediates", "decoded", out)
        wide = param_dtype(self.dtype)
        return SetPredictions(jnp.stack(logits).astype(wide), jnp.stack(boxes).astype(wide))


class Block(nn.Module):
    """Self-attention, cross-attention (with a memory) and an MLP; a layer norm follows each sum.

    Positions are added to queries and keys in every block, never to values.
    """

    spec: Fields
    num_heads: int
    mlp_width: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        memory: jax.Array | None = None,
        memory_positions: jax.Array | None = None,
        *,
        mask: jax.Array,
        train: bool,
    ) -> jax.Array:
        spec, glorot = self.spec, nn.initializers.xavier_uniform()
        attention = partial(
            MultiHeadAttention,
            num_heads=self.num_heads,
            dropout=spec.attention_dropout,
            kernel=spec.kernel,
            dtype=spec.dtype,
            kernel_init=glorot,
        )

        def add(x: jax.Array, part: jax.Array, name: str) -> jax.Array:
            part = nn.Dropout(spec.dropout, deterministic=not train)(part)
            return layer_norm(dtype=spec.dtype, epsilon=spec.norm_epsilon, name=name)(x + part)

        placed = x + positions
        own = None if memory is not None else mask
        y = attention(name="self_attention")(placed, x, keys=placed, mask=own, train=train)
        x = add(x, y, "norm_self")
        if memory is not None:
            keys = memory + memory_positions
            y = attention(name="cross_attention")(x + positions, memory, keys=keys, mask=mask, train=train)
            x = add(x, y, "norm_cross")
        y = activation(spec.activation)(dense(self.mlp_width, dtype=spec.dtype, init=glorot, name="up")(x))
        y = nn.Dropout(spec.activation_dropout, deterministic=not train)(y)
        return add(x, dense(x.shape[-1], dtype=spec.dtype, init=glorot, name="down")(y), "norm_mlp")


class MLPHead(nn.Module):
    """Dense layers with ReLU in between, of these widths."""

    widths: tuple[int, ...]
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = dense(width, dtype=self.dtype, name=f"layer{i}")(nn.relu(x) if i else x)
        return x


def detr(layers: int = 50, *, dilated: bool = False, **fields: Any) -> DETR:
    """DETR with ResNet-50 (41,524,768 parameters with 91 classes) or 101; `fields` override its fields.

    >>> detr(101).depths
    (3, 4, 23, 3)

    Args:
      layers: of the ResNet.
      dilated: keep the resolution of the last stage (DC5).

    Raises:
      RequestError: there is no such ResNet.
    """
    if layers not in SIZES:
        raise RequestError(f"layers={layers}: no such ResNet in the paper; {nearest(str(layers), SIZES)}")
    depths, block, _ = SIZES[layers]
    widths = (64, 128, 256, 512) if block == "basic" else (256, 512, 1024, 2048)
    dc5 = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)} if dilated else {}
    return DETR(**{"depths": depths, "block": block, "widths": widths} | dc5 | fields)
