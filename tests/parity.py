"""Fixtures of independent reference implementations: arrays by name, and the configuration that produced them."""

from __future__ import annotations

import json
import pathlib

import numpy as np
from safetensors import safe_open

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Reads the arrays of `tests/fixtures/<name>.safetensors` and its metadata, with JSON values parsed."""
    with safe_open(FIXTURES / f"{name}.safetensors", framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        metadata = {key: _parsed(value) for key, value in (file.metadata() or {}).items()}
    return arrays, metadata


def _parsed(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix`, with the prefix removed."""
    return {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}
