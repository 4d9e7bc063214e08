"""Makes parity fixtures of encoder-decoders (translation, speech) from PyTorch and transformers.

    pip install -e '.[parity]'
    python tests/parity_generators/sequences.py OUT_DIR                    # the configurations of `CASES`
    python tests/parity_generators/sequences.py OUT_DIR whisper_odd        # some of them
    python tests/parity_generators/sequences.py OUT_DIR whisper_odd --set encoder_layers=3

A fixture holds random weights under their published names (`param/...`), inputs, the reference's outputs and loss, the
L2 norm of the loss's gradient by parameter (`gradnorm/...`), and for Marian and Whisper generated tokens (`gen/...`);
its metadata hold the configuration.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

MARIAN = {"model_type": "marian", "dropout": 0.0, "eos_token_id": 0, "bos_token_id": 0, "forced_eos_token_id": 0}
CASES = {
    "marian_odd": {
        **MARIAN, "vocab_size": 53, "d_model": 24, "encoder_layers": 3, "decoder_layers": 1,
        "encoder_attention_heads": 3, "decoder_attention_heads": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 28,
        "activation_function": "gelu", "scale_embedding": False, "max_position_embeddings": 40, "pad_token_id": 52,
        "decoder_start_token_id": 51, "tie_word_embeddings": False,
    },
    "marian_separate": {
        **MARIAN, "vocab_size": 43, "decoder_vocab_size": 31, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
        "activation_function": "relu", "scale_embedding": True, "max_position_embeddings": 24, "pad_token_id": 30,
        "decoder_start_token_id": 30, "share_encoder_decoder_embeddings": False,
    },
    "whisper_odd": {
        "model_type": "whisper", "vocab_size": 41, "num_mel_bins": 12, "d_model": 24, "encoder_layers": 1,
        "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 3, "encoder_ffn_dim": 36,
        "decoder_ffn_dim": 20, "activation_function": "silu", "max_source_positions": 14, "max_target_positions": 18,
        "pad_token_id": 3, "bos_token_id": 3, "eos_token_id": 3, "decoder_start_token_id": 4, "suppress_tokens": None,
        "begin_suppress_tokens": None, "tie_word_embeddings": False,
    },
    "transformer_odd": {
        "vocab": 29, "d_model": 20, "nhead": 5, "enc_layers": 1, "dec_layers": 3, "d_ff": 44, "norm_first": True,
        "final_norm": False, "activation": "relu",
    },
}  # fmt: skip
BEAM = {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.8, "early_stopping": True}
LENGTHS, TARGET_LENGTHS = (9, 5, 2), (7, 7, 4)


def tokens(vocab_size: int, lengths: tuple[int, ...], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens without special ones, padded on the right, and their mask."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.where(mask, torch.randint(5, min(vocab_size, 28), mask.shape), pad), mask


def randomised(model: nn.Module) -> nn.Module:
    for name, p in model.named_parameters():
        is_norm = "norm" in name
        if p.requires_grad:
            nn.init.normal_(p, mean=float(is_norm and name.endswith("weight")), std=0.1 if is_norm else 0.3)
    return model.eval()


def marian(config: dict) -> dict[str, torch.Tensor]:
    model, full = of_transformers(config)
    model.final_logits_bias.normal_(std=0.5)
    source, mask = tokens(full.vocab_size, LENGTHS, full.pad_token_id)
    labels, valid = tokens(full.decoder_vocab_size, TARGET_LENGTHS, -100)
    start = torch.full((len(labels), 1), full.decoder_start_token_id)
    target = torch.cat([start, labels[:, :-1]], dim=1)
    target = torch.where(target == -100, full.pad_token_id, target)
    out = model(source, attention_mask=mask.int(), decoder_input_ids=target, labels=labels)
    arrays = {
        "input/input_ids": source.int(),
        "input/attention_mask": mask.int(),
        "input/decoder_input_ids": target.int(),
        "input/labels": labels.int(),
        "param/final_logits_bias": model.final_logits_bias,
    }
    how = {"input_ids": source, "attention_mask": mask.int(), "max_new_tokens": 8, "do_sample": False}
    return arrays | outputs(model, out) | generated(model, how)


def whisper(config: dict) -> dict[str, torch.Tensor]:
    model, full = of_transformers(config)
    features = torch.randn(3, full.num_mel_bins, 2 * full.max_source_positions)
    labels, valid = tokens(full.vocab_size, TARGET_LENGTHS, -100)
    start = torch.full((len(labels), 1), full.decoder_start_token_id)
    target = torch.cat([start, labels[:, :-1]], dim=1)
    target = torch.where(target == -100, full.pad_token_id, target)
    out = model(features, decoder_input_ids=target, labels=labels)
    arrays = {"input/input_features": features, "input/decoder_input_ids": target.int(), "input/labels": labels.int()}
    position = model.model.encoder.embed_positions.weight  # kept in the file, not trained
    arrays |= {"param/model.encoder.embed_positions.weight": position}
    ids = start
    with torch.no_grad():
        for _ in range(9):
            last = model(features, decoder_input_ids=ids).logits[:, -1]
            ids = torch.cat([ids, last.argmax(dim=-1, keepdim=True)], dim=1)
    return arrays | outputs(model, out) | {"gen/greedy_ids_plain_argmax": ids.int()}


def of_transformers(config: dict):
    import transformers

    full = transformers.AutoConfig.for_model(**config)
    of = {"marian": transformers.MarianMTModel, "whisper": transformers.WhisperForConditionalGeneration}
    config |= {key: value for key, value in full.to_dict().items() if key not in config}
    return randomised(of[config["model_type"]](full)), full


def outputs(model: nn.Module, out) -> dict[str, torch.Tensor]:
    return {
        "output/logits": out.logits,
        "output/encoder_last_hidden_state": out.encoder_last_hidden_state,
        "output/loss": out.loss,
    } | gradients(model, out.loss)


def generated(model: nn.Module, how: dict) -> dict[str, torch.Tensor]:
    greedy = model.generate(**how)
    beams = model.generate(**how, **BEAM, output_scores=True, return_dict_in_generate=True)
    return {
        "gen/greedy_ids": greedy.int(),
        "gen/beam_ids": beams.sequences.int(),
        "gen/beam_scores": beams.sequences_scores,
    }


class Translator(nn.Module):
    """`nn.Transformer` with the paper's embeddings; the final norm is optional."""

    def __init__(self, config: dict):
        super().__init__()
        width = config["d_model"]
        block = {
            "d_model": width, "nhead": config["nhead"], "dim_feedforward": config["d_ff"], "dropout": 0.0,
            "activation": config["activation"], "norm_first": config["norm_first"], "batch_first": True,
        }  # fmt: skip
        norms = [nn.LayerNorm(width) if config["final_norm"] else None for _ in range(2)]
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**block), config["enc_layers"], norms[0])
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**block), config["dec_layers"], norms[1])
        self.embed = nn.Embedding(config["vocab"], width)
        self.transformer = nn.Transformer(
            width, config["nhead"], custom_encoder=encoder, custom_decoder=decoder, batch_first=True
        )

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        width = self.embed.embedding_dim
        angles = torch.arange(ids.shape[1])[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
        positions = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        return self.embed(ids) * math.sqrt(width) + positions

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padding = source == 0
        memory = self.transformer.encoder(self.embedded(source), src_key_padding_mask=padding)
        causal = torch.triu(torch.ones(target.shape[1], target.shape[1], dtype=torch.bool), diagonal=1)
        hidden = self.transformer.decoder(
            self.embedded(target), memory, tgt_mask=causal, memory_key_padding_mask=padding
        )
        return memory, hidden @ self.embed.weight.T


def transformer(config: dict) -> dict[str, torch.Tensor]:
    model = randomised(Translator(config))
    source, mask = tokens(config["vocab"], LENGTHS, 0)
    labels, valid = tokens(config["vocab"], TARGET_LENGTHS, 0)
    target = torch.cat([torch.ones(len(labels), 1, dtype=torch.long), labels[:, :-1]], dim=1)
    memory, logits = model(source, target)
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), labels, label_smoothing=0.1, ignore_index=0)
    arrays = {
        "input/src": source.int(),
        "input/tgt": target.int(),
        "input/labels": labels.int(),
        "output/memory": memory * mask[..., None],
        "output/logits": logits * valid[..., None],
        "output/loss": loss,
    }
    return arrays | gradients(model, loss)


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Parameters (a tied one once) and the norms of their gradients."""
    loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    norms = {f"gradnorm/{name}": p.grad.norm() for name, p in trained.items() if p.grad is not None}
    return {f"param/{name}": p for name, p in trained.items()} | norms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    make = {"marian": marian, "whisper": whisper, None: transformer}
    for case in arguments.cases or CASES:
        config = {**CASES[case], **changes}
        torch.manual_seed(arguments.seed)
        arrays = make[config.get("model_type")](config)
        arrays = {name: x.detach().contiguous().clone() for name, x in arrays.items()}
        metadata = {"config": json.dumps(config, default=str), "versions": json.dumps({"torch": torch.__version__})}
        metadata["beam"] = json.dumps(BEAM)
        save_file(arrays, arguments.out / f"{case}.safetensors", metadata=metadata)
        print(f"{case}: {len(arrays)} arrays")


if __name__ == "__main__":
    main()
