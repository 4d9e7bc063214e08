"""Disease progression from ten measurements: with 442 patients, a hidden layer does not help, and wide ones hurt.

The diabetes data of scikit-learn (Efron et al., 2004), in raw units; a fifth is the test split, and a fifth of the rest
the validation split.

    python -m launch run experiments.diabetes_mlp --sweep capacity --seeds 3       3 minutes on 2 CPU cores

Expect the following R² on the test split, over ten splits: 0.51 ± 0.07 (n = 30) for the linear model, the same for one
layer of 64, and 0.100 [0.079, 0.121] less for two layers of 512.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, ablation, grid, product, repeats


def experiment() -> Experiment:
    return Experiment(
        model=models.MLP(widths=(64,), classes=1, dropout=0.2),
        task=tasks.Regression(),
        data=data.Sklearn(name="diabetes", test=0.2, validation=0.2),
        preprocess=(data.Standardize("features"),),
        optimizer=optimizers.AdamW(learning_rate=3e-3, schedule=schedules.Cosine(), weight_decay=1.0),
        steps=300,
        batch_size=64,
        eval_every=50,
    )


def sweeps() -> dict[str, Sweep]:
    splits = repeats(grid("data.split_seed", *range(10)))
    sizes = {"64": (64,), "64-64": (64, 64), "512-512": (512, 512)}
    linear = {  # a linear model needs a higher learning rate and less regularisation
        "model.widths": (),
        "model.dropout": 0.0,
        "optimizer.learning_rate": 0.1,
        "optimizer.weight_decay": 0.01,
    }
    own = experiment()
    restraint = {
        "model.dropout": own.model.dropout,
        "optimizer.learning_rate": own.optimizer.learning_rate,
        "optimizer.weight_decay": own.optimizer.weight_decay,
    }
    hidden = {name: {**restraint, "model.widths": widths} for name, widths in sizes.items()}
    objectives = {name: {"task.objective": name} for name in ("mae", "huber")}
    return {
        "capacity": product(ablation(baseline=linear, variants=hidden, name="linear"), splits),
        "objective": product(ablation(baseline={}, variants=objectives, name="mse"), splits),
    }
