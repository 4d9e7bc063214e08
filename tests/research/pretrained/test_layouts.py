"""Published checkpoints, by the names and shapes of their tensors, for the models named after their sizes."""

import json
import pathlib

import numpy as np
import pytest

from research.pretrained import convnext, mapping
from research.pretrained.catalog import find_variant
from research.pretrained.load import fitting

KEYS = pathlib.Path(__file__).parents[2] / "fixtures" / "keys"

LAYOUTS = {  # list of names: our variant with these names
    "resnet18": ("resnet18", "huggingface"),
    "resnet50": ("resnet50", "huggingface"),
    "timm_resnet50": ("resnet50", "timm"),
    "torchvision_resnet18": ("resnet18", "timm"),
    "efficientnet_b0": ("efficientnet_b0", "huggingface"),
    "efficientnet_b3": ("efficientnet_b3", "huggingface"),
    "timm_efficientnet_b0": ("efficientnet_b0", "timm"),
    "timm_tf_efficientnet_b0": ("tf_efficientnet_b0", "timm"),
    "torchvision_efficientnet_b0": ("efficientnet_b0", "torchvision"),
    "convnext_tiny": ("convnext_tiny", "huggingface"),
    "timm_convnext_tiny": ("convnext_tiny", "timm"),
    "timm_convnext_atto": (None, "timm_convolutional"),
    "torchvision_convnext_tiny": ("convnext_tiny", "torchvision"),
    "vit_tiny_p16_224": ("vit_ti16", "huggingface"),
    "timm_vit_tiny_patch16_224": ("vit_ti16", "timm"),
    "torchvision_vit_b_16": ("vit_b16", "torchvision"),
}


def published(name: str) -> dict[str, np.ndarray]:
    """{tensor's name: an array of its shape that takes no memory}."""
    tensors = {}
    for line in (KEYS / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            key, shape = line.split("\t")
            tensors[key] = np.broadcast_to(np.float32(0), json.loads(shape))
    return tensors


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_published_tensor_has_its_place(name):
    variant, publisher = LAYOUTS[name]
    if variant is None:
        atto = {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320), "conv_mlp": True}
        family, model = convnext.FAMILY, convnext.from_timm(atto)
    else:
        family, found = find_variant(variant)
        model = found.build()
    tensors = published(name)
    key_maps = {key_map.publisher: key_map for key_map in fitting(family, model, tensors)}
    assert publisher in key_maps
    variables = mapping.to_ours(key_maps[publisher], tensors, family.shapes(model))
    back = mapping.to_theirs(key_maps[publisher], variables)
    assert {key: x.shape for key, x in back.items()} == {key: x.shape for key, x in tensors.items()}
