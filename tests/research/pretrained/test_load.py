"""Published image models are read, used and exported."""

import json
import sys
import types

import image_parity
import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from research.errors import RequestError
from research.models.efficientnet import EfficientNet, Stage
from research.models.resnet import resnet
from research.models.vit import vit
from research.pretrained import (
    convnext,
    efficientnet,
    export_pretrained,
    load_pretrained,
)
from research.pretrained import (
    resnet as resnets,
)
from research.pretrained import (
    vit as vits,
)
from research.pretrained.catalog import find_variant, variants
from research.pretrained.load import read_into
from research.pretrained.preprocessing import HALF, Preprocessing
from research.pretrained.rules import KeyMap

FIXTURES = {
    "resnet_bottleneck": resnets,
    "efficientnet": efficientnet,
    "convnext": convnext,
    "vit": vits,
    "timm_resnet_basic": resnets,
    "timm_efficientnet": efficientnet,
    "timm_convnext": convnext,
    "timm_vit": vits,
}


@pytest.mark.parametrize("name", FIXTURES)
def test_loaded_and_exported_again_is_the_same_bit_for_bit(name, tmp_path):
    path, arrays, config = image_parity.written(tmp_path, name)
    model = FIXTURES[name].from_timm(config) if name.startswith("timm_") else config
    loaded = load_pretrained(model, path)
    assert loaded.publisher == ("timm" if name.startswith("timm_") else "huggingface")
    again = export_pretrained(*loaded, tmp_path / "again" / "model.safetensors", publisher=loaded.publisher)
    if loaded.publisher == "huggingface":  # the folder now describes its contents
        assert load_pretrained("auto", again.parent).model == loaded.model
    before, after = load_file(path), load_file(again)
    assert set(before) == set(after)
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_what_is_loaded_computes_what_was_published(tmp_path):
    path, arrays, config = image_parity.written(tmp_path)
    model, variables = load_pretrained(config, path)
    images = arrays["input/pixel_values"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model.apply(variables, images), arrays["output/logits"], atol=1e-4)


