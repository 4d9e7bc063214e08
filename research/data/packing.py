"""Short documents packed into rows of one length: little padding, and no attention from one to another.

A document of n tokens is n - 1 pairs of a token and the one that follows it.  One with more pairs than a row has places
goes on in another row, so that every token but a document's first is predicted once.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np


def pack(documents: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """`tokens`, `targets` and `segments`, each [rows, length], of token arrays [tokens].

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
