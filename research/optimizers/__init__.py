"""Optimizers as values over Optax.

    AdamW(learning_rate=3e-4, schedule=Cosine(warmup_steps=1000), weight_decay=0.1, frozen=("embedding/*",))

`Optimizer` says what they all have, and how one adds one's own.
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
