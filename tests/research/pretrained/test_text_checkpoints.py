"""Published text models: full lists of names and shapes, files in the layout of the hub, and strictness."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import parity
import published_keys
import pytest
from safetensors.numpy import load_file, save_file

from research.errors import RequestError
from research.layers.positions import Llama3Scaling, Rotary
from research.layers.recurrent import Recurrent
from research.models.gpt import gpt2 as gpt2_size
from research.models.llama import llama as llama_size
from research.models.rnn import RNNLanguageModel
from research.pretrained import export_pretrained, gpt2, llama, load_pretrained, rnn
from research.pretrained.load import read_into

PUBLISHED = {
    "gpt2": (gpt2.FAMILY, gpt2_size("gpt2")),
    "distilgpt2": (gpt2.FAMILY, gpt2_size("distilgpt2", scan_layers=True)),
    "llama32_1b": (llama.FAMILY, llama_size("llama3.2-1b")),
    "tinyllama_1b1": (llama.FAMILY, llama_size("tinyllama-1.1b", scan_layers=True)),
    "rnn_256x2": (rnn.FAMILIES[2], Recurrent("elman", 256, 2, input_width=256)),
    "lstm_256x2": (rnn.FAMILIES[2], Recurrent("lstm", 256, 2, input_width=256)),
    "gru_256x2": (rnn.FAMILIES[2], Recurrent("gru", 256, 2, input_width=256)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_and_shape(name):
    published_keys.check(name, *PUBLISHED[name])


CHECKPOINTS = {
    "gpt2": gpt2.FAMILY,
    "gpt2_untied": gpt2.FAMILY,
    "llama": llama.FAMILY,
    "llama_scaled": llama.FAMILY,
    "lstm": rnn.FAMILIES[1],
    "gru_bidirectional": rnn.FAMILIES[1],
}


def checkpoint(name, tmp_path, change=lambda weights: weights):
    """(a folder with weights and config.json, the weights, our model)."""
    arrays, metadata = parity.load(name)
    weights = parity.under(arrays, "param/")
    save_file(change(weights), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(metadata["config"]))
    return tmp_path, weights, CHECKPOINTS[name].from_config(metadata["config"])


@pytest.mark.parametrize(
    ("name", "fields"),
    [(name, {}) for name in CHECKPOINTS] + [(name, {"scan_layers": True}) for name in list(CHECKPOINTS)[:4]],
    ids=str,
)
def test_import_and_export_bit_for_bit(name, fields, tmp_path):
    folder, weights, model = checkpoint(name, tmp_path)
    model = dataclasses.replace(model, **fields)
    model, variables = load_pretrained(model, folder)
    back = load_file(export_pretrained(model, variables, tmp_path / "back" / "model.safetensors"))
    assert set(back) == set(weights)
    for key, x in weights.items():
        np.testing.assert_array_equal(back[key], x)


@pytest.mark.parametrize("name", ["gpt2", "llama_scaled"])
def test_the_config_beside_the_weights_says_which_model(name, tmp_path):
    folder, _, expected = checkpoint(name, tmp_path)
    loaded = load_pretrained("auto", folder)
    assert loaded.model == expected
    again = export_pretrained(*loaded, tmp_path / "back" / "model.safetensors")
    assert load_pretrained("auto", again.parent).model == expected


def test_gpt2_as_it_lies_on_the_hub(tmp_path):
    """The file lacks the prefix, and holds the causal mask of every block and a copy of the tied head."""

    def hub(weights):
        files = {key.removeprefix("transformer."): x for key, x in weights.items()}
        for i in range(2):
            files[f"h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 32, 32), np.float32))
            files[f"h.{i}.attn.masked_bias"] = np.asarray(-1e4, np.float32)
        return files | {"lm_head.weight": weights["transformer.wte.weight"].copy()}

    (tmp_path / "hub").mkdir()
    (tmp_path / "saved").mkdir()
    folder, _, model = checkpoint("gpt2", tmp_path / "hub", hub)
    there = load_pretrained(model, folder).variables
    saved = load_pretrained(model, checkpoint("gpt2", tmp_path / "saved")[0]).variables
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), there, saved))


def test_old_llama_files_carry_rotations(tmp_path):
    def old(weights):
        return weights | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32) for i in range(2)}

    folder, _, model = checkpoint("llama", tmp_path, old)
    load_pretrained(model, folder)


def test_a_start_from_weights_is_told_their_padding_token(tmp_path):
    folder, _, model = checkpoint("llama", tmp_path)
    assert model.pad_token == 0
    assert set(read_into(model, folder)["params"]) >= {"token_embedding", "norm"}
    with pytest.raises(RequestError, match="Llama has pad_token=None, but .* set model.pad_token=0$"):
        read_into(dataclasses.replace(model, pad_token=None), folder)


def test_bfloat16_files_are_read_into_float32(tmp_path):
    import ml_dtypes

    folder, weights, model = checkpoint(
        "llama", tmp_path, lambda weights: {key: x.astype(ml_dtypes.bfloat16) for key, x in weights.items()}
    )
    variables = load_pretrained(model, folder).variables
    table = variables["params"]["token_embedding"]["embedding"]
    assert table.dtype == np.float32
    np.testing.assert_array_equal(
        table, weights["model.embed_tokens.weight"].astype(ml_dtypes.bfloat16).astype(np.float32)
    )


WRONG = [
    (lambda w: {k: x for k, x in w.items() if "ln_f.bias" not in k}, "1 missing: transformer.ln_f.bias"),
    (lambda w: w | {"transformer.h.2.ln_1.bias": np.zeros(32, np.float32)}, "1 unknown: transformer.h.2.ln_1.bias"),
    (lambda w: w | {"transformer.wpe.weight": np.zeros((31, 32), np.float32)}, r"of another shape: .*\[31, 32\]"),
    (lambda w: w | {"lm_head.weight": w["transformer.wte.weight"] + 1}, "tied but not equal: lm_head.weight"),
    (lambda w: w | {"wte.weight": w["transformer.wte.weight"].copy()}, "given twice"),
]


@pytest.mark.parametrize(("change", "line"), WRONG, ids=[line for _, line in WRONG])
def test_a_file_that_does_not_fit_is_refused(change, line, tmp_path):
    folder, _, model = checkpoint("gpt2", tmp_path, change)
    with pytest.raises(RequestError, match=line) as refusal:
        load_pretrained(model, folder)
    assert "\n" not in str(refusal.value)


def test_configs_old_and_new_give_the_same_rotations():
    scaling = {
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    old = {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **scaling}}
    new = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **scaling}}
    expected = Rotary(5e5, Llama3Scaling(factor=32.0))
    assert llama.from_config(old).rotary == llama.from_config(new).rotary == expected
    assert llama_size("llama3.2-1b").rotary == expected
    assert llama.from_config({"rope_theta": 1e5}).rotary == Rotary(1e5)


REFUSED = [
    (
        gpt2.from_config,
        {"activation_function": "gelu_nwe"},
        "activation_function='gelu_nwe' in the config: did",
    ),
    (gpt2.from_config, {"add_cross_attention": True}, "add_cross_attention=true in the config"),
    (gpt2.from_config, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=true in the config"),
    (llama.from_config, {"hidden_act": "gelu"}, "hidden_act='gelu' in the config: expected 'silu'"),
    (llama.from_config, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type='dynamic' in the config"),
    (rnn.from_config, {"kind": "lstn"}, "kind='lstn' in the config: did you mean 'lstm'"),
]


@pytest.mark.parametrize(("from_config", "config", "line"), REFUSED, ids=[line for *_, line in REFUSED])
def test_configs_that_ask_for_something_else(from_config, config, line):
    with pytest.raises(RequestError) as refusal:
        from_config(config)
    assert str(refusal.value).startswith(line)


def test_pytorchs_word_language_model(tmp_path):
    model = RNNLanguageModel(11, "gru", width=4, depth=2, tied_head=True)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), int))
    path = export_pretrained(model, variables, tmp_path / "model.safetensors", publisher="pytorch")
    names = {f"rnn.{kind}_{end}_l{i}" for kind in ("weight", "bias") for end in ("ih", "hh") for i in (0, 1)}
    assert set(load_file(path)) == names | {"encoder.weight", "decoder.bias"}
    again = load_pretrained(model, path).variables
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), variables, again))
