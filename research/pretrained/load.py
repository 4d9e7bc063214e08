"""`load_pretrained` reads published weights into our parameters.

    model, variables = load_pretrained("resnet50", "model.safetensors")
    model, variables = load_pretrained("vit_b16", "google/vit-base-patch16-224", classes=10, image_size=384)
    load_pretrained("auto", "microsoft/resnet-50").predict(["cat.jpg"])["class_name"]

Reading is strict: every tensor of the file is used once, and every parameter of the model is filled.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.config.types import conform
from research.data.batches import in_batches
from research.data.labels import class_name
from research.errors import RequestError, nearest, prefixed, require
from research.layers.dtypes import DType
from research.models.encoder_decoder import EncoderDecoder
from research.models.model import described
from research.pretrained import class_names as labels
from research.pretrained import files, generation_config, mapping, timm_config
from research.pretrained.catalog import FAMILIES, check_layers, family_in, family_of, find_variant, from_config
from research.pretrained.family import Family, Shapes
from research.pretrained.fitting import FitWithin
from research.pretrained.preprocessing import Preprocessing, from_timm
from research.pretrained.rules import KeyMap

_FEW_LAYERS = 50
"""A model of so few layers is built to say which of its tensors a file lacks, however few the file has."""


class Pretrained(tuple[nn.Module, dict[str, Any]]):
    """The pair `(model, variables)`, with settings that were published beside the weights.

    Attributes:
      model, variables: the pair.
      preprocessing: prepares images for the model; None if it takes no images.
      publisher: the publisher whose names the file uses ("huggingface", "timm", "torchvision", ...).
      class_names: the class names of a classifier, if the config.json beside the weights has them; else None.
      generation: the settings of generation for a model that writes text: generation_config.json beside the weights, or
        config.json, which holds the same in older repositories; {} if there is neither.
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocessing: Preprocessing | None
    publisher: str
    class_names: tuple[str, ...] | None
    generation: Mapping[str, Any]

    def __new__(
        cls,
        model: nn.Module,
        variables: dict[str, Any],
        preprocessing: Preprocessing | FitWithin | None,
        publisher: str,
        class_names: tuple[str, ...] | None = None,
        generation: Mapping[str, Any] | None = None,
    ):
        both = super().__new__(cls, (model, variables))
        both.model, both.variables, both.preprocessing, both.publisher = model, variables, preprocessing, publisher
        both.class_names, both.generation = class_names, generation or {}
        return both

    def __repr__(self) -> str:
        return f"Pretrained\n  model {described(self.model, self.variables)}\n  from  {self.publisher}"

    def predict(self, images: Sequence[Any] | np.ndarray, *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Classifies images.

        Args:
          images: a list of paths, PIL images or uint8 arrays [height, width, channels], of any sizes; or one array
            [images, height, width, channels].
          batch_size: number of images that are prepared and computed at a time.

        Returns:
          {"label": int [images], "probability": float32 [images, classes]}, and "class_name": text [images] if the
          classes have names.

        Raises:
          RequestError: the model does not classify images; there are no images, or one cannot be read; `batch_size` is
            not a positive integer.
        """
        classifies = isinstance(self.preprocessing, Preprocessing)
        require(classifies, f"predict: {type(self.model).__name__} does not classify images")
        listed = isinstance(images, Sequence | np.ndarray) and not isinstance(images, str | bytes)
        require(listed, f"images: expected a list of them, got {type(images).__name__}; put a single one in a list")
        shape = images.shape if isinstance(images, np.ndarray) else (0,) * 4
        require(
            len(shape) == 4,
            f"images: one array {list(shape)}; expected [images, height, width, channels]; put a single one in a list",
        )
        require(len(images) > 0, "images: an empty list; expected at least one image")
        batch_size = conform(batch_size, int, "batch_size")
        require(batch_size > 0, f"batch_size={batch_size}: expected at least 1")

        def compute(rows: np.ndarray) -> jax.Array:
            own = dict.fromkeys(rows.tolist())  # the last row may be repeated
            batch = np.stack([self.preprocessing(images[i], name=f"image {i}") for i in own])
            return self._probabilities(self.variables, batch[rows - rows[0]])

        probability = in_batches(compute, len(images), batch_size)
        predicted = {"label": probability.argmax(-1), "probability": probability}
        if self.class_names is not None:
            predicted["class_name"] = class_name(self.class_names, predicted["label"])
        return predicted

    def decoding(self, *, language: str | None = None) -> generation_config.Decoding:
        """(start, how): the first tokens of a text, and the `Generation` for `research.decoding.generate`.

        Args:
          language: the language of the speech ("de"), for a multilingual Whisper.

        Raises:
          RequestError: the model does not write text, or its published settings are not supported.
        """
        context_length = getattr(self.model, "context_length", None)
        require(context_length is not None, f"decoding: {type(self.model).__name__} writes no text")
        begins = isinstance(self.model, EncoderDecoder)
        return generation_config.read(self.generation, context_length=context_length, language=language, begins=begins)

    @functools.cached_property
    def _probabilities(self) -> Callable[[Any, jax.Array], jax.Array]:
        model = self.model
        return jax.jit(lambda variables, images: jax.nn.softmax(model.apply(variables, images)))


def load_pretrained(
    model: str | nn.Module | Mapping[str, Any],
    source: str | os.PathLike | None = None,
    *,
    classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    dtype: DType | None = None,
    seed: int = 0,
) -> Pretrained:
    """Reads published weights from a local file, folder or index of shards, or from the hub.

    Args:
      model: the name of a variant ("resnet50"; `variants()` lists them), one of our models, the parsed config.json of
        Hugging Face or timm, or "auto", which reads the config.json beside the weights.  A named variant takes the
        number of classes from the file, and details (padding, epsilon) from the config.json beside it or, without one,
        from the publisher's usual settings; other models are used unchanged.
      source: a .safetensors file, its index, a folder, or "org/name" on the hub; None uses the variant's usual
        repository.
      classes: number of classes of a new head, initialised from `seed`; None keeps the published head.
      image_size: side of the images in pixels, or (height, width); learned positions are interpolated to it.
      dtype: dtype of computation; None keeps the model's.  Parameters are kept in float32.
      seed: seeds the new head.

    Returns:
      A `Pretrained`: unpack it as `model, variables`, or use `.predict`, `.preprocessing` and `.class_names`.

    Raises:
      RequestError: an argument has the wrong type, the name is unknown, the source or a config cannot be read, or the
        file does not fit the model.  The message then lists the tensors that are missing, unknown, of another shape or
        not of a floating-point type, and the family that the file seems to belong to.
    """
    known = get_args(DType)
    require(dtype is None or dtype in known, f"dtype={dtype!r}: {nearest(str(dtype), known)}")
    classes = conform(classes, int | None, "classes")
    image_size = conform(image_size, int | tuple[int, int] | None, "image_size")
    sides = image_size if isinstance(image_size, tuple) else (1 if image_size is None else image_size,)
    require(min(sides) > 0, f"image_size={image_size}: expected at least 1 pixel")
    seed = conform(seed, int, "seed")
    if isinstance(model, type):
        raise RequestError(f"model={model.__name__}: a class; expected a model of it, {model.__name__}(...)")
    require(
        isinstance(model, str | Mapping | nn.Module),
        f"model={model!r:.80}: expected a published model's name, 'auto', a model of ours, or a parsed config.json",
    )
    name = model if isinstance(model, str) and model != "auto" else None
    if name is not None:
        family, variant = find_variant(name)
        source = variant.hub if source is None else source
    require(
        isinstance(source, str | os.PathLike) and source != "",
        f"source{'' if source is None else f'={source!r:.80}'}: expected a .safetensors file, a folder, or a hub "
        "repository (org/name)",
    )
    path = files.locate(os.fspath(source))
    config = model if isinstance(model, Mapping) else files.beside(path, "config.json")
    if name is not None:
        built = variant.build()
    elif isinstance(model, nn.Module):
        family, built = family_of(model), model
        model.check()
    else:
        require(config is not None, f"{path}: no config.json beside it; name the model instead of 'auto'")
        family, built = from_config(config)

    tensors = files.open_checkpoint(path)
    if name is None and not isinstance(model, nn.Module):
        with prefixed(f"{tensors.source}: {len(tensors)} tensors, but the config describes "):
            check_layers(family, built, max(len(tensors), _FEW_LAYERS))
    errors = []
    for key_map in fitting(family, built, tensors):
        try:
            built, variables = _read(
                family, built, name, key_map, tensors, config, classes=classes, dtype=dtype, seed=seed
            )
        except RequestError as error:
            errors.append(error)
        else:
            break
    else:
        beside = files.beside(path, "config.json")
        raise RequestError(f"{_another(family, built, tensors, beside)}{errors[0]}")

    preprocessing = _usual(family, built, key_map.publisher)
    published = timm_config.constants(config or {})
    if preprocessing is not None:
        preprocessing = preprocessing.for_channels(family.image_channels(mapping.flatten(variables)))
        if "architecture" in published:
            preprocessing = from_timm(published, preprocessing)
        if (processor := files.beside(path, "preprocessor_config.json")) is not None:
            preprocessing = preprocessing.from_hf(processor)
    if image_size is not None:
        require(preprocessing is not None, f"image_size={image_size}: {family.model.__name__} takes no images")
        preprocessing = preprocessing.resized(image_size)
        preprocessing.check()
        if family.resized is not None:
            built, variables = family.resized(built, variables, image_size)
    names = labels.read(published, built.classes) if family.head and classes is None else None
    generation = files.beside(path, generation_config.FILE)
    generation = config if generation is None else generation
    return Pretrained(built, variables, preprocessing, key_map.publisher, names, generation)


def _usual(family: Family, model: nn.Module, publisher: str) -> Preprocessing | FitWithin | None:
    """The preprocessing of images in the publisher's own code; None if the model takes no images."""
    own = family.preprocessing(model, publisher)
    return dataclasses.replace(own, even_corner=publisher != "huggingface") if isinstance(own, Preprocessing) else own


def read_into(
    model: nn.Module, source: str | os.PathLike, *, channels: int | None = None, fresh: Sequence[str] = ()
) -> dict[str, Any]:
    """Reads the variables of one of our models from published weights, in NumPy, to initialise training.

    The model must match the published one, except that learned positions are interpolated to its `image_size`.

    Args:
      model: the model to read weights for.
      source: as for `load_pretrained`.
      channels: number of channels of the model's images; None uses the family's.
      fresh: paths of leaves ("params/head/bias") to skip; the result lacks them.

    Raises:
      RequestError: no key map exists for the model; the weights cannot be read or do not fit; or they were trained with
        other details (padding, epsilon) than the model has.
    """
    family = family_of(model)
    model.check()
    path = files.locate(os.fspath(source))
    tensors, config = files.open_checkpoint(path), files.beside(path, "config.json")
    errors = []
    for key_map in fitting(family, model, tensors):
        shapes = _shapes_in_file(family, model, key_map, tensors)
        trained = _as_trained(family, model, "", key_map.publisher, shapes, config)
        published = model if family.resized is None else model.clone(image_size=trained.image_size)
        expected = family.shapes(published, channels)
        try:
            variables = mapping.to_ours(key_map, tensors, expected, fresh=tuple(fresh), source=str(tensors.source))
        except RequestError as error:
            errors.append(error)
            continue
        differ = {name: getattr(trained, name) for name in family.details}
        differ = {name: value for name, value in differ.items() if value != getattr(model, name)}
        require(
            not differ,
            f"{tensors.source}: {type(model).__name__} has "
            f"{', '.join(f'{name}={getattr(model, name)!r}' for name in differ)}, but the weights were trained with "
            f"others; set {' '.join(f'model.{name}={value}' for name, value in differ.items())}",
        )
        if published != model:
            _, variables = family.resized(published, variables, model.image_size)
        return jax.tree.map(np.asarray, variables)
    another = _another(family, model, tensors, config)
    raise RequestError(f"{another}{errors[0]}; add fresh parameters to init_skip, such as 'params/head/*'")


def _as_trained(
    family: Family, model: nn.Module, name: str, publisher: str, shapes: Shapes, config: Mapping[str, Any] | None
) -> nn.Module:
    """The model with the details from the config.json beside the weights, or with the publisher's usual details."""
    if config is None or not family.details or family_in(config) is not family:
        return family.adapted(model, name, publisher, shapes, None)
    _, stated = from_config(config)
    model = family.adapted(model, name, publisher, shapes, stated)
    return model.clone(**{name: getattr(stated, name) for name in family.details})


def _another(family: Family, model: nn.Module, tensors: files.Checkpoint, config: Mapping[str, Any] | None) -> str:
    """Begins an error message with the family that the file seems to belong to; "" if that is the requested family."""
    asked, config = family.model.__name__, config or {}
    for key in ("architecture", "model_type", "_class_name"):
        if config.get(key) is not None and family_in(config) is not family:
            return f"{tensors.source}: not {asked}'s, the config.json beside it says {key}={config[key]!r:.80}; "

    names = tuple(itertools.islice(tensors, 500))

    def fits(family: Family, model: nn.Module) -> float:
        return max(mapping.share(key_map, names) for key_map in family.key_maps(model))

    own = fits(family, model)
    if own >= 0.5:
        return ""
    # The last variant is the largest, and its names include those of the smaller variants.
    others = [(fits(x, [*x.variants.values()][-1].build()), x) for x in FAMILIES if x is not family and x.variants]
    most, likely = max(others, key=lambda pair: pair[0])
    looks = f"looks like {likely.model.__name__}'s" if most > 0.5 else "few of the names match"
    return f"{tensors.source}: not {asked}'s, {looks}; "


def fitting(family: Family, model: nn.Module, names: Mapping[str, Any]) -> list[KeyMap]:
    """The key maps that match most names in a file: one, or several if publishers differ only in shapes."""
    leaves = mapping.flatten(family.shapes(model))

    def count(key_map: KeyMap) -> int:
        in_file = set(mapping.canonical(key_map, names).values())
        return sum(name in in_file for name in mapping.published_names(key_map, leaves))

    counts = [(count(key_map), key_map) for key_map in family.key_maps(model)]
    most = max(fits for fits, _ in counts)
    return [key_map for fits, key_map in counts if fits == most]


def _read(
    family: Family,
    model: nn.Module,
    name: str | None,
    key_map: KeyMap,
    tensors: files.Checkpoint,
    config: Mapping[str, Any] | None,
    *,
    classes: int | None,
    dtype: DType | None,
    seed: int,
) -> tuple[nn.Module, dict[str, Any]]:
    """Adapts the model to the file and the arguments; returns it with its variables."""
    shapes = _shapes_in_file(family, model, key_map, tensors)
    if name is not None:
        model = _as_trained(family, model, name, key_map.publisher, shapes, config)
        if family.head_bias in shapes:
            model = model.clone(classes=shapes[family.head_bias][0])
    if classes is not None:
        require(bool(family.head), f"classes={classes}: {family.model.__name__} has no classification head")
        model = model.clone(classes=classes)
    if dtype is not None:
        model = model.clone(dtype=dtype)
    model.check()
    channels = shapes[family.input_kernel][1] // family.input_pixels if family.input_kernel in shapes else None

    expected = family.shapes(model, channels)
    fresh = family.head if classes is not None else ()
    variables = mapping.to_ours(key_map, tensors, expected, fresh=fresh, source=str(tensors.source))
    leaves = mapping.flatten(variables)
    absent = [path for path in mapping.flatten(expected) if path not in leaves]
    leaves |= _initialized(family, model, channels, absent, seed)
    return model, mapping.unflatten_leaves({path: jnp.asarray(leaves[path]) for path in mapping.flatten(expected)})


def _shapes_in_file(
    family: Family, model: nn.Module, key_map: KeyMap, tensors: files.Checkpoint
) -> dict[str, tuple[int, ...]]:
    """The published shape of the tensor for each leaf, {our path: shape}, if the file holds it."""
    in_file = {new: old for old, new in mapping.canonical(key_map, tensors).items()}
    return {
        path: tensors.shape(in_file[step.theirs[0]])
        for step in mapping.plan(key_map, mapping.flatten(family.shapes(model)))
        for path in step.ours
        if step.theirs[0] in in_file
    }


def _initialized(
    family: Family, model: nn.Module, channels: int | None, paths: list[str], seed: int
) -> dict[str, jax.Array]:
    """Freshly initialised leaves at `paths`; the compiler skips all other leaves."""
    if not paths:
        return {}

    def init(key: jax.Array) -> dict[str, jax.Array]:
        inputs = {name: jnp.zeros(x.shape, x.dtype) for name, x in family.arguments(model, channels).items()}
        leaves = mapping.flatten(model.init(key, **inputs))
        return {path: leaves[path] for path in paths}

    return jax.jit(init)(jax.random.key(seed))
