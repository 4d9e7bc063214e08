"""The alignment figure: one map per layer and head over the right tokens, for both kinds of models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.alignment import align, draw
from research.data.sources.parallel_text import SPECIAL, ParallelText
from research.data.text.tokenizers import ByteTokenizer
from research.experiment import Experiment
from research.inference import Predictor
from research.models.seq2seq_rnn import Seq2SeqRNN
from research.models.transformer import Transformer
from research.optimizers import AdamW
from research.tasks.translation import Translation

TOKENIZER = ByteTokenizer(SPECIAL)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Transformer(259, width=8, depth=3, num_heads=2, context_length=32), (3, 2)),
        (Seq2SeqRNN(259, width=8), (1, 1)),
    ],
)
def test_every_token_of_the_translation_looks_at_the_whole_source(model, shape, tmp_path):
    source = jnp.zeros((1, 4), jnp.int32)
    variables = model.init(jax.random.key(0), source, jnp.ones((1, 4), bool), source)
    experiment = Experiment(
        model=model,
        task=Translation(tokenizer=TOKENIZER, max_new_tokens=5),
        data=ParallelText(path=("a", "b"), tokenizer=TOKENIZER, pad_to=32),  # to 6 tokens, of which none is shown
        optimizer=AdamW(),
        steps=1,
        batch_size=1,
    )
    predictor = Predictor(experiment, variables)
    found = align(predictor, "abcd", "xyz")
    assert found.source == ["a", "b", "c", "d", "⏎"] and found.target == ["x", "y", "z", "⏎"]
    assert found.attention.shape == (*shape, 4, 5)
    np.testing.assert_allclose(found.attention.sum(-1), 1, rtol=1e-5)
    draw(found, found.attention[0].mean(0), "a title", tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
