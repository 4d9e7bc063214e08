"""A GPT that writes Python, trained on the standard library's source of the running interpreter.

The data are the library's modules without its tests and tables (PSF licence): 5% of the files are the validation split
and 10% the test split.  The tokenizer is byte-level BPE with 4,096 tokens, trained on the training files.

    python -m launch run experiments.python_gpt          15 minutes on a CPU core
    python -m experiments.analysis.python_functions runs/python_gpt/base     # which functions parse, beside an n-gram's
    python -m experiments.analysis.pass_at_1 runs/python_gpt/base --problems $ESPALIER_DATA/humaneval/HumanEval.jsonl.gz

Expect 1.668 bits per byte on the test files (n = 1), which equals a 5-gram model of the same tokens; the setting is
meant for a CPU.  `gpu` is a setting for an accelerator.  Numbers: experiments/RESULTS.md.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, Variant

TOKENS = 4096


def experiment() -> Experiment:
    return Experiment(
        model=models.GPT(vocab_size=TOKENS, context_length=256, width=192, depth=4, num_heads=4, use_bias=False),
        task=tasks.LanguageModeling(vocab_size=TOKENS),
        data=data.PythonSource(
            length=256,
            tokenizer=data.text.BPETokenizer(TOKENS, ("<eos>",)),
            end_of_text="<eos>",
            validation=0.05,
            test=0.1,
        ),
        optimizer=optimizers.AdamW(
            learning_rate=2e-3, schedule=schedules.Cosine(warmup_steps=100, final=0.1), b2=0.99, weight_decay=0.1
        ),
        clip_norm=1.0,
        steps=1500,
        batch_size=8,
        eval_every=500,
        eval_batch_size=16,
    )


def sweeps() -> dict[str, Sweep]:
    large = models.GPT(
        vocab_size=TOKENS, context_length=512, width=512, depth=8, num_heads=8, use_bias=False, dropout=0.2,
        attention_dropout=0.0, dtype="bfloat16",
    )  # fmt: skip
    gpu = {
        "model": large,
        "data.length": 512,
        "batch_size": 64,
        "eval_batch_size": 64,
        "steps": 4000,
        "optimizer.learning_rate": 1e-3,
    }
    return {"gpu": Sweep((Variant("8 layers of 512", gpu),))}
