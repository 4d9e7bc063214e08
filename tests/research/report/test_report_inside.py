"""Figures of the inside of a model, in a report."""

import shutil

import numpy as np
import pytest
from command_line import launch, quickly, write_module

from research.report import inside, report, style, table
from research.report.read import read_runs

MODULE = """
    from research.data.sources.arrays import Arrays
    from research.data.transforms import CenterCrop, Scale
    from research.experiment import Experiment
    from research.models.{file} import {model}
    from research.optimizers import AdamW
    from research.parallel.spec import Parallel
    from research.tasks.classification import Classification

    def experiment():
        return Experiment(
            model={model}({fields}), task=Classification(classes=3), data=Arrays(path={path!r}, validation=12),
            preprocess=({crop}Scale("image", 1 / 255),), optimizer=AdamW(), steps=2, batch_size=8,
            parallel=Parallel(mesh=(("data", 1),)),
        )
"""
CNN = {"file": "simple_cnn", "model": "SimpleCNN", "fields": "channels=(4,), hidden=(), classes=3", "crop": ""}
VIT = {
    "file": "vit",
    "model": "ViT",
    "fields": "image_size=8, patch_size=4, width=8, depth=1, num_heads=2, classes=3",
    "crop": "",
}
CROPPED = VIT | {
    "fields": VIT["fields"].replace("image_size=8", "image_size=4"),
    "crop": 'CenterCrop("image", (4, 4)), ',
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that maps a model's fields to the folder of a run on 60 images of 8 × 8."""
    folder = tmp_path_factory.mktemp("inside")
    generator = np.random.default_rng(0)
    images = {"image": generator.integers(0, 256, (60, 8, 8, 3), np.uint8), "label": np.arange(60) % 3}

    def run(fields):
        own = folder / (fields["file"] + fields["crop"][:4])
        own.mkdir()
        np.savez(own / "images.npz", **images)
        module = write_module(own / "it.py", MODULE.format(**fields, path=str(own / "images.npz")))
        with quickly(folder / "cache"):
            assert launch("run", module, "--out", own / "run").status == 0
        return own / "run"

    return run


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (CNN, ["inside-filters", "inside-features", "inside-saliency"]),
        (VIT, ["inside-filters", "inside-features", "inside-saliency", "inside-attention"]),
        (CROPPED, ["inside-filters", "inside-saliency", "inside-attention"]),
    ],
)
def test_the_figures_of_a_model(trained, fields, names):
    run = trained(fields)
    with style.paper():
        drawn, notes = inside.draw(table.build(read_runs([run])))
    assert [name for name, _, _ in drawn] == names and notes == []
    assert all(caption.startswith("base-s0: ") and caption.endswith(".") for _, caption, _ in drawn)
    if fields is CNN:
        made = report([run], inside=True)
        assert {path.stem for path in made.figures} >= set(names)
        assert "Inside the models" in made.html.read_text()
        shutil.move(run.parent / "images.npz", run.parent / "gone.npz")
        again = report([run], inside=True)
        assert not any(path.stem.startswith("inside") for path in again.figures)
        assert "no figures of the inside of its model: path=" in again.html.read_text()
        assert not list((run / "report").glob("inside*"))
        assert "Inside the models" not in report([run]).html.read_text()
