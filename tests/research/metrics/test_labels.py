import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from research.metrics.labels import mean_over_labels


def test_means_are_over_the_labels_with_both_classes():
    generator = np.random.default_rng(0)
    logit, label = generator.normal(size=(60, 3)), generator.integers(-1, 2, (60, 3))
    label[:, 2] = np.abs(label[:, 2]) * 0  # one class
    found = mean_over_labels(logit, label, ("a", "b", "c"))
    own = [(label[:, i] >= 0) for i in (0, 1)]
    auc = [roc_auc_score(label[k, i], logit[k, i]) for i, k in enumerate(own)]
    precision = [average_precision_score(label[k, i], logit[k, i]) for i, k in enumerate(own)]
    assert found["roc_auc"] == pytest.approx(np.mean(auc)) and found["labels_scored"] == 2
    assert found["average_precision"] == pytest.approx(np.mean(precision))
    assert found["roc_auc/b"] == pytest.approx(auc[1]) and "roc_auc/c" not in found
    there = label >= 0
    chance = 1 / (1 + np.exp(-logit))
    losses = -np.log(np.where(label == 1, chance, 1 - chance))[there]
    assert found["loss"] == pytest.approx(losses.mean())
    assert found["accuracy"] == pytest.approx(((logit > 0) == (label == 1))[there].mean())


def test_without_a_label_of_both_classes_there_is_no_score():
    found = mean_over_labels(np.zeros((3, 1)), np.ones((3, 1), int))
    assert np.isnan(found["roc_auc"]) and found["labels_scored"] == 0
