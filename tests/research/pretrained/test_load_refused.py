"""Unsuitable weights are refused with one line that says why."""

import json
import struct
import sys
import time
import types

import image_parity
import numpy as np
import parity
import pytest
from safetensors.numpy import load_file, save_file

from research.errors import RequestError
from research.models.mlp import MLP
from research.models.resnet import resnet
from research.models.vit import ViT, vit
from research.pretrained import (
    load_pretrained,
)
from research.pretrained.catalog import from_config
from research.pretrained.load import read_into

SMALL = ViT(width=16, depth=1, num_heads=1, patch_size=16, image_size=64, classes=5)


def test_everything_wrong_is_said_at_once(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    tensors = load_file(path)
    del tensors["vit.layernorm.bias"]
    tensors["vit.layernorm.gain"] = np.ones(32, np.float32)
    tensors["vit.encoder.layer.1.output.dense.weight"] = np.ones((32, 65), np.float32)
    save_file(tensors, path)
    with pytest.raises(RequestError) as error:
        load_pretrained(config, path)
    message = str(error.value)
    assert "\n" not in message
    for said in (
        str(path),
        "1 missing: vit.layernorm.bias",
        "1 unknown: vit.layernorm.gain",
        "1 of another shape: vit.encoder.layer.1.output.dense.weight [32, 65] (for params/block1/down/kernel [64, 32])",
    ):
        assert said in message


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("cat.jpg", "images: expected a list of them, got str; put a single one in a list"),
        ([], "images: an empty list; expected at least one image"),
        (np.zeros((4, 4, 3), np.uint8), "images: one array [4, 4, 3]; expected [images, height, width, channels]; put"),
        (np.zeros((), np.uint8), "images: one array []; expected [images, height, width, channels]; put a single one"),
        (["no/cat.jpg"], "no/cat.jpg does not exist; expected an image"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3))], "image 1: expected uint8 [height, width, 3], got"),
    ],
)
def test_images_that_are_none(images, said, tmp_path):
    path, _, config = image_parity.written(tmp_path)
    with pytest.raises(RequestError) as error:
        load_pretrained(config, path).predict(images)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(("size", "said"), [(2.0, "a whole number"), (True, "a whole number"), (0, "at least 1")])
def test_sizes_of_batches_that_are_none(size, said, tmp_path):
    path, _, config = image_parity.written(tmp_path)
    with pytest.raises(RequestError, match=f"^batch_size={size}: expected {said}$"):
        load_pretrained(config, path).predict([np.zeros((4, 4, 3), np.uint8)], batch_size=size)


@pytest.mark.parametrize(
    ("model", "source", "said"),
    [
        ("resnet51", "x.safetensors", "model='resnet51': no published model of this name; did you mean 'resnet50'?"),
        ("resnet50", "nowhere/model.safetensors", "no such file or folder"),
        ("resnet50", "./nowhere", "no such file or folder"),
        ({"model_type": "resnett"}, ".", "model_type='resnett' in the config: did you mean 'resnet'?"),
        ("vit_base_patch16_384.augreg_in21k", ".", "no published model of this name; did you mean 'vit_b16'?"),
        ("timm/vit_tiny_patch16_224", ".", "no published model of this name; did you mean 'vit_ti16'?"),
        ("vit_b_16", ".", "no published model of this name; did you mean 'vit_b16'?"),
        ("Microsoft/resnet-50", ".", "no published model of this name; did you mean 'resnet50'?"),
        ("someone/else", ".", "no published model of this name; did you mean 'auto', with it as the source?"),
        ("convnext_atto", ".", "did you mean 'auto', with the folder that holds it as the source?"),
        ("atuo", ".", "no published model of this name; did you mean 'auto'?"),
        ("", ".", "model='': no published model of this name"),
        (None, ".", "model=None: expected a published model's name, 'auto', a model of ours, or a parsed config.json"),
        (50, ".", "model=50: expected a published model's name"),
        (MLP, ".", "model=MLP: a class; expected a model of it, MLP(...)"),
        ("auto", "", "source='': expected a .safetensors file, a folder, or a hub repository (org/name)"),
        ("auto", 3, "source=3: expected a .safetensors file"),
        ("auto", ".", "no config.json beside it"),
        (resnet(50), None, "source: expected a .safetensors file"),
        (MLP(widths=(), classes=2), ".", "MLP: no published weights are mapped for it"),
        ("vit_b8", None, "source: expected"),
        (vit("b", 16, image_size=30), ".", "image_size=30: expected a multiple of patch_size=16"),
    ],
)
def test_requests_that_cannot_be_met(model, source, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as error:
        load_pretrained(model, source)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"image_size": "96"}, "image_size='96': expected a whole number or "),
        ({"image_size": (96, 96, 3)}, "image_size=(96, 96, 3): expected a whole number or "),
        ({"image_size": [96, 0]}, "image_size=(96, 0): expected at least 1 pixel"),
        ({"seed": 0.5}, "seed=0.5: expected a whole number"),
        ({"classes": "4"}, "classes='4': expected a whole number"),
    ],
    ids=str,
)
def test_options_of_other_kinds_are_refused_before_anything_is_read(option, said):
    with pytest.raises(RequestError) as error:
        load_pretrained("vit_b16", "nowhere/model.safetensors", **option)
    assert str(error.value).startswith(said)


