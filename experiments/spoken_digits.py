"""Ten digits by five speakers (Free Spoken Digit Dataset): CTC with an encoder only, against an encoder-decoder.

Needs free-spoken-digit-dataset-1.0.9.tar.gz, or a folder of its recordings, in $ESPALIER_DATA/spoken_digit.  The
official test split has indices 0 to 4 of each digit and speaker, 250 recordings.  Checkpoints are chosen by the word
error rate on 225 of the others.

    ESPALIER_DATA=... python -m launch run experiments.spoken_digits --seeds 3
    ESPALIER_DATA=... python -m launch run experiments.spoken_digits --sweep architecture --seeds 3
    ESPALIER_DATA=... python -m launch run experiments.spoken_digits --sweep augmentation
    ESPALIER_DATA=... python -m launch run experiments.spoken_digits --sweep speaker

Expect the following word error rates on the official test split, in 8 to 17 minutes per seed on one CPU core: 0.013 ±
0.005 (n = 3) from the first command, 0.009 ± 0.006 (n = 3) for Whisper, 0.008 for CTC without SpecAugment and 0.016
with it (n = 1 each).  For a speaker who is not in the training split, expect 0.09 to 0.49 (n = 1 for each of five).
"""

import os

from research import Checkpoints, Experiment, data, layers, models, optimizers, schedules, tasks
from research.sweep import Sweep, Variant, ablation, grid

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MELS = 40
VOCAB_SIZE = 18  # 15 letters and three special tokens
ENCODER = {"mels": MELS, "width": 96, "num_heads": 4, "audio_length": 256, "dropout": 0.1}


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("ESPALIER_DATA", "data"), "spoken_digit")
    return Experiment(
        model=models.CTC(VOCAB_SIZE, depth=4, **ENCODER),
        task=tasks.CTCTranscription(beams=8),  # the most probable alignment of "three" may lack an e
        data=data.Speech(
            path=f"{folder}/free-spoken-digit-dataset-1.0.9.tar.gz",
            pattern="{text}_{speaker}_{index}",
            words=tuple((str(digit), word) for digit, word in enumerate(WORDS)),
            test_if=(("index", ("0", "1", "2", "3", "4")),),
            tokenizer=data.text.CharTokenizer(special_tokens=data.SPECIAL),
            buckets=8,
        ),
        preprocess=(data.LogMelFeatures(log_mel=layers.LogMel(mels=MELS)),),
        augment=(data.augment.SpecAugment(time_width=5, frequency_width=4),),
        optimizer=optimizers.AdamW(learning_rate=2e-3, weight_decay=0.05, schedule=schedules.Cosine(warmup_steps=100)),
        steps=3600,
        batch_size=64,
        clip_norm=1.0,
        eval_every=600,
        eval_batch_size=125,
        checkpoints=Checkpoints(best="validation/wer"),
    )


def sweeps() -> dict[str, Sweep]:
    # 490,272 parameters, against CTC's 488,274.
    whisper = {
        "model": models.Whisper(VOCAB_SIZE, context_length=16, depth=3, decoder_depth=1, mlp_width=336, **ENCODER),
        "task": tasks.Transcription(max_new_tokens=10),
    }
    speakers = ("george", "jackson", "nicolas", "theo", "yweweler")
    return {
        "architecture": ablation(baseline={}, variants={"Whisper": whisper}, name="CTC"),
        "augmentation": ablation(baseline={}, variants={"none": {"augment": ()}}, name="SpecAugment"),
        "depth": grid("model.depth", 1, 2, 4, 6),
        # The test split is all 500 recordings of one speaker, who is not in the training split.
        "speaker": Sweep(tuple(Variant(f"without {x}", {"data.test_if": (("speaker", (x,)),)}) for x in speakers)),
    }
