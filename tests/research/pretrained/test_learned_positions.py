"""The grid of patches for which the positions in a file were learned."""

import json

import image_parity
import numpy as np
import pytest

from research.errors import RequestError
from research.models.vit import ViT, resize_positions, vit
from research.pretrained import (
    export_pretrained,
    load_pretrained,
)
from research.pretrained.load import read_into

OBLONG = ViT(width=16, depth=1, num_heads=1, patch_size=16, image_size=(64, 144), classes=5, norm_epsilon=1e-12)


def oblong(directory, name="model.safetensors"):
    """Weights of positions on 4 × 9 patches, the same number as 6 × 6."""
    variables = image_parity.random_variables(OBLONG, np.ones((1, 64, 144, 3), np.float32))
    return export_pretrained(OBLONG, variables, directory / name), variables["params"]["positions"]


def read_positions(model, path):
    return read_into(model, path)["params"]["positions"]


@pytest.mark.parametrize("image_size", [(64, 144), 96, 224], ids=str)
def test_positions_are_on_the_grid_that_the_config_beside_them_states(image_size, tmp_path):
    path, positions = oblong(tmp_path)
    model = OBLONG.clone(image_size=image_size)
    read = read_positions(model, path)
    np.testing.assert_array_equal(read, np.asarray(resize_positions(positions, (4, 9), model.grid)))


def test_positions_without_a_config_are_on_the_models_own_grid_or_on_a_square(tmp_path):
    path, positions = oblong(tmp_path, "weights.safetensors")
    for image_size in ((64, 144), 96):  # equal numbers of tokens
        np.testing.assert_array_equal(read_positions(OBLONG.clone(image_size=image_size), path), positions)
    read = read_positions(OBLONG.clone(image_size=224), path)
    np.testing.assert_array_equal(read, np.asarray(resize_positions(positions, (6, 6), (14, 14))))


def test_a_config_of_another_size_than_the_files_says_nothing_of_its_positions(tmp_path):
    path, positions = oblong(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "image_size": 224}))
    np.testing.assert_array_equal(read_positions(OBLONG, path), positions)


def test_positions_that_are_no_square_need_a_size(tmp_path):
    narrow = OBLONG.clone(image_size=(32, 48))
    variables = image_parity.random_variables(narrow, np.ones((1, 32, 48, 3), np.float32))
    path = export_pretrained(narrow, variables, tmp_path / "weights.safetensors")
    read_into(narrow, path)
    with pytest.raises(
        RequestError, match="^image_size: 6 positions in the file are not a square grid; expected a config"
    ):
        read_into(OBLONG, path)


def test_a_named_vit_of_oblong_images(tmp_path):
    path, _ = image_parity.published(tmp_path, "vit_ti16", image_size=(64, 144), classes=5)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "image_size": [64, 144]}))
    loaded = load_pretrained("vit_ti16", path)
    assert loaded.model == vit("ti", 16, image_size=(64, 144), classes=5, norm_epsilon=1e-12)
    assert loaded.preprocessing.size == (64, 144)
