"""Scores of binary labels, averaged over labels as MoleculeNet (Wu et al., 2018) and OGB (Hu et al., 2020) do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_over_labels(logit: np.ndarray, label: np.ndarray, names: Sequence[str] = ()) -> dict[str, float]:
    """Returns "loss", "accuracy", "roc_auc", "average_precision", "labels_scored", and "roc_auc/NAME" for each name.

    ROC AUC and average precision, by scikit-learn, are means over the labels of which both classes are there;
    "labels_scored" is the number of these, and they are NaN without one.

    Args:
      logit: [examples, labels].
      label: int [examples, labels]: 0, 1, or -1 where it is missing.
      names: of the labels; () returns no score of a single one.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    logit, there = logit.astype(np.float64), label >= 0
    loss = np.logaddexp(0, np.where(label == 1, -logit, logit))[there]
    scored = [i for i in range(label.shape[1]) if {0, 1} <= set(np.unique(label[:, i]).tolist())]
    auc, precision = {}, {}
    for i in scored:
        own = there[:, i]
        auc[i] = float(roc_auc_score(label[own, i], logit[own, i]))
        precision[i] = float(average_precision_score(label[own, i], logit[own, i]))
    return {
        "loss": float(loss.mean()),
        "accuracy": float(((logit > 0) == (label == 1))[there].mean()),
        "roc_auc": float(np.mean(list(auc.values()))) if scored else float("nan"),
        "average_precision": float(np.mean(list(precision.values()))) if scored else float("nan"),
        "labels_scored": float(len(scored)),
        **{f"roc_auc/{names[i]}": x for i, x in auc.items() if names},
    }
