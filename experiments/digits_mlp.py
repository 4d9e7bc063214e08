"""Depth and activation on handwritten digits: without a nonlinearity, depth does not help.

The 1,797 digits of 8x8 pixels in scikit-learn (UCI Optical Recognition of Handwritten Digits); a stratified fifth is
the test split; training adds noise to the pixels.

    python -m launch run experiments.digits_mlp --sweep activation --seeds 3        1 minute on 2 CPU cores
    python -m launch run experiments.digits_mlp --sweep claim --seeds 5             3 minutes
    python -m launch run experiments.digits_mlp --sweep linear_depth --seeds 3      7 minutes

Expect the following test accuracies over ten splits.  `claim`: 0.984 ± 0.006 (n = 50) with relu, 0.0131 [0.0111,
0.0150] less with identity.  `linear_depth`: 0.971 ± 0.009 (n = 30) at every depth.  Numbers and commits:
experiments/RESULTS.md.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, ablation, grid, product, repeats


def experiment() -> Experiment:
    return Experiment(
        model=models.MLP(widths=(128, 128), classes=10),
        task=tasks.Classification(classes=10),
        data=data.Sklearn(name="digits", test=0.2),
        augment=(data.augment.Noise(field="image", std=3.0),),  # pixels are 0 to 16
        preprocess=(data.Scale("image", 1 / 16),),
        optimizer=optimizers.AdamW(learning_rate=3e-3, schedule=schedules.Cosine(), weight_decay=0.1),
        steps=1200,
        batch_size=128,
        eval_every=200,
    )


def sweeps() -> dict[str, Sweep]:
    activations = {name: {"model.activation": name} for name in ("gelu", "tanh", "sigmoid", "identity")}
    deeper = {f"{depth} layers": {"model.widths": (128,) * depth} for depth in (2, 3, 4)}
    one_layer = {"model.widths": (128,)}
    linear = {"model.activation": "identity", "steps": 2400}
    splits = repeats(grid("data.split_seed", *range(10)))
    return {
        "activation": ablation(baseline={}, variants=activations, name="relu"),
        "claim": product(ablation(baseline={}, variants={"identity": activations["identity"]}, name="relu"), splits),
        "depth": product(ablation(baseline=one_layer, variants=deeper, name="1 layer"), splits),
        "linear_depth": product(ablation(baseline=one_layer | linear, variants=deeper, name="1 layer"), splits),
        "lr_wd": product(
            grid("optimizer.learning_rate", 1e-3, 3e-3, 1e-2, 3e-2),
            grid("optimizer.weight_decay", 0.01, 0.03, 0.1, 0.3),
        ),
    }
