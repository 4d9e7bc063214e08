"""Compares names and shapes of published checkpoints (fixtures/keys) with a model's key map."""

import json

import numpy as np
import parity

from research.pretrained import mapping


def check(name, family, model, channels=None, *, publisher=None, unused=None):
    """Converts arrays without memory, in the same way as weights; images have `channels`, or the family's.

    `publisher` is needed if there are several; names that end in `unused` have no place in ours.
    """
    lines = (parity.FIXTURES / "keys" / f"{name}.txt").read_text().splitlines()
    published = {key: json.loads(shape) for key, shape in (line.split("\t") for line in lines if line[0] != "#")}
    if unused is not None:
        published = {key: shape for key, shape in published.items() if not key.endswith(unused)}
    leaves = mapping.flatten(family.shapes(model, channels))
    (key_map,) = [key_map for key_map in family.key_maps(model) if publisher in (None, key_map.publisher)]
    steps = mapping.plan(key_map, leaves)
    assert sorted(key for step in steps for key in step.theirs) == sorted(published)
    for step in steps:
        ours = step.transform.to_ours(tuple(np.broadcast_to(np.float32(0), published[key]) for key in step.theirs))
        for path, x in zip(step.ours, ours, strict=True):
            assert x.shape == tuple(leaves[path].shape[step.layer is not None :])
