"""Long memory: models name a symbol that was shown before 4 to 1024 distractors, at equal parameters.

A sequence has one of 8 symbols, then `distance` distractors, then the query; chance is 1/8
(research/data/sources/recall.py).  Models have one layer of an Elman RNN, an LSTM, a GRU or a Transformer, with 50,683
to 51,200 parameters (a test checks that they are within 2% of each other).  The loss covers only the query.  All models
take the same steps on the same examples.  The LSTM's forget gates start nearly open (bias 3); without that, it does not
learn distance 32.  In `far`, Muon trains the Transformer.

    python -m launch run experiments.long_memory --sweep near --seeds 3        16 minutes on 2 busy CPU cores
    python -m launch run experiments.long_memory --sweep far
    python -m experiments.analysis.long_memory_figure runs/long_memory/near runs/long_memory/far --out docs

Expect test accuracies of 1.000 (n = 3) up to distance 4 for the RNN, which is at chance from 8 on.  The LSTM and the
GRU reach 1.000 up to 32; at 64 they reach from 0.1 to 1, depending on the seed.  The Transformer reaches it at all
distances of `near`.  Numbers: experiments/RESULTS.md.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, Variant, grid, product

TOKENS = data.Recall().vocab_size

MODELS = {
    "RNN": models.RNNLanguageModel(TOKENS, cell="elman", width=151),
    "LSTM": models.RNNLanguageModel(TOKENS, cell="lstm", width=77, forget_bias=3.0),
    "GRU": models.RNNLanguageModel(TOKENS, cell="gru", width=89),
    # Rotary positions have no table, so the number of parameters does not depend on the distance.
    "Transformer": models.GPT(TOKENS, context_length=1026, width=64, depth=1, num_heads=2, positions="rotary"),
}
"""Widths that make the numbers of parameters equal."""


def experiment() -> Experiment:
    return Experiment(
        model=MODELS["LSTM"],
        task=tasks.Classification(classes=TOKENS, input="tokens", token=-1),
        data=data.Recall(distance=32),
        optimizer=optimizers.AdamW(learning_rate=3e-3, schedule=schedules.Cosine(warmup_steps=50)),
        clip_norm=1.0,
        steps=400,
        batch_size=32,
        eval_every=100,
    )


def sweeps() -> dict[str, Sweep]:
    cells = {name: {"model": model} for name, model in MODELS.items()}
    # With AdamW, attention over a thousand positions sharpens slowly.
    muon = {"optimizer": optimizers.Muon(learning_rate=1e-2, schedule=schedules.Cosine(warmup_steps=50))}
    far = cells | {"Transformer": cells["Transformer"] | muon}
    # Long sequences are slow, so batches and splits are smaller; none of these examples was used to choose a setting.
    short = {
        "batch_size": 8,
        "eval_batch_size": 50,
        "data.validation": 200,
        "data.test_examples": 500,
        "data.split_seed": 1,
    }
    return {
        "near": product(_named(cells), grid("data.distance", 4, 8, 16, 32, 64)),
        "far": product(_named(far), grid("data.distance", 128, 256, 512, 1024), _named({"": short})),
    }


def _named(variants: dict[str, dict]) -> Sweep:
    return Sweep(tuple(Variant(name, overrides) for name, overrides in variants.items()))
