"""A small encoder-decoder out of the house's layers, with Marian's weights: what generation asks of such a model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers.attention import MultiHeadAttention, padding_mask
from research.layers.embeddings import tied_logits, token_embedding
from research.layers.norms import layer_norm
from research.layers.positions import sinusoidal
from research.pretrained.mapping import KeyMap, Unused, embedding, kernel, norm


class Translator(nn.Module):
    """Post-norm, sinusoids with the sines first, one table of embeddings for both sides and the logits."""

    vocab_size: int
    width: int
    depth: int
    num_heads: int
    mlp_width: int
    context_length: int

    def setup(self):
        self.embed = token_embedding(self.vocab_size, self.width, dtype="float32", name=None)
        self.encoder = [Block(self.num_heads, self.mlp_width, cross=False) for _ in range(self.depth)]
        self.decoder = [Block(self.num_heads, self.mlp_width, cross=True) for _ in range(self.depth)]

    def __call__(self, source, source_mask, tokens):
        memory = self.encode(source, source_mask)
        return self._decoded(tokens, jnp.arange(tokens.shape[1])[None], None, memory, source_mask, decode=False)

    def encode(self, source, source_mask):
        x = self._embedded(source, jnp.arange(source.shape[1])[None])
        for block in self.encoder:
            x = block(x, mask=padding_mask(source_mask))
        return x

    def decode(self, tokens, *, positions, mask, memory, memory_mask):
        return self._decoded(tokens, positions, padding_mask(mask), memory, memory_mask, decode=True)[:, -1]

    def _decoded(self, tokens, positions, mask, memory, memory_mask, decode):
        x = self._embedded(tokens, positions)
        for block in self.decoder:
            x = block(x, memory, mask=mask, memory_mask=padding_mask(memory_mask), decode=decode)
        return tied_logits(x, self.embed)

    def _embedded(self, tokens, positions):
        return self.embed(tokens) * self.width**0.5 + sinusoidal(positions, self.width, interleaved=False)


class Block(nn.Module):
    num_heads: int
    mlp_width: int
    cross: bool

    @nn.compact
    def __call__(self, x, memory=None, *, mask=None, memory_mask=None, decode=False):
        attention = MultiHeadAttention(self.num_heads, name="self")
        x = self._norm("norm_self", x + attention(x, mask=mask, causal=self.cross, decode=decode))
        if self.cross:
            attention = MultiHeadAttention(self.num_heads, name="cross")
            x = self._norm("norm_cross", x + attention(x, memory, mask=memory_mask, decode=decode))
        hidden = nn.silu(nn.Dense(self.mlp_width, name="up")(x))
        return self._norm("norm_mlp", x + nn.Dense(x.shape[-1], name="down")(hidden))

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        return layer_norm(dtype="float32", name=name)(x)


def key_map() -> KeyMap:
    entries = [embedding("model.shared", "embed"), Unused("final_logits_bias")]
    for side in ("encoder", "decoder"):
        theirs, ours = f"model.{side}.layers.{{i}}", f"{side}_{{i}}"
        for attention, name in (("self_attn", "self"), ("encoder_attn", "cross")):
            for short, long in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out")):
                entries.append(kernel(f"{theirs}.{attention}.{short}", f"{ours}/{name}/{long}"))
            entries.append(norm(f"{theirs}.{attention}_layer_norm", f"{ours}/norm_{name}"))
        entries.append(norm(f"{theirs}.final_layer_norm", f"{ours}/norm_mlp"))
        entries += [kernel(f"{theirs}.fc1", f"{ours}/up"), kernel(f"{theirs}.fc2", f"{ours}/down")]
    return KeyMap("huggingface", tuple(entries))
