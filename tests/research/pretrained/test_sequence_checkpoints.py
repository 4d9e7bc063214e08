"""Published encoder-decoders: full lists of names and shapes, files in the layout of the hub, and strictness."""

from __future__ import annotations

import json

import numpy as np
import parity
import published_keys
import pytest
from safetensors.numpy import load_file, save_file

from research.errors import RequestError
from research.models.transformer import Transformer, translation
from research.models.whisper import Whisper
from research.pretrained import export_pretrained, load_pretrained, mapping, marian, whisper
from research.pretrained.catalog import find_variant

PUBLISHED = {
    "opus_mt_en_de": (marian.FAMILY, find_variant("opus-mt-en-de")[1].build()),
    "transformer_base_37k": (marian.FAMILY, translation("base", scan_layers=True)),
    "whisper_tiny": (whisper.FAMILY, find_variant("whisper-tiny")[1].build()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_and_shape(name):
    published_keys.check(name, *PUBLISHED[name])


def test_parameters_of_opus_mt():
    """Counts trained parameters as the reference does; our tables of positions are computed."""
    shapes = marian.FAMILY.shapes(PUBLISHED["opus_mt_en_de"][1])
    assert sum(x.size for x in mapping.flatten(shapes["params"]).values()) == 73_886_208
    assert [x.shape for x in mapping.flatten(shapes["constants"]).values()] == [(58101,)]


CHECKPOINTS = {
    "marian": marian.from_config,
    "marian_odd": marian.from_config,
    "marian_separate": marian.from_config,
    "transformer_vaswani": marian.from_pytorch,
    "transformer_odd": marian.from_pytorch,
    "whisper": whisper.from_config,
    "whisper_odd": whisper.from_config,
}


def checkpoint(name, folder, change=lambda weights: weights):
    """(a folder with weights and config.json, the weights, our model)."""
    folder.mkdir(exist_ok=True)
    arrays, metadata = parity.load(name)
    weights = parity.under(arrays, "param/")
    save_file(change(weights), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(metadata["config"]))
    return folder, weights, CHECKPOINTS[name](metadata["config"])


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_import_and_export_bit_for_bit(name, scan_layers, tmp_path):
    folder, weights, model = checkpoint(name, tmp_path)
    model, variables = load_pretrained(model.clone(scan_layers=scan_layers), folder)
    back = load_file(export_pretrained(model, variables, tmp_path / "back" / "model.safetensors"))
    unused = {"model.shared.weight"} if name == "marian_odd" else set()  # unused, since no table is tied to it
    assert set(back) == set(weights) - unused
    for key, x in back.items():
        np.testing.assert_array_equal(x, weights[key])


@pytest.mark.parametrize("name", ["marian", "marian_odd", "marian_separate", "whisper", "whisper_odd"])
def test_configs_there_and_back(name, tmp_path):
    folder, _, model = checkpoint(name, tmp_path)
    loaded = load_pretrained("auto", folder)
    assert loaded.model == model
    export_pretrained(*loaded, tmp_path / "again" / "model.safetensors")
    assert load_pretrained("auto", tmp_path / "again").model == model


def test_marian_as_older_files_have_it(tmp_path):
    """Older files have copies of the shared table, and positions that are computed now."""

    def old(weights):
        table = weights["model.shared.weight"]
        copies = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
        positions = {
            f"model.{side}.embed_positions.weight": np.zeros((32, 32), np.float32) for side in ("encoder", "decoder")
        }
        return weights | {name: table.copy() for name in copies} | positions

    folder, weights, model = checkpoint("marian", tmp_path, old)
    table = load_pretrained(model, folder).variables["params"]["token_embedding"]["embedding"]
    np.testing.assert_array_equal(table, weights["model.shared.weight"])


def test_a_named_variant_takes_the_vocabulary_of_the_file():
    for name, tokens in (("whisper-tiny.en", 51864), ("opus-mt-de-en", 58101)):
        family, variant = find_variant(name)
        model = variant.build().clone(vocab_size=7)
        shapes = {"params/token_embedding/embedding": (tokens, model.width)}
        assert family.adapted(model, name, "huggingface", shapes).vocab_size == tokens


WRONG = [
    ("marian", lambda w: w | {"lm_head.weight": w["model.shared.weight"] + 1}, "tied but not equal: lm_head.weight"),
    ("marian", lambda w: {k: x for k, x in w.items() if "final_logits" not in k}, "1 missing: final_logits_bias"),
    ("whisper", lambda w: w | {"model.encoder.conv1.weight": np.zeros((32, 15, 3), np.float32)}, r"\[32, 15, 3\]"),
    ("whisper", lambda w: w | {"model.encoder.layers.0.self_attn.k_proj.bias": np.zeros(32, np.float32)}, "1 unknown"),
    ("whisper", lambda w: w | {"proj_out.weight": w["model.decoder.embed_tokens.weight"] + 1}, "tied but not equal"),
]


@pytest.mark.parametrize(("name", "change", "line"), WRONG, ids=[line for *_, line in WRONG])
def test_files_that_do_not_fit_are_refused(name, change, line, tmp_path):
    folder, _, model = checkpoint(name, tmp_path, change)
    with pytest.raises(RequestError, match=line) as refusal:
        load_pretrained(model, folder)
    assert "\n" not in str(refusal.value)


REFUSED = [
    (lambda: marian.from_config({"activation_function": "swihs"}), "activation 'swihs' in the config: did you mean"),
    (lambda: marian.from_pytorch({"vocab": 5, "layers": 3}), "config: layers=3 not supported; known are"),
    (
        lambda: marian.key_maps(Transformer(5, positions="learned")),
        "published Transformers have positions='sinusoidal_halves' with norm='post'",
    ),
    (lambda: whisper.key_maps(Whisper(5, strides=(2, 2))), "strides=(2, 2): published Whispers have (1, 2)"),
]


@pytest.mark.parametrize(("request_it", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_was_never_published_is_refused(request_it, line):
    with pytest.raises(RequestError) as refusal:
        request_it()
    assert str(refusal.value).startswith(line)
