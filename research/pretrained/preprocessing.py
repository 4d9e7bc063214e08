"""Input preprocessing of published image models: size, crop, interpolation, mean and standard deviation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from research.data.images import ImageShape, read_image
from research.errors import nearest, prefixed, require
from research.pretrained.config_values import numbers

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

_PILLOWS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # values of `resample` in Hugging Face's files


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resizes, crops the centre, scales and normalises.

    >>> Preprocessing(224, crop=0.875)(np.zeros((300, 400, 3), np.uint8)).shape
    (224, 224, 3)

    Attributes:
      image_size: the size of the model's input in pixels: the side of a square, or (height, width).
      crop: the fraction of each side of the resized image that the central crop keeps.
      squeeze: resize to a fixed shape, ignoring the aspect ratio; otherwise the resized image keeps its ratio and just
        covers the crop.
      interpolation: of the resize.
      mean, std: per channel, of scaled values; their length is the number of channels.
      scale: the factor applied to values of 0…255 before mean and std.
      even_corner: round a crop corner between two pixels to the even one, as torchvision and timm do; otherwise to the
        smaller one, as Hugging Face does.
    """

    image_size: int | tuple[int, int] = 224
    crop: float = 0.875
    squeeze: bool = False
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 1 / 255
    even_corner: bool = False

    def check(self) -> None:
        require(min(self.size) > 0, f"image_size={self.image_size}: expected at least 1 pixel")
        require(0 < self.crop <= 1, f"crop={self.crop}: expected 0 < crop <= 1, the share of the image that is kept")
        require(
            self.interpolation in get_args(Interpolation),
            f"interpolation={self.interpolation!r}: {nearest(str(self.interpolation), get_args(Interpolation))}",
        )
        require(all(std > 0 for std in self.std), f"std={self.std}: expected numbers above 0")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def before_crop(self) -> tuple[int, int]:
        """(height, width) before cropping to `size`, rounded down as in the publishers' code."""
        height, width = (int(side / self.crop + 1e-6) for side in self.size)  # 224 / (224 / 232) is less than 232
        return height, width

    def resized(self, image_size: int | tuple[int, int]) -> Preprocessing:
        """A copy for images of another size."""
        return dataclasses.replace(self, image_size=image_size)

    def for_channels(self, channels: int) -> Preprocessing:
        """A copy for another number of channels, each with the average of the current constants."""
        return dataclasses.replace(self, mean=_spread(self.mean, channels), std=_spread(self.std, channels))

    def from_hf(self, config: Mapping[str, Any]) -> Preprocessing:
        """Reads a `preprocessor_config.json`; missing values are this one's."""
        return from_hf(config, self)

    def to_hf(self) -> dict[str, Any]:
        """The `preprocessor_config.json` of these values."""
        return to_hf(self)

    def normalize(self, images: Any) -> Any:
        """Scales and normalises images [..., channels] of 0…255 (NumPy or JAX)."""
        return (images * self.scale - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def __call__(self, image: Any, name: str = "image") -> np.ndarray:
        """Prepares an image for the model: float32 [height, width, channels].

        Args:
          image: a path, a Pillow image, or a uint8 array [height, width] or [height, width, channels]; converted
            between grey and RGB as the model requires.
          name: what error messages call the image.

        Raises:
          RequestError: the file is missing or not an image, the array is unsupported, or it has more than 8 bits per
            channel.
        """
        from PIL import Image

        channels = len(self.mean)
        require(channels in (1, 3), f"{name}: the model sees {channels} channels; images have 1 or 3")
        read = read_image(image, ImageShape(size=None, channels=channels, convert=True), name)
        pixels = Image.fromarray(read[..., 0] if read.shape[-1] == 1 else read)
        (height, width), (tall, wide) = self.size, self.before_crop
        if not self.squeeze:  # one side is met exactly, the other rounded down
            if tall * pixels.width >= wide * pixels.height:
                wide = tall * pixels.width // pixels.height
            else:
                tall = wide * pixels.height // pixels.width
        # Python's round, like torchvision's CenterCrop, rounds halves to even.
        left, top = (round(x / 2) if self.even_corner else x // 2 for x in (wide - width, tall - height))
        pixels = pixels.resize((wide, tall), Image.Resampling[self.interpolation.upper()])
        cropped = np.asarray(pixels.crop((left, top, left + width, top + height)), np.float32)
        return self.normalize(cropped.reshape(height, width, -1)).astype(np.float32)


def from_hf(config: Mapping[str, Any], default: Preprocessing) -> Preprocessing:
    """Reads a `preprocessor_config.json`; missing values come from `default`.

    Raises:
      RequestError: it asks for an unsupported operation, or a value is invalid.
    """
    file = "preprocessor_config.json"
    require(config.get("do_resize", True) is not False, f"do_resize=false in {file}: images are always resized here")
    given = _sides(config, "size", file)
    size, keeps_ratio = given or (default.before_crop, not default.squeeze)
    share = numbers(config, "crop_pct", file)
    squeeze = not keeps_ratio
    if config.get("do_center_crop"):
        seen, _ = _sides(config, "crop_size", file) or (default.size, False)
        crop = share[0] if share else seen[0] / size[0]
    elif share:  # ConvNeXt's processor keeps the ratio, but squeezes large images and does not crop them
        seen, squeeze = size, size[0] >= 384
        crop = 1.0 if squeeze else share[0]
    elif given:
        seen, crop = size, 1.0 if squeeze else default.crop
    else:
        seen, crop, squeeze = default.size, default.crop, default.squeeze

    resample = config.get("resample")
    require(
        resample is None or (resample in tuple(_PILLOWS) and not isinstance(resample, bool)),
        f"resample={resample!r} in {file}: expected {', '.join(f'{n} ({name})' for n, name in _PILLOWS.items())}",
    )
    scale = (numbers(config, "rescale_factor", file) or (default.scale,))[0]
    mean = numbers(config, "image_mean", file) or default.mean
    std = numbers(config, "image_std", file) or default.std
    normalizes = config.get("do_normalize", True) is not False
    # EfficientNet's processor scales to -1…1 before mean and std, and divides by std twice.
    offset, again = float(bool(config.get("rescale_offset"))), bool(config.get("include_top"))
    rescales = config.get("do_rescale", True) is not False
    require(scale > 0 or not rescales, f"rescale_factor={scale} in {file}: expected a number above 0")
    read = Preprocessing(
        image_size=seen[0] if seen[0] == seen[1] else seen,
        crop=float(crop),
        squeeze=squeeze,
        interpolation=default.interpolation if resample is None else _PILLOWS[resample],
        mean=tuple((m if normalizes else 0.0) + offset * rescales for m in mean),
        std=tuple(s ** (normalizes + again) for s in std),
        scale=scale if rescales else 1.0,
    )
    return _checked(read.for_channels(len(default.mean)), file)


def to_hf(preprocessing: Preprocessing) -> dict[str, Any]:
    """A `preprocessor_config.json` from which `from_hf` and transformers restore the same values, except `even_corner`.

    Raises:
      RequestError: no processor of transformers crops a non-square from an image that keeps its ratio.
    """
    (height, width), (tall, wide) = preprocessing.size, preprocessing.before_crop
    require(
        preprocessing.squeeze or height == width,
        f"image_size={preprocessing.image_size}: no preprocessor_config.json can express this without squeeze=True",
    )
    numbers = {name: number for number, name in _PILLOWS.items()}
    return {
        "image_processor_type": "BitImageProcessor",  # the simplest one with all these operations
        "do_convert_rgb": len(preprocessing.mean) == 3,
        "do_resize": True,
        "size": {"height": tall, "width": wide} if preprocessing.squeeze else {"shortest_edge": tall},
        "resample": numbers[preprocessing.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "crop_pct": preprocessing.crop,  # more exact than the ratio of the two sizes
        "do_rescale": True,
        "rescale_factor": preprocessing.scale,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def from_timm(config: Mapping[str, Any], default: Preprocessing) -> Preprocessing:
    """Reads the `pretrained_cfg` of timm's config.json; missing values come from `default`.

    Raises:
      RequestError: it asks for an unsupported operation, or a value is invalid.
    """
    file = "pretrained_cfg of config.json"
    _, *size = numbers(config, "input_size", file) or (0, *default.size)
    require(len(size) == 2, f"input_size={config.get('input_size')} in {file}: expected [channels, height, width]")
    modes = {"center": False, "squash": True}
    mode = config.get("crop_mode") or "center"
    require(mode in tuple(modes), f"crop_mode={mode!r} in {file}: {nearest(str(mode), modes)}")
    height, width = map(int, size)
    read = Preprocessing(
        image_size=height if height == width else (height, width),
        crop=float((numbers(config, "crop_pct", file) or (default.crop,))[0]),
        squeeze=modes[mode],
        interpolation=config.get("interpolation") or default.interpolation,
        mean=numbers(config, "mean", file) or default.mean,
        std=numbers(config, "std", file) or default.std,
        even_corner=True,
    )
    return _checked(read.for_channels(len(default.mean)), file)


def _checked(read: Preprocessing, file: str) -> Preprocessing:
    with prefixed(f"{file}: "):
        read.check()
    return read


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _sides(config: Mapping[str, Any], key: str, file: str) -> tuple[tuple[int, int], bool] | None:
    """Reads ((height, width), short) under a key; short means that both are the shorter side of an image that keeps its
    ratio.
    """
    value = config.get(key)
    if value is None:
        return None
    short = isinstance(value, Mapping) and value.get("shortest_edge") is not None
    if short:
        sides = (value["shortest_edge"],) * 2
    elif isinstance(value, Mapping):
        sides = (value.get("height"), value.get("width", value.get("height")))
    else:
        sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    require(
        len(sides) == 2 and all(type(side) is int and side > 0 for side in sides),
        f"{key}={value!r} in {file}: expected a number of pixels, {{'height': …, 'width': …}} or "
        "{'shortest_edge': …}",
    )
    return sides, short