def test_tensors_of_whole_numbers_are_named_with_their_file(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    tensors = load_file(path)
    tensors["vit.layernorm.bias"] = tensors["vit.layernorm.bias"].astype(np.int8)
    tensors["vit.embeddings.mask_token"] = np.zeros((1, 1, 32), np.uint8)  # is not read
    save_file(tensors, path)
    with pytest.raises(RequestError) as error:
        load_pretrained(config, path)
    said = "does not fit: 1 not of F16, BF16, F32 or F64 (quantised?): vit.layernorm.bias I8"
    assert str(error.value) == f"{path} {said}"


def test_tensors_of_eight_bit_floats_are_named_too(tmp_path):
    path, _, config = image_parity.written(tmp_path)
    size = int.from_bytes((whole := path.read_bytes())[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    tensor = header["vit.layernorm.bias"]
    tensor["dtype"], tensor["shape"] = "F8_E4M3", [4 * tensor["shape"][0]]  # as many bytes
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + whole[8 + size :])
    with pytest.raises(RequestError, match=r"quantised\?\): vit.layernorm.bias F8_E4M3$"):
        load_pretrained(config, path)


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        (["a.safetensors"], "weight_map=['a.safetensors']: expected an object, the name of a shard for each tensor"),
        ({"a": 1}, "weight_map={'a': 1}: expected an object"),
        ({}, "weight_map={}: expected an object"),
        ({"a": "../a.safetensors"}, "shards '../a.safetensors': expected names of files in the same folder"),
        ({"a": ".."}, "shards '..': expected names of files in the same folder"),
        ({"a": "a.safetensors", "b": "b.safetensors"}, "two shards hold x"),
    ],
    ids=str,
)
def test_indexes_that_cannot_be_meant(shards, said, tmp_path):
    for name in "ab":
        save_file({"x": np.ones(1, np.float32), name: np.ones(1, np.float32)}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(RequestError) as error:
        load_pretrained(resnet(18), index)
    assert str(error.value).startswith(f"{index}: {said}")


def test_a_file_of_another_family_is_said_to_be(tmp_path):
    path, _, config = image_parity.written(tmp_path, "convnext")
    with pytest.raises(RequestError, match=f"^{path}: not ViT's, looks like ConvNeXt's; {path} does not fit: "):
        read_into(SMALL, path)
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(RequestError, match="x.safetensors: not ViT's, few of the names match; "):
        load_pretrained(SMALL, tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "swin"}))
    with pytest.raises(RequestError, match=f"^{path}: not ViT's, the config.json beside it says model_type='swin'; "):
        load_pretrained(SMALL, path)


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not this")
    with pytest.raises(RequestError, match="is damaged or not a safetensors file"):
        load_pretrained("resnet18", tmp_path / "model.safetensors")
    (tmp_path / "model.bin").write_bytes(b"nor this")
    with pytest.raises(RequestError, match="no pickle"):
        load_pretrained("resnet18", tmp_path / "model.bin")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no .safetensors file in this folder"):
        load_pretrained("resnet18", tmp_path / "empty")


