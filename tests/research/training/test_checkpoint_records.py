"""The metrics of a trial at an earlier step, from its checkpoints or its log."""

import numpy as np
import pytest

from research.training.checkpoint_records import metrics_at
from research.training.checkpoints import Checkpoints, Store
from research.training.records import MetricsLog


@pytest.fixture
def folder(tmp_path):
    """A trial with evaluations at steps 2, 4 and 6, of which the checkpoints at 4 and 6 are kept."""
    log = MetricsLog(tmp_path)
    store = Store(tmp_path / "checkpoints", Checkpoints(keep=2), trial="t")
    for step in (2, 4, 6):
        log.write(step, "train", {"loss": 9.0})
        log.write(step, "validation", {"loss": step / 8, "accuracy": float("nan")})
        log.flush()
        metrics = {"validation/loss": step / 8, "validation/accuracy": None}
        store.save(step, {"x": np.arange(3.0)}, metrics, {}, log.written)
    store.close()
    return tmp_path


def noted(folder, step):
    notes = []
    return metrics_at(folder, "t", step, notes.append), notes


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("step", [2, 6])
def test_metrics_of_a_checkpoint_that_is_kept_and_of_one_that_is_gone(folder, step):
    assert noted(folder, step) == ({"validation/loss": step / 8, "validation/accuracy": None}, [])
    assert noted(folder, 3) == (None, [])


@pytest.mark.parametrize("edit", [("0.25", "0.01"), ('"loss": 0.25', '"1oss": 0.25')])
def test_a_changed_log_is_told_and_not_believed(folder, edit):
    change(folder / "metrics.jsonl", *edit)
    assert noted(folder, 2) == (None, ["t: metrics.jsonl is damaged: the metrics at step 2 are not known"])
    assert noted(folder, 6)[0]["validation/loss"] == 0.75  # its checkpoint knows


def test_a_changed_score_is_told_and_looked_up_in_the_log(folder):
    change(folder / "checkpoints" / "6" / "scores" / "metadata", "0.75", "0.01")
    metrics, notes = noted(folder, 6)
    assert metrics == {"validation/loss": 0.75, "validation/accuracy": None}
    assert notes == ["t: checkpoint 6: its scores record is damaged; it is used without"]


def test_the_checkpoint_of_another_trial_is_not_asked(folder):
    notes = []
    change(folder / "metrics.jsonl", "0.75", "0.77")
    assert metrics_at(folder, "another", 6, notes.append) is None and len(notes) == 1


def test_a_trial_without_files_has_no_metrics(tmp_path):
    assert noted(tmp_path, 2) == (None, [])
