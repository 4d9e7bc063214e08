"""Income above 50,000 dollars from a census form (UCI Adult, CSV): a perceptron against a linear model.

Needs adult.data.gz and adult.test.gz of the UCI repository in $ESPALIER_DATA/adult; the test file is the test split.

    ESPALIER_DATA=... python -m launch run experiments.adult_mlp --sweep model --seeds 5      4 minutes on 2 CPU cores

Expect 0.8554 ± 0.0009 (n = 5) test accuracy with dropout, and 0.8502 ± 0.0011 for a linear model.  NBTree reaches
0.8590 (Kohavi, 1996).
"""

import os

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, ablation

COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_years", "marital_status", "occupation", "relationship",
    "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income",
)  # fmt: skip


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("ESPALIER_DATA", "data"), "adult")
    return Experiment(
        model=models.MLP(widths=(128, 64), classes=2, dropout=0.3),
        task=tasks.Classification(classes=2, input="features"),
        data=data.Table(
            path=f"{folder}/adult.data.gz",
            test_path=f"{folder}/adult.test.gz",
            target="income",
            column_names=COLUMNS,
            ignore=("fnlwgt",),  # the sampling weight of the census does not describe the person
            missing=("?",),
            comment="|",
            target_suffix=".",
        ),
        preprocess=(data.Standardize("features"),),
        optimizer=optimizers.AdamW(learning_rate=1e-3, schedule=schedules.Cosine(), weight_decay=0.1),
        steps=2000,
        batch_size=256,
        eval_every=250,
        eval_batch_size=2048,
    )


def sweeps() -> dict[str, Sweep]:
    return {
        "model": ablation(
            baseline={"model.widths": (), "model.dropout": 0.0},
            variants={
                "no dropout": {"model.widths": (128, 64)},
                "dropout": {"model.widths": (128, 64), "model.dropout": 0.3},
                "batch norm": {"model.widths": (128, 64), "model.dropout": 0.3, "model.norm": "batch"},
                "residual": {"model.widths": (128, 128, 128), "model.dropout": 0.3, "model.residual": True},
            },
            name="linear",
        ),
    }