def test_shards_and_folders(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    tensors = load_file(path)
    path.unlink()
    shards = {f"model-{i + 1:05}-of-00002.safetensors": sorted(tensors)[i::2] for i in range(2)}
    for name, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, tmp_path / name)
    index = {"weight_map": {key: name for name, keys in shards.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps(config))
    for model, source in (
        (config, tmp_path / "model.safetensors.index.json"),
        (config, tmp_path),
        ("auto", tmp_path),
        (vits.from_config(config), str(tmp_path)),
    ):
        _, variables = load_pretrained(model, source)
        np.testing.assert_array_equal(variables["params"]["norm"]["scale"], tensors["vit.layernorm.weight"])
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(RequestError, match="shard model-00002-of-00002.safetensors is missing"):
        load_pretrained("auto", tmp_path)


def test_bfloat16_files_fill_float32_parameters(tmp_path):
    import ml_dtypes

    path, arrays, config = image_parity.written(tmp_path)
    save_file({key: x.astype(ml_dtypes.bfloat16) for key, x in load_file(path).items()}, path)
    _, variables = load_pretrained(config, path)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_files_of_the_model_without_its_head(tmp_path):
    """As published for fine-tuning: no prefix, no classifier, a pooler that classification does not use."""
    path, _, config = image_parity.written(tmp_path)
    tensors = {k.removeprefix("vit."): x for k, x in load_file(path).items() if not k.startswith("classifier")}
    save_file(tensors | {"pooler.dense.weight": np.ones((32, 32), np.float32)}, path)
    model, variables = load_pretrained(config, path, classes=4)
    assert variables["params"]["head"]["kernel"].shape == (32, 4)
    with pytest.raises(RequestError, match="2 missing: classifier.weight, classifier.bias"):
        load_pretrained(config, path)


def test_a_new_head(tmp_path):
    path, _, config = image_parity.written(tmp_path, "resnet_bottleneck")
    kept = load_pretrained(config, path)
    fresh = load_pretrained(config, path, classes=11)
    assert fresh.model == kept.model.clone(classes=11)
    kernel = fresh.variables["params"]["head"]["kernel"]
    assert kernel.shape == (40, 11)
    assert kernel.std() > 0
    for name in set(kept.variables["params"]) - {"head"}:
        jax.tree.map(np.testing.assert_array_equal, kept.variables["params"][name], fresh.variables["params"][name])
    same = load_pretrained(config, path, classes=11).variables["params"]["head"]["kernel"]
    other = load_pretrained(config, path, classes=11, seed=1).variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(kernel, same)
    assert not np.array_equal(kernel, other)


def test_a_named_variant_takes_classes_from_the_file(tmp_path):
    path, variables = image_parity.published(tmp_path, "resnet18", classes=7)
    loaded = load_pretrained("resnet18", path, dtype="bfloat16")
    assert loaded.model == resnet(18, classes=7, dtype="bfloat16")
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
    assert loaded.preprocessing.image_size == 224
    with pytest.raises(RequestError, match="^dtype='float17': did you mean 'bfloat16'"):
        load_pretrained("resnet18", path, dtype="float17")
    with pytest.raises(RequestError, match="^[^ ]*resnet18.safetensors does not fit: 80 missing: ") as error:
        load_pretrained("resnet34", path)
    assert len(str(error.value).split("80 missing: ")[1].split(", ")) == 80  # every one


def test_a_named_vit_takes_its_image_size_from_the_file_and_may_be_given_another(tmp_path):
    path, _ = image_parity.published(tmp_path, "vit_ti16", image_size=64, classes=3)
    loaded = load_pretrained("vit_ti16", path)
    assert loaded.model == vit("ti", 16, image_size=64, classes=3, norm_epsilon=1e-12)
    assert (loaded.preprocessing.image_size, loaded.preprocessing.mean) == (64, HALF)
    larger = load_pretrained("vit_ti16", path, image_size=96)
    assert larger.preprocessing.image_size == larger.model.image_size == 96
    assert larger.variables["params"]["positions"].shape == (1, 1 + 36, 192)
    image = np.random.default_rng(0).standard_normal((1, 96, 96, 3)).astype(np.float32)
    logits = image_parity.apply(larger.model, larger.variables, image)
    np.testing.assert_allclose(logits, image_parity.apply(loaded.model, loaded.variables, image), atol=1e-3)


def test_publishers_details_come_with_their_names(tmp_path):
    """Hugging Face's and timm's efficientnet_b0 differ in padding and epsilon, and only the names tell them apart."""
    family, found = find_variant("efficientnet_b0")
    model = found.build()
    variables = image_parity.random_variables(model, np.ones((1, 64, 64, 3), np.float32))
    for publisher, variant, padding, epsilon in (
        ("huggingface", "efficientnet_b0", "same", 1e-3),
        ("timm", "efficientnet_b0", "symmetric", 1e-5),
        ("timm", "tf_efficientnet_b0", "same", 1e-3),
    ):
        path = export_pretrained(model, variables, tmp_path / f"{publisher}.safetensors", publisher=publisher)
        loaded, read = load_pretrained(variant, path)
        assert (loaded.padding, loaded.epsilon) == (padding, epsilon)
        jax.tree.map(np.testing.assert_array_equal, read, variables)


def test_images_of_one_channel(tmp_path):
    path, arrays, config = image_parity.written(tmp_path, "resnet_bottleneck")
    tensors = load_file(path)
    stem = "resnet.embedder.embedder.convolution.weight"
    tensors[stem] = np.ascontiguousarray(tensors[stem][:, :1])
    save_file(tensors, path)
    model, variables = load_pretrained(config, path)
    assert variables["params"]["stem_conv"]["kernel"].shape == (7, 7, 1, 8)
    again = load_file(export_pretrained(model, variables, tmp_path / "again.safetensors"))
    np.testing.assert_array_equal(again[stem], tensors[stem])


def test_preprocessing_beside_the_weights_is_read(tmp_path):
    path, _, config = image_parity.written(tmp_path, "convnext")
    given = {"size": {"shortest_edge": 224}, "crop_pct": 0.9, "resample": 2, "image_mean": HALF, "image_std": HALF}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    read = load_pretrained(config, path).preprocessing
    assert (read.image_size, read.crop, read.interpolation, read.mean) == (224, 0.9, "bilinear", HALF)


def timm_folder(directory, architecture="resnet18", **config):
    """Random weights of a variant as published by timm: its names, and one config.json with all details."""
    family, found = find_variant(architecture)
    model = found.build().clone(classes=3)
    variables = image_parity.random_variables(model, np.ones(family.inputs(model)["x"].shape, np.float32))
    path = export_pretrained(model, variables, directory / "model.safetensors", publisher="timm")
    assert not (directory / "config.json").exists()
    cfg = {"num_classes": 3, "input_size": [3, 64, 64], "crop_pct": 0.95, "mean": HALF, "interpolation": "nearest"}
    written = {"architecture": architecture, "num_features": 512, "global_pool": "avg", "pretrained_cfg": cfg}
    (directory / "config.json").write_text(json.dumps(written | config))
    return path, variables


@pytest.mark.parametrize("model", ["auto", "resnet18", resnet(18, classes=3)], ids=["auto", "name", "model"])
def test_timms_folders_say_what_they_hold(model, tmp_path):
    _, variables = timm_folder(tmp_path, label_names=["cat", "dog", "owl"])
    loaded = load_pretrained(model, tmp_path)
    assert loaded.model == resnet(18, classes=3)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
    assert loaded.preprocessing == Preprocessing(64, 0.95, interpolation="nearest", mean=HALF, even_corner=True)
    assert loaded.class_names == ("cat", "dog", "owl")


def test_the_config_beside_a_file_tells_what_its_names_do_not(tmp_path):
    """timm's names are the same for its own efficientnet_b0 and for TensorFlow's."""
    timm_folder(tmp_path, "tf_efficientnet_b0")
    model = load_pretrained("efficientnet_b0", tmp_path).model
    assert (model.padding, model.epsilon) == ("same", 1e-3)


def test_predictions_have_names(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    loaded = load_pretrained(config, path)
    classes = loaded.model.classes
    names = tuple(f"kind {i}" for i in range(classes))
    prepare = Preprocessing(loaded.model.image_size, 0.9, interpolation="nearest", mean=HALF)
    again = export_pretrained(
        *loaded, tmp_path / "named" / "model.safetensors", preprocessing=prepare, class_names=names
    )
    loaded = load_pretrained("auto", again.parent)
    assert (loaded.preprocessing, loaded.class_names) == (prepare, names)

    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8)
    Image.fromarray(pixels[1]).save(tmp_path / "one.png")
    given = [pixels[0], tmp_path / "one.png", Image.fromarray(pixels[2]), *pixels[3:]]
    predicted = loaded.predict(given, batch_size=2)  # two and two and one
    logits = image_parity.apply(loaded.model, loaded.variables, np.stack([prepare(image) for image in pixels]))
    np.testing.assert_allclose(predicted["probability"], jax.nn.softmax(logits), atol=1e-5)
    np.testing.assert_array_equal(predicted["label"], np.argmax(logits, -1))
    assert list(predicted["class_name"]) == [names[label] for label in predicted["label"]]
    np.testing.assert_array_equal(loaded.predict(pixels)["label"], predicted["label"])
    assert loaded._probabilities._cache_size() == 2  # a program for batches of two, one for all five
    assert "class_name" not in load_pretrained("auto", again.parent, classes=classes).predict(pixels)


def test_what_files_of_other_names_cannot_say_is_refused(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    loaded = load_pretrained(config, path)
    for file, publisher in (("model.safetensors", "timm"), ("vit.safetensors", None)):
        line = f"^{file} with .* names: preprocessing, class_names and decoding can only be written"
        with pytest.raises(RequestError, match=line):
            export_pretrained(*loaded, tmp_path / file, publisher=publisher, preprocessing=loaded.preprocessing)
    with pytest.raises(RequestError, match=r"^class_names=\['cat'\]: expected \d+ texts, one for each class$"):
        export_pretrained(*loaded, tmp_path / "out" / "model.safetensors", class_names=["cat"])


def test_the_count_of_batches_is_written_as_zero(tmp_path):
    path, _, config = image_parity.written(tmp_path, "resnet_bottleneck")
    counted = {k: np.int64(1234) if k.endswith("num_batches_tracked") else x for k, x in load_file(path).items()}
    save_file({k: np.asarray(x) for k, x in counted.items()}, path)
    again = load_file(export_pretrained(*load_pretrained(config, path), tmp_path / "again.safetensors"))
    changed = {key for key, x in counted.items() if not np.array_equal(again[key], x)}
    assert changed == {key for key in counted if key.endswith("num_batches_tracked")}
    assert {int(again[key]) for key in changed} == {0}


EFFICIENTNET = EfficientNet(stages=(Stage(8, 1, 3, 1, 1), Stage(8, 1, 3, 2, 2)), stem_channels=8, classes=3)


@pytest.mark.parametrize(
    ("publisher", "fields", "said"),
    [
        ("torchvision", {}, "model.padding=symmetric model.epsilon=1e-05"),
        ("torchvision", {"padding": "symmetric"}, "has epsilon=0.001, but the weights were trained with others; set m"),
        ("timm", {"epsilon": 1e-4, "padding": "symmetric"}, "set model.epsilon=1e-05"),
        ("huggingface", {"epsilon": 1e-5}, "set model.epsilon=0.001"),
        ("torchvision", {"padding": "symmetric", "epsilon": 1e-5}, None),
        ("timm", {}, None),  # possibly TensorFlow's
        ("timm", {"padding": "symmetric", "epsilon": 1e-5}, None),
        ("huggingface", {}, None),
    ],
)
def test_what_training_starts_from_has_the_details_of_its_weights(publisher, fields, said, tmp_path):
    variables = image_parity.random_variables(EFFICIENTNET, np.ones((1, 32, 32, 3), np.float32))
    path = export_pretrained(EFFICIENTNET, variables, tmp_path / "weights.safetensors", publisher=publisher)
    model = EFFICIENTNET.clone(**fields)
    if said is None:
        jax.tree.map(np.testing.assert_array_equal, read_into(model, path), variables)
        return
    with pytest.raises(RequestError) as error:
        read_into(model, path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_details_in_a_config_come_before_the_usual_ones(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    model = vits.from_config(config | {"layer_norm_eps": 1e-5})
    with pytest.raises(RequestError, match=r"has norm_epsilon=1e-05, but .*; set model.norm_epsilon=1e-12$"):
        read_into(model, path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    read_into(model, path)


@pytest.mark.parametrize("publisher", ["huggingface", "timm", "torchvision"])
@pytest.mark.parametrize(
    ("name", "expected"),  # image size and short side before the crop, of each publisher
    [
        ("resnet50", ((224, 256), (224, 256), None)),
        ("efficientnet_b1", ((240, 240), (240, 272), (240, 256))),
        ("efficientnet_b2", ((260, 260), (260, 292), (288, 288))),
        ("efficientnet_b7", ((600, 600), (600, 632), (600, 600))),
        ("convnext_tiny", ((224, 256), (224, 256), (224, 236))),
        ("convnext_large", ((224, 256), (224, 256), (224, 232))),
        ("vit_b16", ((224, 224), (224, 248), (224, 256))),
        ("vit_l16", ((224, 224), (224, 248), (224, 242))),
    ],
)
def test_the_publishers_usual_preprocessing(name, expected, publisher):
    usual = dict(zip(("huggingface", "timm", "torchvision"), expected, strict=True))[publisher]
    if usual is not None:
        family, variant = find_variant(name)
        preprocessing = family.preprocessing(variant.build(), publisher)
        assert (preprocessing.image_size, preprocessing.before_crop[0]) == usual


def test_an_image_size_may_be_a_list(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    patch = vits.from_config(config).patch_size
    assert load_pretrained(config, path, image_size=[2 * patch, 3 * patch]).model.image_size == (2 * patch, 3 * patch)


def test_an_efficientnet_without_its_head(tmp_path):
    variables = image_parity.random_variables(EFFICIENTNET, np.ones((1, 32, 32, 3), np.float32))
    path = export_pretrained(EFFICIENTNET, variables, tmp_path / "weights.safetensors")
    tensors = {k.removeprefix("efficientnet."): x for k, x in load_file(path).items() if not k.startswith("classifier")}
    save_file(tensors, path)
    model, read = load_pretrained(EFFICIENTNET, path, classes=4)
    assert read["params"].pop("head")["kernel"].shape[-1] == model.classes == 4
    variables["params"].pop("head")
    jax.tree.map(np.testing.assert_array_equal, read, variables)


@pytest.mark.parametrize(
    ("publisher", "size", "momentum"),
    [("torchvision", "b4", 0.9), ("torchvision", "b5", 0.99), ("torchvision", "b7", 0.99), ("timm", "b7", 0.9)],
)
def test_the_momentum_of_wide_efficientnets_is_torchvisions(publisher, size, momentum):
    name = f"efficientnet_{size}"
    family, variant = find_variant(name)
    assert family.adapted(variant.build(), name, publisher, {}).momentum == momentum


def test_the_hub_gives_a_folder(tmp_path, monkeypatch):
    path, _, config = image_parity.written(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = []

    def download(repository, allow_patterns):
        asked.append(repository)
        assert not any("bin" in pattern for pattern in allow_patterns)
        return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=download))
    model, _ = load_pretrained("auto", "google/vit-tiny")
    assert asked == ["google/vit-tiny"]
    assert model == vits.from_config(config)


def test_export_refuses_what_does_not_fit(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    model, variables = load_pretrained(config, path)
    with pytest.raises(RequestError, match="publisher='tim': did you mean 'timm'"):
        export_pretrained(model, variables, path, publisher="tim")
    with pytest.raises(RequestError, match=r"params/head/kernel \[32, 6\] \(expected \[32, 9\]\)"):
        export_pretrained(model.clone(classes=9), variables, path)
    with pytest.raises(RequestError, match="no place for params/positions|variables do not fit"):
        export_pretrained(model, {"params": {}}, path)
    with pytest.raises(RequestError, match=".safetensors"):
        export_pretrained(model, variables, tmp_path / "model.bin")
    average = model.clone(pool="average")
    with pytest.raises(RequestError, match="^ViT: Hugging Face's config.json cannot express pool='average'; choose"):
        export_pretrained(average, variables, tmp_path / "average" / "model.safetensors")
    assert export_pretrained(average, variables, tmp_path / "average" / "vit.safetensors").is_file()
    assert not (tmp_path / "average" / "config.json").exists()


@pytest.mark.parametrize("name", variants())
def test_every_variant_has_a_mapping(name):
    family, variant = find_variant(name)
    model = variant.build()
    assert type(model) is family.model
    assert family.key_maps(model)
    assert variant.hub is None or variant.hub.count("/") == 1
    assert KeyMap in {type(key_map) for key_map in family.key_maps(model)}
