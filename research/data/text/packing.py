"""Packs short texts into rows of one length, with little padding and without attention between texts.

`pack` is for language modeling, `pack_pairs` for texts in two languages.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np


def pack(documents: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Packs token arrays [tokens] into `tokens`, `targets` and `segments`, each [rows, length].

    A document of n tokens has n - 1 pairs of a token and its successor.  A document with more pairs than fit in a row
    continues in another one, so every token except a document's first is predicted once.

    `segments` numbers the documents of a row from 1 and is 0 on padding.  Pieces are placed longest first, each into
    the fullest row that has room for it.  Documents of one token have nothing to predict and are left out.

    >>> rows = pack([np.array([1, 2, 3]), np.array([4, 5])], length=4)
    >>> rows["tokens"].tolist(), rows["targets"].tolist(), rows["segments"].tolist()
    ([[1, 2, 4, 0]], [[2, 3, 5, 0]], [[1, 1, 2, 0]])
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
    """Packs aligned token arrays into rows: each side and its `_segments`, [rows, length]; no example is split.

    `_segments` numbers the examples of a row from 1, identically on all sides, and is 0 on padding.  Examples are
    packed `TOGETHER` at a time, longest first, each into the fullest row that has room for it.
    """
    sizes = np.array([[len(text) for text in texts] for texts in sides.values()]).T
    rows: list[list[int]] = []
    for start in range(0, len(sizes), TOGETHER):
        first, own = len(rows), sizes[start : start + TOGETHER]
        room = np.empty((len(own), len(sides)), int)  # for rows started by these examples
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
"""The number of examples packed at once; larger values take longer and hardly reduce padding."""
