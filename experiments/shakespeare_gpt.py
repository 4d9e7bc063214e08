"""A character-level GPT on tiny Shakespeare: nanoGPT's CPU setting, with an ablation of its parts.

Needs input.txt of char-rnn (1,115,394 characters) in $ESPALIER_DATA/tiny_shakespeare.  As in nanoGPT, the first 90% are
the training split and the last 10% the validation split; there is no test split.  The model has 804,096 parameters and
a context of 64 characters.  The loss is in nats per character over the whole validation text: consecutive windows of 64
predict every character except the first exactly once.  nanoGPT estimates the loss on random windows of 64 instead; in
both cases a character has 32 characters before it on average.

    ESPALIER_DATA=... python -m launch run experiments.shakespeare_gpt --seeds 3
    ESPALIER_DATA=... python -m launch run experiments.shakespeare_gpt --sweep parts --seeds 3

Expect 1.784 ± 0.004 (n = 3).  nanoGPT states 1.88, the best of its estimates, with a learning rate of 1e-3, which gives
1.913 ± 0.008 (n = 3) here; 4e-3 is the best of four rates on the validation text.  Numbers: experiments/RESULTS.md.
`gpu` is nanoGPT's GPU setting (10.7 million parameters, 256 characters), for an accelerator.
"""

import os

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, ablation, grid

CHARACTERS = 65


def experiment() -> Experiment:
    folder = os.environ.get("ESPALIER_DATA", "data")
    return Experiment(
        model=models.GPT(vocab_size=CHARACTERS, context_length=64, width=128, depth=4, num_heads=4, use_bias=False),
        task=tasks.LanguageModeling(vocab_size=CHARACTERS),
        data=data.TextFiles(path=f"{folder}/tiny_shakespeare/input.txt", length=64),
        # Weight decay applies to embeddings and matrices, not to scales of norms; there are no biases.
        optimizer=optimizers.AdamW(
            learning_rate=4e-3, schedule=schedules.Cosine(warmup_steps=100, final=0.1), b2=0.99, weight_decay=0.1
        ),
        clip_norm=1.0,
        steps=2000,
        batch_size=12,
        eval_every=250,
    )


def sweeps() -> dict[str, Sweep]:
    def lstm(width: int, depth: int) -> dict:
        return {"model": models.RNNLanguageModel(vocab_size=CHARACTERS, width=width, depth=depth, tied_head=True)}

    shapes = {
        "constant": schedules.Constant(warmup_steps=100),
        "linear": schedules.Linear(warmup_steps=100, final=0.1),
        "warmup, stable, decay": schedules.WarmupStableDecay(warmup_steps=100, decay_steps=500, final=0.1),
        "inverse square root": schedules.InverseSqrt(warmup_steps=100),
    }
    depth = {f"{n} layers": {"model.depth": n} for n in (1, 2)}
    heads = {f"{n} heads": {"model.num_heads": n} for n in (1, 8)}
    positions = {f"{name} positions": {"model.positions": name} for name in ("rotary", "sinusoidal", "none")}
    norm = {
        "norm after each sum": {"model.norm": "post"},
        "norm after each sum, rate 1e-3": {"model.norm": "post", "optimizer.learning_rate": 1e-3},
    }
    schedule = {name: {"optimizer.schedule": s} for name, s in shapes.items()}
    # 801,593 and 806,591 parameters.
    lstms = {"LSTM, 1 x 312": lstm(312, 1), "LSTM, 2 x 222": lstm(222, 2)}
    return {
        "depth": ablation({}, depth, name="4 layers"),
        "heads": ablation({}, heads, name="4 heads"),
        "positions": ablation({}, positions, name="learned"),
        "norm": ablation({}, norm, name="pre"),
        "schedule": ablation({}, schedule, name="cosine"),
        "lstm": ablation({}, lstms, name="GPT"),
        "parts": ablation({}, depth | heads | positions | norm | schedule | lstms, name="base"),
        "tuning": grid("optimizer.learning_rate", 1e-3, 2e-3, 4e-3, 8e-3),
        "gpu": ablation(
            {
                "model.depth": 6,
                "model.num_heads": 6,
                "model.width": 384,
                "model.context_length": 256,
                "model.dropout": 0.2,
                "data.length": 256,
                "batch_size": 64,
                "steps": 5000,
                "optimizer.learning_rate": 1e-3,
                "checkpoints.best": "validation/loss",
            },
            {"bfloat16": {"model.dtype": "bfloat16"}},
            name="float32",
        ),
    }
