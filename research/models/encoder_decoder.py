"""The base of models that read one sequence and write another: decoding token by token."""

from __future__ import annotations

import jax

from research.models.model import Model


class EncoderDecoder(Model):
    """A model `(input, input_mask, target, *, positions, mask, decode, train)` that writes `target` token by token."""

    def decode(self, tokens: jax.Array, *, positions: jax.Array, mask: jax.Array, **memory: jax.Array) -> jax.Array:
        """Logits [batch, vocab_size] of what follows the last of these tokens, which follow those that `cache` holds.

        Args:
          tokens: [batch, length], the start of the target in the first call, then one at a time.
          positions: [batch, length] of them.
          mask: [batch, cache length] bool: the places of the cache that are not padding, later ones among them.
          memory: the input and its mask, by their names in `__call__`; without the mask there is no padding.  They are
            encoded in the first call.
        """
        no_padding = {f"{name}_mask": None for name in memory if not name.endswith("_mask")}
        return self(**no_padding | memory, target=tokens, positions=positions, mask=mask, decode=True)
