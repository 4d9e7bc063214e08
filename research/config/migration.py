"""Where to find classes that older config.json files name by a former module.

A class declares its own renamed fields: `renamed_fields: ClassVar = {"old": "new"}`.
"""

from __future__ import annotations

from typing import Any

LAYOUT = 5
"""Incremented when a class moves, gains or loses a field, since hashes of earlier records then differ from today's."""

MOVED_MODULES = {
    "research.checkpoints": "research.training.checkpoints",
    "research.data.arrays": "research.data.sources.arrays",
    "research.data.augment": "research.data.augment.augmentation",
    "research.data.classes": "research.data.sources.classes",
    "research.data.color_jitter": "research.data.augment.color_jitter",
    "research.data.columns": "research.data.source",
    "research.data.erasing": "research.data.augment.erasing",
    "research.data.folders": "research.data.sources.folders",
    "research.data.labeled_text": "research.data.sources.labeled_text",
    "research.data.mixing": "research.data.augment.mixing",
    "research.data.parallel_text": "research.data.sources.parallel_text",
    "research.data.python_source": "research.data.sources.python_source",
    "research.data.randaugment": "research.data.augment.randaugment",
    "research.data.recall": "research.data.sources.recall",
    "research.data.resized_crop": "research.data.augment.resized_crop",
    "research.data.scikit": "research.data.sources.scikit",
    "research.data.spec_augment": "research.data.augment.spec_augment",
    "research.data.speech": "research.data.sources.speech",
    "research.data.tables": "research.data.sources.tables",
    "research.data.text": "research.data.sources.text",
    "research.data.tfds": "research.data.sources.tfds",
    "research.data.tokenizers": "research.data.text.tokenizers",
    "research.decoding.generation": "research.decoding.strategies",
    "research.generation": "research.decoding.strategies",
    "research.models.translation": "research.models.transformer",
    "research.parallel": "research.parallel.spec",
}
"""{former module of a class: its module now}."""

MOVED_CLASSES: dict[tuple[str, str], tuple[str, str]] = {
    ("research.data.sources.tables", "Boolean"): ("research.data.sources.table_columns", "Boolean"),
    ("research.data.sources.tables", "Category"): ("research.data.sources.table_columns", "Category"),
    ("research.data.sources.tables", "Number"): ("research.data.sources.table_columns", "Number"),
}
"""{(module, class): (module, class)} of classes that were renamed, or moved without the rest of their module.

The first module is the one after applying `MOVED_MODULES`.
"""

REMOVED_FIELDS: dict[tuple[str, str], dict[str, tuple[Any, ...]]] = {
    ("research.training.checkpoints", "Checkpoints"): {"mode": ("max", "min")},
    ("research.models.convnext_roadmap", "ConvNeXtRoadmap"): {"axis_name": (None,)},
    ("research.models.efficientnet", "EfficientNet"): {"axis_name": (None,)},
    ("research.models.mlp", "MLP"): {"axis_name": (None,)},
    ("research.models.resnet", "ResNet"): {"axis_name": (None,)},
    ("research.models.simple_cnn", "SimpleCNN"): {"axis_name": (None,)},
}
"""{(module, class): {removed field: the values that a record may have there}}.

`Checkpoints.mode` is ignored, since tasks now declare the direction of a metric.
"""


def current_name(module: str, name: str) -> tuple[str, str]:
    """Returns the present module and name of a class, given those in a record."""
    moved = MOVED_MODULES.get(module, module), name
    return MOVED_CLASSES.get(moved, moved)
