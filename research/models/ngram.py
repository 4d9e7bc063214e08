"""An n-gram model as a baseline for neural language models: interpolated Kneser-Ney, in NumPy.

    model = NGram.fit(tokens, vocab_size=4096, order=5)
    -model.log_probs(held_out).mean()                                 # nats per token
    model.sample(prompt, 100, rng=np.random.default_rng(0))

P_n(w | h) = max(c(h w) - D_n, 0) / c(h) + D_n N(h) / c(h) · P_{n-1}(w | h without its first token),

where N(h) is the number of different tokens that follow h.  Below the highest order, c counts the different contexts of
an n-gram instead of its occurrences (Kneser & Ney, 1995; Chen & Goodman, 1999).  The lowest order is 1 / vocab_size.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from research.errors import require


@dataclasses.dataclass(frozen=True, eq=False)
class _Order:
    """The counts of one order n; an n-gram is packed into one integer, its first token in the highest bits."""

    grams: np.ndarray  # uint64 [grams], sorted
    counts: np.ndarray  # [grams]
    contexts: np.ndarray  # uint64 [contexts], sorted: the grams without their last token
    starts: np.ndarray  # [contexts + 1], the first index in `grams` of each context
    totals: np.ndarray  # [contexts], c(h)
    discount: float


@dataclasses.dataclass(frozen=True, eq=False)
class NGram:
    """An n-gram model over tokens 0 to vocab_size - 1; `orders[n - 1]` holds the n-grams.

    >>> model = NGram.fit(np.array([0, 1, 2, 0, 1, 2]), vocab_size=3, order=2)
    >>> int(model.next_probs(np.array([0, 1])).argmax())
    2
    """

    vocab_size: int
    orders: tuple[_Order, ...]

    @property
    def parameters(self) -> int:
        """The number of stored counts."""
        return sum(len(order.grams) for order in self.orders)

    @classmethod
    def fit(cls, tokens: np.ndarray, vocab_size: int, order: int = 5) -> NGram:
        """Counts the n-grams of tokens [length].

        Raises:
          RequestError: n-grams of this order do not fit into 64 bits, or there are fewer tokens than `order`.
        """
        bits = _bits(vocab_size)
        fits = f"order={order}: expected 1 to {64 // bits} with vocab_size={vocab_size}"
        require(1 <= order <= 64 // bits, fits)
        require(len(tokens) >= order, f"tokens: {len(tokens)}, expected at least order={order}")
        grams, counts = np.unique(_packed(np.asarray(tokens), order, bits), return_counts=True)
        found = [_counted(grams, counts, bits)]
        for n in range(order - 1, 0, -1):  # the number of different contexts: grams of the next higher order
            kept = grams & np.uint64((1 << bits * n) - 1)
            grams, counts = np.unique(kept, return_counts=True)
            found.append(_counted(grams, counts, bits))
        return cls(vocab_size, tuple(reversed(found)))

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the log-probability in nats of every token after the first, given those before it, [length - 1]."""
        tokens = np.asarray(tokens)
        bits = _bits(self.vocab_size)
        p = np.full(len(tokens) - 1, 1 / self.vocab_size)
        for n, order in enumerate(self.orders, start=1):
            if len(tokens) < max(n, 2):
                break
            grams = _packed(tokens, n, bits)[1 if n == 1 else 0 :]  # n-grams that end with token 1, 2, ...
            first = max(n, 2) - 2  # the index in p of the last token of the first n-gram
            context, known = _find(order.contexts, grams >> np.uint64(bits))
            gram, seen = _find(order.grams, grams)
            count = np.where(seen, order.counts[gram], 0)
            total, following = order.totals[context], np.diff(order.starts)[context]
            own = np.maximum(count - order.discount, 0) / total
            p[first:] = np.where(known, own + order.discount * following / total * p[first:], p[first:])
        return np.log(p)

    def next_probs(self, context: np.ndarray) -> np.ndarray:
        """Returns the distribution of the token after tokens [length], float64 [vocab_size]."""
        bits = _bits(self.vocab_size)
        last = np.uint64((1 << bits) - 1)
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for n, order in enumerate(self.orders, start=1):
            if len(context) < n - 1:
                break
            own = _packed(np.asarray(context[len(context) - n + 1 :]), n - 1, bits)[0] if n > 1 else np.uint64(0)
            place = int(np.searchsorted(order.contexts, own))
            if place == len(order.contexts) or order.contexts[place] != own:
                break  # longer contexts were not seen either
            start, end, total = order.starts[place], order.starts[place + 1], order.totals[place]
            p *= order.discount * (end - start) / total
            p[order.grams[start:end] & last] += np.maximum(order.counts[start:end] - order.discount, 0) / total
        return p

    def sample(
        self,
        prompt: np.ndarray,
        new_tokens: int,
        *,
        rng: np.random.Generator,
        temperature: float = 1.0,
        stop_token: int | None = None,
    ) -> np.ndarray:
        """Samples at most `new_tokens` tokens after a prompt [length], without the stop token."""
        tokens = [int(token) for token in prompt]
        for _ in range(new_tokens):
            p = self.next_probs(np.asarray(tokens[-len(self.orders) :])) ** (1 / temperature)
            token = int(np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right"))
            token = min(token, self.vocab_size - 1)
            if token == stop_token:
                break
            tokens.append(token)
        return np.asarray(tokens[len(prompt) :], np.int32)


def _bits(vocab_size: int) -> int:
    return max(int(vocab_size - 1).bit_length(), 1)


def _packed(tokens: np.ndarray, n: int, bits: int) -> np.ndarray:
    """Packs every n consecutive tokens into one integer, uint64 [length - n + 1]."""
    rows = len(tokens) - n + 1
    packed = np.zeros(rows, np.uint64)
    for i in range(n):
        packed = (packed << np.uint64(bits)) | tokens[i : i + rows].astype(np.uint64)
    return packed


def _counted(grams: np.ndarray, counts: np.ndarray, bits: int) -> _Order:
    contexts, starts = np.unique(grams >> np.uint64(bits), return_index=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once and twice else 0.5  # Ney et al., 1994; 0.5 with too few counts
    return _Order(
        grams, counts, contexts, np.append(starts, len(grams)), np.add.reduceat(counts, starts), float(discount)
    )


def _find(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (index in `known`, True if present) for each wanted value."""
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return place, known[place] == wanted
