"""German to English on short everyday sentences (Tatoeba): Transformer against LSTM, and few against many pairs.

Needs deu-eng.zip, the sentence pairs for Anki (2018), in $ESPALIER_DATA/tatoeba_anki_deu_eng.  Test and validation
share no sentence of either language with the training pairs.

    ESPALIER_DATA=... python -m launch run experiments.tatoeba_translation
    ESPALIER_DATA=... python -m launch run experiments.tatoeba_translation --sweep architecture
    ESPALIER_DATA=... python -m launch run experiments.tatoeba_translation --sweep pairs

Expect BLEU 36.8 on test (n = 1; sacrebleu, cased, greedy) from the first command, in 80 minutes on one CPU core.  The
sweeps use models of a quarter of the size, so that a CPU can train them, and the same number of steps for any number of
pairs.  Expect BLEU 15.5 for the Transformer and 3.3 for the LSTM; 15.3 with 10,000 pairs, 15.4 to 16.5 with more (n = 1
each).  So few steps hardly show a difference.
"""

import os

from research import Checkpoints, Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, Variant, ablation, grid, product

VOCAB_SIZE = 8000


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("ESPALIER_DATA", "data"), "tatoeba_anki_deu_eng")
    return Experiment(
        model=models.Transformer(
            VOCAB_SIZE, context_length=128, width=256, depth=3, num_heads=4, norm="pre", dropout=0.1
        ),
        task=tasks.Translation(label_smoothing=0.1, max_new_tokens=60),
        data=data.ParallelText(
            path=(f"{folder}/deu-eng.zip",),
            columns=(1, 0),  # each line has English, a tab, and German
            validation=1000,
            test=2000,
            max_length=40,
            tokenizer=data.text.BPETokenizer(VOCAB_SIZE, data.SPECIAL),
            packed=64,
        ),
        optimizer=optimizers.AdamW(
            learning_rate=1e-3, b2=0.98, weight_decay=1e-4, schedule=schedules.Cosine(warmup_steps=400)
        ),
        steps=1740,  # 2 epochs
        batch_size=32,  # rows of 6.0 pairs each
        clip_norm=1.0,
        eval_every=435,
        eval_batch_size=250,
        checkpoints=Checkpoints(best="validation/bleu"),
    )


def sweeps() -> dict[str, Sweep]:
    # A quarter of the size, so that a CPU compares in minutes: 1.90M parameters.
    small = {
        "model": models.Transformer(4000, context_length=128, width=128, depth=3, num_heads=4, norm="pre", dropout=0.1),
        "data.tokenizer": data.text.BPETokenizer(4000, data.SPECIAL),
        "steps": 1380,
        "batch_size": 16,
        "eval_every": None,
    }
    # 1.90M parameters.  It reads a pair a row, as many a step.
    lstm = {
        "model": models.Seq2SeqRNN(4000, width=184, tied_head=True, dropout=0.2),
        "data.packed": None,
        "batch_size": 88,
    }
    return {
        "architecture": ablation(baseline=small, variants={"LSTM with attention": lstm}, name="Transformer"),
        "pairs": product(Sweep((Variant("", small),)), grid("data.train_examples", 10_000, 30_000, 100_000, None)),
    }
