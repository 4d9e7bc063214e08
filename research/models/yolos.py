"""YOLOS: a plain Vision Transformer with detection tokens (Fang et al., 2021)."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from research.config.checks import check_counts, check_size
from research.detection.predictions import SetPredictions
from research.layers.activations import Activation
from research.layers.attention_kernels import Kernel
from research.layers.dtypes import DType, param_dtype
from research.layers.fields import like
from research.layers.stack import Remat
from research.models.detr import MLPHead
from research.models.model import Model
from research.models.vit import ViT


class YOLOS(Model):
    """Maps images [batch, height, width, channels] to classes and boxes of `num_queries` objects.

    >>> model = YOLOS(classes=5, num_queries=7, image_size=16, patch_size=8, width=16, depth=2, num_heads=2)
    >>> found, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, 16, 24, 3)))
    >>> found.logits.shape, found.boxes.shape  # one layer, and a class for "no object"
    ((1, 2, 7, 6), (1, 2, 7, 4))

    Attributes:
      classes: the number of classes, without "no object".
      num_queries: the number of detection tokens, and so of objects that can be found in an image.
      image_size: the side, in pixels, or (height, width) of the images that positions are made for; for images of other
        multiples of `patch_size`, they are interpolated.
      positions_again: learned positions are also added after each block but the last.
      patch_size, width, depth, num_heads, mlp_width, qkv_bias, activation, norm_epsilon: as in `ViT`.
      dropout, attention_dropout, drop_path, kernel, remat: as there.
      dtype: of the computation; parameters have at least float32, and so have the predictions.
    """

    classes: int = 91
    num_queries: int = 100
    image_size: int | tuple[int, int] = (512, 864)
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int | None = None
    positions_again: bool = False
    qkv_bias: bool = True
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    kernel: Kernel = "auto"
    remat: Remat = False
    dtype: DType = "float32"

    def check(self) -> None:
        super().check()
        check_counts(self, "classes", "num_queries")
        self._backbone(parent=None).check()

    def _backbone(self, **place: Any) -> ViT:
        """The Vision Transformer, whose last tokens are the detection tokens."""
        return like(self, ViT, extra_tokens=self.num_queries, **place)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> SetPredictions:
        tokens = self._backbone(name="backbone")(x, train=train, features=True)
        self.sow("intermediates", "tokens", tokens)
        tokens = tokens[None, :, -self.num_queries :]
        logits = MLPHead((self.width, self.width, self.classes + 1), self.dtype, name="class_head")(tokens)
        boxes = jax.nn.sigmoid(MLPHead((self.width, self.width, 4), self.dtype, name="box_head")(tokens))
        wide = param_dtype(self.dtype)
        return SetPredictions(logits.astype(wide), boxes.astype(wide))


SIZES = {  # width, depth, heads, image size, positions again, parameters with 91 classes
    "ti": (192, 12, 3, (800, 1328), False, 6_488_736),
    "s": (384, 12, 6, (512, 864), True, 30_684_768),
    "b": (768, 12, 12, (800, 1344), True, None),
}
"""Fang et al. (2021), table 2."""


def yolos(size: str = "s", **fields: Any) -> YOLOS:
    """YOLOS-Ti, S or B; `fields` override its fields.

    >>> yolos("ti").width
    192

    Raises:
      RequestError: the size is unknown.
    """
    check_size("YOLOS", size, SIZES)
    width, depth, num_heads, image_size, again, _ = SIZES[size]
    sizes = {"width": width, "depth": depth, "num_heads": num_heads, "image_size": image_size}
    return YOLOS(**sizes | {"positions_again": again} | fields)
