"""The parameters of a model as a table: paths, shapes and numbers."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research import paths
from research.console import printable
from research.data.transforms import Transform, preprocess
from research.models.model import named
from research.tasks.randomness import example_keys
from research.tasks.task import Task

_HEADS = ("parameter", "shape", "number")


@dataclasses.dataclass(frozen=True)
class ParameterTable:
    """The shape of every parameter by its path, such as "encoder/dense/kernel".

    >>> print(ParameterTable({"dense/kernel": (4, 3), "dense/bias": (3,)}))
     parameter      shape   number
    ───────────────────────────────
     dense/kernel   4 x 3       12
     dense/bias     3            3
    <BLANKLINE>
     all                        15
    """

    shapes: Mapping[str, tuple[int, ...]]

    @staticmethod
    def of(params: Any) -> ParameterTable:
        """Makes the table of a tree of arrays, or of their shapes."""
        return ParameterTable({path: tuple(x.shape) for path, x in paths.flatten(params).items()})

    @property
    def total(self) -> int:
        """The number of all parameters."""
        return sum(map(math.prod, self.shapes.values()))

    def rows(self) -> list[tuple[str, str, str]]:
        """The texts of each row but the last, which is the sum."""
        return [
            (printable(path), " x ".join(map(str, shape)), f"{math.prod(shape):,}")
            for path, shape in self.shapes.items()
        ]

    def __str__(self) -> str:
        import rich.box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*_HEADS, box=rich.box.SIMPLE_HEAD, show_edge=False)
        table.columns[2].justify = "right"
        for row in self.rows():
            table.add_row(*map(Text, row))
        table.add_section()
        table.add_row("all", "", f"{self.total:,}")
        file = io.StringIO()
        Console(file=file, width=120, color_system=None, force_jupyter=False).print(table)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        lines = [*self.rows(), ("all", "", f"{self.total:,}")]
        body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
        return f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in _HEADS)}</tr></thead>{body}</table>"


def abstract_parameters(model: nn.Module, task: Task, transforms: Sequence[Transform], batch: Mapping[str, Any]) -> Any:
    """The shapes of a model's parameters on a batch [example, ...] of the data; nothing is computed."""

    def init(batch: Mapping[str, Any]) -> Any:
        keys = example_keys(jax.random.key(0), jnp.arange(len(batch["weight"])))
        inputs = task.inputs(preprocess(transforms, {**batch, "key": keys}))
        return model.init(jax.random.key(0), **named(model, inputs), train=False).get("params", {})

    return jax.eval_shape(init, dict(batch))
