"""The detection experiments: every variant fits together, and each detector takes the same steps in any layout."""

import dataclasses

import jax
import numpy as np
import pytest
import toys
from command_line import launch, quickly, read

from experiments import bccd_detr, bccd_yolox, digits_detection
from research import data, models, tasks
from research.data.feeds import make_feeds
from research.evaluation import read_exhibits
from research.inference import load
from research.optimizers import SGD
from research.parallel.spec import Parallel
from research.sweep import trials


def test_every_variant_passes_its_checks():
    base = digits_detection.experiment()
    for sweep in (None, *digits_detection.sweeps().values()):
        for trial in trials(base, sweep):
            trial.experiment.check()
    for module in (bccd_yolox, bccd_detr):
        module.experiment().check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["YOLOX", "DETR"])
def test_a_detector_takes_the_same_steps_on_eight_devices_and_in_micro_batches(name):
    """Without norms over the batch; the assignments are made in the step, and their numbers are its weights."""
    digits = data.ScatteredDigits(size=(32, 32), examples=40, test=8, sides=(10, 16), most=3, validation=8)
    if name == "DETR":
        model = models.DETR(
            **{"classes": 10, "num_queries": 5, "width": 16, "depth": 1, "num_heads": 2, "mlp_width": 16},
            **{"depths": (1,), "widths": (8,), "strides": (2,), "stem_width": 8, "block": "basic"},
            **{"norm": "none", "dropout": 0.0},
        )
        task = tasks.SetDetection(classes=10, most=5)
    else:
        model = models.YOLOX(classes=10, depth=0.1, width=0.0625, levels=(3,), momentum=1.0)
        task = tasks.DenseDetection(classes=10)
    base = dataclasses.replace(
        toys.experiment(model=model, task=task, data=digits, optimizer=SGD(learning_rate=1e-3), batch_size=16),
        preprocess=(data.Scale("image", 1 / 255),),
    )
    feeds = make_feeds(base.data.load(), base.data)
    reference = toys.first_steps(base, feeds, 3).losses.reshape(3)
    assert np.isfinite(reference).all()
    changes = [{"parallel": Parallel(mesh=(("data", 8),))}]
    changes += (
        [{"accumulation": 4}, {"parallel": Parallel(strategy="pmap", mesh=(("data", 8),))}] if name == "DETR" else []
    )
    for change in changes:
        other = toys.first_steps(dataclasses.replace(base, **change), feeds, 3).losses.reshape(3)
        np.testing.assert_allclose(other, reference, rtol=2e-4, err_msg=str(change))
    stacked = toys.first_steps(base, feeds, 3, trials=2).losses
    np.testing.assert_allclose(stacked[:, 0], reference, rtol=2e-4)
    assert jax.device_count() == 8 and abs(stacked[:, 1] - reference).max() > 1e-4


@pytest.mark.slow
def test_a_small_run_through_the_launcher(tmp_path):
    """Average precision in the results, exhibits beside them; the saved run finds boxes in an array."""
    sizes = {"model.width": 0.0625, "model.depth": 0.1, "model.levels": "(3,)", "steps": 4}
    sizes |= {"data.examples": 40, "data.test": 6, "data.validation": 8}
    sizes |= {"batch_size": 8, "eval_batch_size": 8, "optimizer.schedule": "Constant", "eval_every": "none"}
    arguments = [part for path, value in sizes.items() for part in ("--set", f"{path}={value}")]
    with quickly(tmp_path / "compiled"):
        done = launch("run", "digits_detection", *arguments, "--out", tmp_path / "run")
    assert done.status == 0, done.err
    (result,) = (read(path) for path in (tmp_path / "run").glob("trials/*/result.json"))
    assert result["status"] == "finished" and 0 <= result["metrics"]["test/ap50"] <= 1
    shown = {saved.name for saved in read_exhibits(next((tmp_path / "run").glob("trials/*")))}
    assert "detections" in shown
    found = load(tmp_path / "run").predict(np.zeros((2, 64, 64, 1), np.uint8))
    assert found["boxes"].shape == (2, 20, 4)
