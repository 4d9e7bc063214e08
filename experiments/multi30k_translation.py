"""German to English on the captions of Multi30k (Elliott et al., 2016): an ablation of attention, heads and depth.

Needs the raw files of task 1 in $ESPALIER_DATA/multi30k: train, val and test_2016_flickr, .de.gz and .en.gz.

    ESPALIER_DATA=... python -m launch run experiments.multi30k_translation
    ESPALIER_DATA=... python -m launch run experiments.multi30k_translation --sweep architecture
    ESPALIER_DATA=... python -m launch run experiments.multi30k_translation --sweep parts
    ESPALIER_DATA=... python -m launch eval runs/multi30k_translation/base --set task.beams=5
    python -m experiments.analysis.decoding runs/multi30k_translation/base
    python -m experiments.analysis.alignment runs/multi30k_translation/base --sentence "Ein Hund läuft über die Straße."

Expect BLEU 38.6 on test 2016 (n = 1; sacrebleu, cased, greedy) from the first command, in 75 minutes on one CPU core.
With `--set steps=1380 --set eval_every=345`, expect BLEU 36.5 (n = 1), and 37.6 with 4 beams and a length penalty of
0.6, which `decoding` found best on validation.

The sweeps use models of a quarter of the size and three epochs each.  On test 2016 (n = 1 each), the Transformer
reaches BLEU 26.1, the LSTM 19.6 with attention and 7.2 without.  In `parts`, one layer each instead of three gives
23.8, and the norm after each sum 23.1; one head, eight heads, and other label smoothing stay within 1 BLEU.

The last command drew docs/alignment.png.
"""

import os

from research import Checkpoints, Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, ablation

VOCAB_SIZE = 8000


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("ESPALIER_DATA", "data"), "multi30k")

    def files(name: str) -> tuple[str, str]:
        return f"{folder}/{name}.de.gz", f"{folder}/{name}.en.gz"

    return Experiment(
        model=models.Transformer(
            VOCAB_SIZE, context_length=128, width=256, depth=3, num_heads=4, norm="pre", dropout=0.1
        ),
        task=tasks.Translation(label_smoothing=0.1, max_new_tokens=60),
        data=data.ParallelText(
            path=files("train"),
            validation_path=files("val"),
            test_path=files("test_2016_flickr"),
            tokenizer=data.text.BPETokenizer(VOCAB_SIZE, data.SPECIAL),
            packed=64,
            buckets=7,  # for validation and test, which are not packed
        ),
        optimizer=optimizers.AdamW(
            learning_rate=1e-3, b2=0.98, weight_decay=1e-4, schedule=schedules.Cosine(warmup_steps=400)
        ),
        steps=2760,  # 12 epochs
        batch_size=32,  # rows of 3.9 pairs each
        clip_norm=1.0,
        eval_every=690,
        eval_batch_size=256,
        checkpoints=Checkpoints(best="validation/bleu"),
    )


def sweeps() -> dict[str, Sweep]:
    # A quarter of the size (1.90M parameters), so that a CPU takes minutes.
    small = {
        "model": models.Transformer(4000, context_length=128, width=128, depth=3, num_heads=4, norm="pre", dropout=0.1),
        "data.tokenizer": data.text.BPETokenizer(4000, data.SPECIAL),
        "data.packed": 72,  # the longest sentence is 65 of these tokens
        "steps": 1380,  # 3 epochs
        "batch_size": 16,
        "eval_every": None,
    }
    # 1.90M parameters each.  Each row holds one pair; a step has as many pairs as with packing.
    lstm = models.Seq2SeqRNN(4000, width=184, tied_head=True, dropout=0.2)
    unpacked = {"data.packed": None, "batch_size": 64}
    return {
        "architecture": ablation(
            baseline=small,
            variants={
                "LSTM with attention": {"model": lstm} | unpacked,
                "LSTM without attention": {"model": lstm.clone(attention="none", width=198)} | unpacked,
            },
            name="Transformer",
        ),
        "parts": ablation(
            baseline=small,
            variants={
                "one head": {"model.num_heads": 1},
                "eight heads": {"model.num_heads": 8},
                "one layer": {"model.depth": 1},
                "two layers": {"model.depth": 2},
                "no label smoothing": {"task.label_smoothing": 0.0},
                "label smoothing 0.2": {"task.label_smoothing": 0.2},
                "post-norm": {"model.norm": "post"},
            },
            name="Transformer",
        ),
    }
