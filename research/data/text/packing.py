"""Short texts packed into rows of one length: little padding, and no attention from one to another.

`pack` is for texts that are predicted, `pack_pairs` for texts in two languages.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np


def pack(documents: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """`tokens`, `targets` and `segments`, each [rows, length], of token arrays [tokens].

    A document of n tokens is n - 1 pairs of a token and the one that follows it.  One with more pairs than a row has
    places goes on in another row, so that every token but a document's first is predicted once.

    `segments` numbers the documents of a row from 1, and is 0 on padding.  The longest pieces come first, each into the
    row with the least room that takes it; documents of one token hold nothing to predict and are left out.
    """
    pieces = [
        document[start : start + length + 1] for document in documents for start in range(0, len(document) - 1, length)
    ]
    rows: list[list[np.ndarray]] = []
    with_room: dict[int, list[int]] = collections.defaultdict(list)
    for piece in sorted(pieces, key=len, reverse=True):
        pairs = len(piece) - 1
        room = next((room for room in range(pairs, length + 1) if with_room[room]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, length
        else:
            row = with_room[room].pop()
        rows[row].append(piece)
        with_room[room - pairs].append(row)
    dtype = documents[0].dtype if documents else np.dtype(np.int32)
    packed = {name: np.zeros((len(rows), length), dtype) for name in ("tokens", "targets")}
    packed["segments"] = np.zeros((len(rows), length), np.int32)
    for row, own in enumerate(rows):
        end = 0
        for number, piece in enumerate(own, 1):
            place = slice(end, end := end + len(piece) - 1)
            packed["tokens"][row, place], packed["targets"][row, place] = piece[:-1], piece[1:]
            packed["segments"][row, place] = number
    return packed


def pack_pairs(sides: Mapping[str, Sequence[np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """Each side and its `_segments`, each [rows, length], of the sides' token arrays; examples are whole in every side.

    `_segments` numbers the examples of a row from 1, alike on all sides, and is 0 on padding.  Of `TOGETHER` examples
    at a time the longest come first, each into the row with the least room that takes it.
    """
    sizes = np.array([[len(text) for text in texts] for texts in sides.values()]).T
    rows: list[list[int]] = []
    for start in range(0, len(sizes), TOGETHER):
        first, own = len(rows), sizes[start : start + TOGETHER]
        room = np.empty((len(own), len(sides)), int)  # of rows that these have begun
        for i in np.argsort(-own.sum(axis=1), kind="stable"):
            begun = room[: len(rows) - first]
            fits = (begun >= own[i]).all(axis=1)
            if fits.any():
                row = int(np.where(fits, begun.sum(axis=1), begun.size * length).argmin())
                room[row] -= own[i]
                rows[first + row].append(start + i)
            else:
                room[len(rows) - first] = length - own[i]
                rows.append([start + i])
    packed = {}
    for name, texts in sides.items():
        tokens, segments = (np.zeros((len(rows), length), np.int32) for _ in range(2))
        for row, examples in enumerate(rows):
            own = np.concatenate([texts[i] for i in examples])
            tokens[row, : len(own)] = own
            segments[row, : len(own)] = np.repeat(np.arange(len(examples)) + 1, [len(texts[i]) for i in examples])
        packed |= {name: tokens, f"{name}_segments": segments}
    return packed


TOGETHER = 10_000
"""Examples that are packed at once: more of them take longer, and leave hardly less padding."""