def test_without_the_hubs_client_or_without_a_network(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RequestError, match=r"microsoft/resnet-50.*huggingface_hub.*\[hub\]"):
        load_pretrained("resnet50")

    def offline(*args, **kwargs):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=offline))
    with pytest.raises(RequestError, match=r"hub could not be read \(no route to host\)"):
        load_pretrained("resnet50")


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    """A folder with GPT-2's weights and config, already read once so that nothing is left to import or compile."""
    folder = tmp_path_factory.mktemp("gpt")
    arrays, metadata = parity.load("gpt2")
    save_file(parity.under(arrays, "param/"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(metadata["config"]))
    load_pretrained("auto", folder)
    return folder, metadata["config"]


def refused_at_once(folder) -> str:
    """The line with which a folder is refused, within a second of CPU time."""
    start = time.process_time()
    with pytest.raises(RequestError, match=r"^[^\n]+$") as error:
        load_pretrained("auto", folder)
    assert time.process_time() - start < 1
    assert len(str(error.value)) < 6000
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_layer": 10**6}, "config: 1,000,000 layers: expected at most 2,000"),
        ({"n_layer": 1000}, "28 tensors, but the config describes 1,000 layers: expected at most 50"),
        ({"n_layer": 10**400}, "expected a whole number below 2**63"),
        ({"n_layer": 1e30}, "expected a whole number"),
        ({"n_layer": -(10**6)}, "expected at least 1"),
        ({"n_embd": 10**30}, "width=10000000000000000000…: expected a whole number below 2**63"),
        ({"n_embd": 10**12}, "width=1000000000000: expected at most 2147483647"),
        ({"vocab_size": 2**31 - 1}, "of another shape"),
        ({"n_embd": 10**9, "n_head": 1}, "of another shape"),
    ],
    ids=str,
)
def test_a_config_that_describes_no_model_is_refused_at_once(gpt, changes, said, tmp_path):
    folder, config = gpt
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    assert said in refused_at_once(tmp_path)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("efficientnet", {"depth_coefficient": 1e6}),
        ("efficientnet", {"depth_coefficient": 1e308}),
        ("efficientnet", {"num_block_repeats": [10**6] * 7}),
        ("resnet_basic", {"depths": [10**6, 1, 1, 1]}),
        ("convnext", {"depths": [1, 10**6, 1, 1]}),
        ("vit", {"num_hidden_layers": 10**6}),
        ("llama", {"num_hidden_layers": 10**6}),
        ("marian", {"decoder_layers": 10**6}),
        ("whisper", {"encoder_layers": 10**6}),
    ],
    ids=str,
)
def test_a_million_layers_of_any_family(family, changes):
    _, metadata = parity.load(family)
    start = time.process_time()
    with pytest.raises(RequestError, match="^config: .* layers: expected at most 2,000$|different lengths|of float32$"):
        from_config({**metadata["config"], **changes})
    assert time.process_time() - start < 1


def tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


LIES = {
    "a header of 2**64 - 1 bytes": (b"{}", 2**64 - 1, "expected at most 16,777,216"),
    "a header of a gigabyte": (b"{}", 2**30, "expected at most 16,777,216"),
    "a header beyond the file": (b"{}", 1000, "damaged"),
    "a header of nothing": (b"", 0, "damaged"),
    "no JSON": (b"{{{{", None, "damaged"),
    "no text": (b"\xff" * 64, None, "damaged"),
    "a deep list": (b"[" * 2**20, None, "damaged"),
    "a list": (b"[1]", None, "damaged"),
    "a negative offset": ({"a": tensor([1], -4, 0)}, None, "damaged"),
    "an end before the start": ({"a": tensor([1], 4, 0)}, None, "damaged"),
    "an end beyond the file": ({"a": tensor([2**58], 0, 2**60)}, None, "damaged"),
    "offsets that overflow": ({"a": tensor([1], 2**63, 2**64 - 1)}, None, "damaged"),
    "a shape that overflows": ({"a": tensor([2**62, 2**62], 0, 4)}, None, "damaged"),
    "a negative shape": ({"a": tensor([-1], 0, 4)}, None, "damaged"),
    "a broken shape": ({"a": tensor([1.5], 0, 4)}, None, "damaged"),
    "an endless shape": ({"a": tensor([10**40], 0, 4)}, None, "damaged"),
    "another size than the shape's": ({"a": tensor([3], 0, 4)}, None, "damaged"),
    "tensors that overlap": ({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, None, "damaged"),
    "a hole": ({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, None, "damaged"),
    "an unknown type": ({"a": tensor([1], 0, 4, "F31")}, None, "damaged"),
    "a tensor that is null": ({"a": None}, None, "damaged"),
    "a huge shape of nothing": ({"wte.weight": tensor([0, 2**60], 0, 0)}, None, "missing"),
    "a name of a megabyte": ({"a" * 2**20: tensor([1], 0, 4)}, None, "a name of 1,048,576 characters"),
    "many tensors": ({f"h.{i}.ln_1.weight": tensor([0], 0, 0) for i in range(50_000)}, None, "50,000 tensors"),
    "some thousand tensors": ({f"h.{i}.ln_1.weight": tensor([0], 0, 0) for i in range(2_000)}, None, "unknown"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_at_once(gpt, lie, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(gpt[1]))
    header, size, said = LIES[lie]
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = b"" if any(word in lie for word in ("nothing", "tensors")) and "overlap" not in lie else bytes(4)
    length = struct.pack("<Q", len(text) if size is None else size)
    (tmp_path / "model.safetensors").write_bytes(length + text + data)
    assert said in refused_at_once(tmp_path)
