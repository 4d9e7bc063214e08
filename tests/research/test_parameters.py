"""The table of a model's parameters."""

import dataclasses
import re

import jax
import numpy as np
import toys
from command_line import launch, write_module

from research import data
from research.models import RNNClassifier
from research.tasks import Classification


def test_a_summary_has_every_parameter_with_its_shape():
    mine = toys.experiment()
    table = mine.summary()
    batch = {"x": np.zeros((2, 4, 3), np.float32)}
    params = mine.model.init(jax.random.key(0), **batch)["params"]
    assert table.total == sum(x.size for x in jax.tree.leaves(params)) == 12 * 16 + 16 + 16 * 8 + 8 + 8 * 3 + 3
    assert sorted(table.shapes.values()) == sorted(x.shape for x in jax.tree.leaves(params))
    assert f"{table.total:,}" in str(table).splitlines()[-1] and str(table.total) in table._repr_html_()


def test_show_prints_the_same_table(tmp_path):
    module = write_module(tmp_path / "mine.py", "import toys\n\nexperiment = toys.experiment\n")
    assert str(toys.experiment().summary()) in launch("show", module).out


def test_a_summary_knows_what_the_data_determine(tmp_path):
    """A vocabulary is fitted, and a mask reaches the model."""
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"{'ab cd'[: 1 + i % 5]},{i % 2}\n" for i in range(40)))
    mine = dataclasses.replace(
        toys.experiment(),
        model=RNNClassifier(classes=2, vocab_size=256, width=8, pool="mean"),
        task=Classification(classes=2, input="tokens", length="length"),
        data=data.LabeledText(path=str(path), text="text", label="label", length=8, test=0.2),
        batch_size=8,
    )
    table = mine.summary()
    assert (256, 8) in table.shapes.values() and re.search(r"256 x 8 +2,048", str(table))
