"""Makes parity fixtures of recurrent networks and language models from PyTorch and transformers.

    pip install -e '.[parity]'
    python tests/parity_generators/text.py OUT_DIR                       # the configurations of `CASES`
    python tests/parity_generators/text.py OUT_DIR llama_scaled          # some of them
    python tests/parity_generators/text.py OUT_DIR llama_scaled --set num_hidden_layers=2

A fixture holds random weights under their published names (`param/...`), inputs, the reference's outputs and loss, the
L2 norm of the loss's gradient by parameter (`gradnorm/...`), and for language models generated tokens (`gen/...`); its
metadata hold the configuration.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

RECURRENT = {"input_size": 6, "hidden_size": 8, "num_layers": 2, "bidirectional": True, "num_classes": 5}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CASES = {
    "rnn_relu_bidirectional": {**RECURRENT, "kind": "rnn_relu"},
    "lstm_bidirectional": {**RECURRENT, "kind": "lstm"},
    "gru_bidirectional": {**RECURRENT, "kind": "gru"},
    "llama_scaled": {
        "model_type": "llama", "vocab_size": 53, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 10, "max_position_embeddings": 96,
        "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 24,
        }, **TOKENS,
    },
    "gpt2_untied": {
        "model_type": "gpt2", "vocab_size": 47, "n_positions": 40, "n_embd": 24, "n_layer": 3, "n_head": 3,
        "n_inner": 50, "activation_function": "relu", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        "layer_norm_epsilon": 1e-6, "tie_word_embeddings": False, **TOKENS,
    },
}  # fmt: skip
BEAM = {"num_beams": 5, "num_return_sequences": 3, "length_penalty": 0.7, "early_stopping": True}


def recurrent(config: dict) -> dict[str, torch.Tensor]:
    """A recurrent module with a dense head on every token; `..._packed` outputs are those of packed sequences."""
    classes = {"rnn_tanh": nn.RNN, "rnn_relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    extra = {"nonlinearity": "relu"} if config["kind"] == "rnn_relu" else {}
    sizes = {name: config[name] for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}
    rnn = classes[config["kind"]](**sizes, **extra, batch_first=True)
    directions = 2 if config["bidirectional"] else 1
    head = nn.Linear(directions * config["hidden_size"], config["num_classes"])
    whole = nn.ModuleDict({"rnn": rnn, "head": head})
    for p in whole.parameters():
        nn.init.normal_(p, std=0.4)
    x, lengths = torch.randn(4, 9, config["input_size"]), torch.tensor([9, 1, 6, 4])
    h0, c0 = torch.randn(2, directions * config["num_layers"], 4, config["hidden_size"]) * 0.5
    state = (h0, c0) if config["kind"] == "lstm" else h0
    arrays = {"input/x": x, "input/lengths": lengths.int(), "input/h0": h0}
    if config["kind"] == "lstm":
        arrays["input/c0"] = c0

    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    for tag, given in (("_packed", packed), ("", x)):
        y, final = rnn(given, state)
        if tag:
            y = nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]
        arrays[f"output/y{tag}"], arrays[f"output/logits{tag}"] = y, head(y)
        finals = final if isinstance(final, tuple) else (final,)
        arrays |= {f"output/{name}_n{tag}": s for name, s in zip("hc", finals, strict=False)}
    arrays["loss_for_grad"] = (arrays["output/y"] ** 2).mean()
    return arrays | gradients(whole, arrays["loss_for_grad"])


def language_model(config: dict) -> dict[str, torch.Tensor]:
    """A transformers language model: logits, the same for prompts padded on the left, greedy and beam search."""
    import transformers

    full = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_config(full).eval()
    for name, p in model.named_parameters():
        is_norm = "norm" in name or "ln_" in name
        nn.init.normal_(p, mean=float(is_norm and name.endswith("weight")), std=0.1 if is_norm else 0.3)
    tokens = torch.randint(3, full.vocab_size, (2, 34))
    length, lengths = 12, (12, 7, 4)
    mask = torch.tensor([[0] * (length - n) + [1] * n for n in lengths])
    padded, positions = torch.randint(3, full.vocab_size, (3, length)) * mask, (mask.cumsum(1) - 1).clamp(min=0)
    out = model(tokens, labels=tokens)
    arrays = {
        "input/input_ids": tokens.int(),
        "input/padded_input_ids": padded.int(),
        "input/padded_attention_mask": mask.int(),
        "input/padded_position_ids": positions.int(),
        "output/logits": out.logits,
        "output/loss": out.loss,
        "loss_for_grad": out.loss,
    }
    arrays |= gradients(model, out.loss)
    with torch.no_grad():
        logits = model(padded, attention_mask=mask, position_ids=positions).logits
        arrays["output/logits_leftpad"] = logits * mask[..., None]
    how = {"attention_mask": mask, "max_new_tokens": 10, "do_sample": False, "pad_token_id": 2, "eos_token_id": 2}
    arrays["gen/greedy_ids"] = model.generate(padded, **how).int()
    beams = model.generate(padded, **how, **BEAM, output_scores=True, return_dict_in_generate=True)
    arrays |= {"gen/beam_ids": beams.sequences.int(), "gen/beam_sequences_scores": beams.sequences_scores}
    config |= {key: value for key, value in full.to_dict().items() if key not in config}
    return arrays


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Parameters (a tied one once) and the norms of their gradients."""
    loss.backward()
    arrays = {f"param/{name}": p for name, p in model.named_parameters()}
    return arrays | {f"gradnorm/{name}": p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for case in arguments.cases or CASES:
        config = {**CASES[case], **changes}
        torch.manual_seed(arguments.seed)
        arrays = recurrent(config) if "kind" in config else language_model(config)
        arrays = {name: x.detach().contiguous().clone() for name, x in arrays.items()}
        metadata = {"config": json.dumps(config, default=str), "versions": json.dumps({"torch": torch.__version__})}
        if "kind" not in config:
            metadata["beam"] = json.dumps(BEAM)
        save_file(arrays, arguments.out / f"{case}.safetensors", metadata=metadata)
        print(f"{case}: {len(arrays)} arrays")


if __name__ == "__main__":
    main()
