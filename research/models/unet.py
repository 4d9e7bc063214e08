"""U-Net for diffusion: residual blocks with attention at chosen resolutions (Ho et al., 2020; Dhariwal & Nichol, 2021).

The map is halved between levels on the way down and doubled on the way up, where each residual block also reads the map
that the same level had on the way down.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.config.checks import (
    check_counts,
    check_depths,
    check_factors,
    check_images,
    check_rates,
    check_size,
    check_stages,
)
from research.errors import require
from research.layers.activations import Activation, activation
from research.layers.attention import MultiHeadAttention
from research.layers.attention_kernels import Kernel
from research.layers.conv import conv
from research.layers.dense import dense
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import Fields, fields
from research.layers.norms import group_norm
from research.layers.stack import Remat, policy
from research.layers.time_embedding import TimeEmbedding, check_labels, class_embedding
from research.models.model import Model

Resample = Literal["keep", "down", "up"]


class UNet(Model):
    """Maps noisy images [batch, height, width, channels] at times [batch] to a prediction of the same size.

    >>> model = UNet(image_size=8, channels=1, widths=(8, 16), depth=1, attention=(False, True), groups=4, classes=10)
    >>> inputs = {"x": jnp.zeros((4, 8, 8, 1)), "time": jnp.zeros(4), "label": jnp.arange(4)}
    >>> jax.eval_shape(model.init_with_output, jax.random.key(0), **inputs)[0].shape
    (4, 8, 8, 1)

    Attributes:
      image_size: the side, in pixels, or (height, width), of the images that it is made for; any size works whose
        sides can be halved between all levels.
      channels: of the prediction; twice those of the images if the variance is predicted as well, after the mean.
      widths: the channels of each level.
      depth: the residual blocks of each level on the way down; on the way up there is one more.
      attention: add self-attention after each residual block of a level, one per level.
      middle_attention: add self-attention between the two residual blocks in the middle.
      middle_norm: normalise the input of the attention in the middle.
      head_dim: the features of an attention head; None means one head.
      groups: the groups of each group norm, a divisor of all widths.
      classes: the number of classes; None builds a model without classes.
      null_class: add a class after the others, which stands for no class.
      conditioning: time and class are "add"ed to the hidden map of each residual block, or "scale_shift" its second
        norm.
      resample: halve and double maps by a convolution, "conv", or in a residual "block".
      downsample_padding: of convolutions of stride 2: a row and a column of zeros at the "end", or "symmetric".
      cosine_first, frequency_shift: of the waves of time; see `research.layers.time_embedding`.
      activation: of residual blocks.
      norm_epsilon: of every group norm.
      dropout: the dropout rate before the second convolution of each residual block.
      kernel: of attention; see `research.layers.attention_kernels`.
      remat: the parts of a residual block that the backward pass recomputes; see `research.layers.stack.Remat`.
      dtype: of the computation; parameters have at least float32.
    """

    image_size: int | tuple[int, int] = 32
    channels: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    depth: int = 2
    attention: tuple[bool, ...] = (False, True, False, False)
    middle_attention: bool = True
    middle_norm: bool = True
    head_dim: int | None = None
    groups: int = 32
    classes: int | None = None
    null_class: bool = True
    conditioning: Literal["add", "scale_shift"] = "add"
    resample: Literal["conv", "block"] = "conv"
    downsample_padding: Literal["end", "symmetric"] = "end"
    cosine_first: bool = False
    frequency_shift: float = 1.0
    activation: Activation = "silu"
    norm_epsilon: float = 1e-6
    dropout: float = 0.0
    kernel: Kernel = "auto"
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "image_size", "channels", "widths", "head_dim", "groups", "classes")
        check_depths(self, "depth")
        check_stages(self, "attention", stages="widths")
        for name in ("groups", "head_dim"):
            size = getattr(self, name)
            fits = size is None or not any(width % size for width in self.widths)
            require(fits, f"{name}={size}: expected a divisor of all widths={self.widths}")
        require(self.widths[0] % 2 == 0, f"widths={self.widths}: expected an even first one, for the waves of time")
        multiple = self.multiple
        sides = (self.image_size,) if isinstance(self.image_size, int) else self.image_size
        halved = all(side % multiple == 0 for side in sides)
        require(
            halved, f"image_size={self.image_size}: expected a multiple of {multiple} for {len(self.widths)} widths"
        )
        check_rates(self, "dropout")
        check_factors(self, "norm_epsilon")

    @property
    def multiple(self) -> int:
        """The number that sides of images must be multiples of."""
        return 2 ** (len(self.widths) - 1)

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
        check_images(x, f"UNet with {len(self.widths)} widths", least=self.multiple, multiple=self.multiple)
        check_labels("UNet", self.classes, self.null_class, label)
        spec, last = fields(self), len(self.widths) - 1
        condition = self._condition(x, time, label)
        block = nn.remat(_Residual, static_argnums=(3,), policy=policy(self.remat)) if self.remat else _Residual

        def residual(x: jax.Array, width: int, name: str, resample: Resample = "keep") -> jax.Array:
            return block(spec, width, resample, name=name)(x, condition, train)

        def attend(x: jax.Array, name: str, norm: bool = True) -> jax.Array:
            return _Attention(spec, norm, name=name)(x, train=train)

        same = partial(conv, dtype=self.dtype, use_bias=True, kernel_init=nn.initializers.lecun_normal())
        x = same(self.widths[0], 3, name="stem")(x)
        maps = [x]
        for level, width in enumerate(self.widths):
            for i in range(self.depth):
                x = residual(x, width, f"down{level}_block{i}")
                x = attend(x, f"down{level}_attention{i}") if self.attention[level] else x
                maps.append(x)
            if level < last:
                if self.resample == "block":
                    x = residual(x, width, f"down{level}_half", "down")
                else:
                    padding = ((0, 1), (0, 1)) if self.downsample_padding == "end" else "symmetric"
                    x = same(width, 3, stride=2, padding=padding, name=f"down{level}_half")(x)
                maps.append(x)

        x = residual(x, self.widths[-1], "middle_block0")
        x = attend(x, "middle_attention", self.middle_norm) if self.middle_attention else x
        x = residual(x, self.widths[-1], "middle_block1")
        self.sow("intermediates", "middle", x)

        for level, width in reversed(list(enumerate(self.widths))):
            for i in range(self.depth + 1):
                x = residual(jnp.concatenate([x, maps.pop()], axis=-1), width, f"up{level}_block{i}")
                x = attend(x, f"up{level}_attention{i}") if self.attention[level] else x
            if level > 0 and self.resample == "block":
                x = residual(x, width, f"up{level}_double", "up")
            elif level > 0:
                x = same(width, 3, name=f"up{level}_double")(doubled(x))

        x = activation("silu")(group_norm(self.groups, epsilon=self.norm_epsilon, dtype=self.dtype, name="norm")(x))
        x = same(self.channels, 3, kernel_init=nn.initializers.zeros, name="head")(x)
        return x.astype(param_dtype(self.dtype))

    def _condition(self, x: jax.Array, time: jax.Array, label: jax.Array | None) -> jax.Array:
        """The sum of the embeddings of time and class: [batch, 4 · first width]."""
        width = 4 * self.widths[0]
        condition = TimeEmbedding(
            width, self.widths[0], self.cosine_first, self.frequency_shift, dtype=self.dtype, name="time"
        )(time)
        if self.classes is None:
            return condition
        label = jnp.full(len(x), self.classes) if label is None else label
        return condition + class_embedding(self.classes, self.null_class, width, dtype=self.dtype, name="class")(label)


class _Residual(nn.Module):
    """Two convolutions with a residual connection, which read the condition [batch, features] between them.

    Attributes:
      spec: the fields of `UNet`.
      width: the channels of the output.
      resample: halve or double the map before the first convolution.
    """

    spec: Fields
    width: int
    resample: Resample = "keep"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        spec = self.spec
        act = activation(spec.activation)
        same = partial(conv, dtype=spec.dtype, use_bias=True, kernel_init=nn.initializers.lecun_normal())
        norm = partial(group_norm, spec.groups, epsilon=spec.norm_epsilon, dtype=spec.dtype)
        resize = {"keep": lambda x: x, "down": halved, "up": doubled}[self.resample]

        y = same(self.width, 3, name="conv0")(resize(act(norm(name="norm0")(x))))
        shifts = spec.conditioning == "scale_shift"
        shift = dense((1 + shifts) * self.width, dtype=spec.dtype, name="condition")(act(condition))[:, None, None]
        if shifts:
            scale, shift = jnp.split(shift, 2, axis=-1)
            y = norm(name="norm1")(y) * (1 + scale) + shift
        else:
            y = norm(name="norm1")(y + shift)
        y = nn.Dropout(spec.dropout, deterministic=not train)(act(y))
        y = same(self.width, 3, kernel_init=nn.initializers.zeros, name="conv1")(y)
        x = resize(x)
        x = x if x.shape[-1] == self.width else same(self.width, 1, name="shortcut")(x)
        return x + y


class _Attention(nn.Module):
    """Self-attention between all pixels of a map, with a residual connection; `spec` holds the fields of `UNet`."""

    spec: Fields
    norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec, width = self.spec, x.shape[-1]
        y = group_norm(spec.groups, epsilon=spec.norm_epsilon, dtype=spec.dtype, name="norm")(x) if self.norm else x
        attention = MultiHeadAttention(
            num_heads=width // (spec.head_dim or width),
            kernel=spec.kernel,
            dtype=spec.dtype,
            out_init=nn.initializers.zeros,
            name="attention",
        )
        return x + attention(y.reshape(len(x), -1, width), train=train).reshape(x.shape)


def doubled(x: jax.Array) -> jax.Array:
    """Repeats every pixel of [batch, height, width, channels] in a square of 2 × 2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def halved(x: jax.Array) -> jax.Array:
    """Averages every square of 2 × 2 pixels of [batch, height, width, channels]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


_DDPM = {"depth": 2, "dropout": 0.1}
_ADM = {
    "depth": 3,
    "head_dim": 64,
    "conditioning": "scale_shift",
    "resample": "block",
    "cosine_first": True,
    "frequency_shift": 0.0,
    "norm_epsilon": 1e-5,
    "dropout": 0.1,
}

SIZES: dict[str, dict[str, Any]] = {
    "ddpm32": _DDPM,
    "ddpm256": {
        "image_size": 256,
        "widths": (128, 128, 256, 256, 512, 512),
        "attention": (False, False, False, False, True, False),
        **_DDPM,
        "dropout": 0.0,
    },
    "adm64": {
        "image_size": 64,
        "channels": 6,
        "widths": (192, 384, 576, 768),
        "attention": (False, True, True, True),
        "classes": 1000,
        "null_class": False,
        **_ADM,
    },
}
"""Ho et al. (2020), appendix B: CIFAR-10, and CelebA-HQ and LSUN; Dhariwal & Nichol (2021), table 11: ImageNet 64."""


def unet(size: str = "ddpm32", **fields: Any) -> UNet:
    """The U-Net of a paper: "ddpm32" (CIFAR-10), "ddpm256" (CelebA-HQ, LSUN) or "adm64" (ImageNet).

    >>> unet("ddpm32").widths
    (128, 256, 256, 256)

    Args:
      size: the paper and the side of its images.
      fields: override the fields of the model.

    Raises:
      RequestError: the size is unknown.
    """
    check_size("U-Net", size, SIZES)
    return UNet(**SIZES[size] | fields)
