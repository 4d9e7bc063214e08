"""The base class of models that read one sequence and write another, token by token."""

from __future__ import annotations

import jax

from research.models.model import Model


class EncoderDecoder(Model):
    """A model `(input, input_mask, target, *, positions, mask, decode, train)` that writes `target` token by token."""

    def decode(self, tokens: jax.Array, *, positions: jax.Array, mask: jax.Array, **memory: jax.Array) -> jax.Array:
        """Returns logits [batch, vocab_size] for the token after the last of `tokens`, which follow those in `cache`.

        Args:
          tokens: [batch, length], the start of the target in the first call, then one token per call.
          positions: [batch, length] of these tokens.
          mask: [batch, cache length] bool, False where the cache holds padding; covers later tokens too.
          memory: the input and its mask, by their names in `__call__`; without a mask there is no padding.  The first
            call encodes them.
        """
        no_padding = {f"{name}_mask": None for name in memory if not name.endswith("_mask")}
        return self(**no_padding | memory, target=tokens, positions=positions, mask=mask, decode=True)
