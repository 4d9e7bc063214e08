"""Compares our graph networks with fixtures of PyTorch Geometric: same weights, same graphs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import parity

from research.pretrained import mapping
from research.pretrained.gnn import FAMILIES

OF = {family.model_type: family for family in FAMILIES}


def packed(arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The model's arguments, of one row."""
    inputs = {"nodes": arrays["input/x"], "edges": arrays["input/edge_index"].T}
    if "input/edge_attr" in arrays:
        inputs["edge_features"] = arrays["input/edge_attr"]
    if "input/batch" in arrays:
        inputs |= {"graph": arrays["input/batch"], "mask": np.ones(arrays["input/batch"].max() + 1, bool)}
    return {name: jnp.asarray(x) for name, x in inputs.items()}


def load(name: str):
    """(arrays, model, key map, variables, arguments) of a fixture."""
    arrays, metadata = parity.load(name)
    family = OF[name]
    model = family.from_config(metadata["config"])
    model.check()
    (key_map,) = family.key_maps(model)
    variables = mapping.to_ours(key_map, parity.under(arrays, "param/"), family.shapes(model))
    return arrays, model, key_map, variables, packed(arrays)


def check_gradients(arrays, key_map, variables, value_of) -> None:
    """The loss and the norm of its gradient by each tensor are those of the reference."""
    rest = {name: x for name, x in variables.items() if name != "params"}
    value, gradients = jax.jit(jax.value_and_grad(lambda params: value_of({"params": params, **rest})))(
        variables["params"]
    )
    np.testing.assert_allclose(value, arrays["loss_for_grad"], rtol=1e-5)
    ours = mapping.to_theirs(key_map, {"params": gradients, **rest})
    norms = {name: float(x) for name, x in parity.under(arrays, "gradnorm/").items()}
    floor = 1e-3 * max(norms.values())
    assert norms.keys() <= ours.keys()
    for name, norm in norms.items():
        assert abs(np.linalg.norm(ours[name]) - norm) < 1e-4 * max(norm, floor), name
