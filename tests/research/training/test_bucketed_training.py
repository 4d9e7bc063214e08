"""Training in length buckets, end to end: the results do not depend on the padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from command_line import lines, saved_steps, state

from research.config.hparams import hparams
from research.config.serialization import to_json
from research.data.feeds import make_feeds
from research.data.sources.parallel_text import SPECIAL, ParallelText
from research.data.text.tokenizers import ByteTokenizer
from research.errors import RequestError
from research.experiment import Experiment
from research.inference import load, transcribe, translate
from research.models.transformer import Transformer
from research.optimizers import SGD
from research.tasks.translation import Translation
from research.training.check import check_trainable
from research.training.checkpoints import Checkpoints
from research.training.evaluate import evaluate
from research.training.loop import Interrupted, train
from research.training.programs import make_programs
from research.training.progress import Progress
from research.training.records import write_json
from research.training.trial import Trial

TOKENIZER = ByteTokenizer(SPECIAL)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    words = [
        ["".join(rng.choice(list("abcd"), rng.integers(1, 6))) for _ in range(rng.integers(1, 5))] for _ in range(90)
    ]
    rows = [f"{' '.join(w)} {i}\t{' '.join(w[::-1])} {i}" for i, w in enumerate(words)]
    file = tmp_path_factory.mktemp("text") / "pairs.tsv"
    file.write_text("\n".join(rows))
    return (str(file),)


def experiment(path, buckets: int = 3, **changes) -> Experiment:
    base = Experiment(
        model=Transformer(260, context_length=64, width=8, depth=1, num_heads=2, dropout=0.0),
        task=Translation(label_smoothing=0.1, max_new_tokens=6, tokenizer=TOKENIZER),
        data=ParallelText(path=path, tokenizer=TOKENIZER, buckets=buckets, validation=20, test=10, decoded=5),
        optimizer=SGD(learning_rate=0.5),
        steps=9,
        batch_size=8,
        log_every=1,
        eval_batch_size=8,
        checkpoints=Checkpoints(every_steps=3, every_seconds=None),
        parallel=toys.ONE_DEVICE,
    )
    return dataclasses.replace(base, **changes)


def resolved(experiment: Experiment):
    splits = experiment.data.load()
    feeds = make_feeds(splits, experiment.data)
    return experiment.fit(splits, feeds.decoded), feeds


def test_an_evaluation_is_the_same_whatever_the_bucketing(path):
    """Compares the metrics of a split with one length, with buckets, and with other batch sizes."""
    scores = []
    for buckets, size in ((1, 20), (4, 8), (4, 16)):
        own, feeds = resolved(experiment(path, buckets, eval_batch_size=size))
        programs = make_programs(own, feeds.train.resident)
        sent = feeds.train.batches(0, 8).largest()
        start = programs.init([0], [hparams(own)], sent)
        scores.append(evaluate(programs, start, feeds.evaluation["validation"], own)[0])
    assert {"loss", "perplexity", "token_accuracy", "bleu", "bleu_lowercase", "chrf"} == scores[0].keys()
    for other in scores[1:]:
        for name, value in scores[0].items():
            assert other[name] == pytest.approx(value, rel=1e-5)


def test_the_gradient_of_the_same_examples_is_the_same_whatever_the_padding(path):
    own, feeds = resolved(experiment(path))
    source = feeds.train.source
    short = np.flatnonzero(feeds.train.buckets == 0)[:4]
    columns = {name: x[short] for name, x in source.arrays().items()}

    def batch(width: dict[str, int]) -> dict[str, np.ndarray]:
        cut = {name: x[:, : width[name]] for name, x in columns.items()}
        masks = {f"{n}_mask": np.arange(width[n]) < source.lengths[n][short][:, None] for n in columns}
        return {**cut, **masks, "weight": np.array([1, 1, 1, 0], np.float32)}

    tight = batch({name: int(shape[0]) for name, shape in source.shapes.items()})
    wide = batch({name: int(shape[-1]) for name, shape in source.shapes.items()})
    assert tight["source"].shape[1] < wide["source"].shape[1]
    variables = jax.jit(own.model.init)(jax.random.key(0), **own.task.inputs(tight))

    def loss(variables, batch):
        total, weight = own.task.loss(lambda **k: own.model.apply(variables, **k), batch)["loss"]
        return total / weight

    (one, gradient), (other, padded) = (jax.jit(jax.value_and_grad(loss))(variables, b) for b in (tight, wide))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), gradient, padded)


@pytest.mark.parametrize("fields", [{}, {"positions": "learned", "norm": "pre"}])
def test_pairs_that_share_rows_have_the_loss_and_gradient_they_have_alone(path, fields):
    own, feeds = resolved(experiment(path, buckets=1))
    model = own.model.clone(**fields)
    packed = dataclasses.replace(own.data, packed=48).load().train
    assert len(packed) < len(feeds.train.source) / 2

    def batch(source) -> dict[str, np.ndarray]:
        columns = source.arrays()
        masks = {f"{n}_mask": np.arange(columns[n].shape[1]) < x[:, None] for n, x in source.lengths.items()}
        return {**columns, **masks, "weight": np.ones(len(source), np.float32)}

    alone, together = batch(feeds.train.source), batch(packed)
    variables = jax.jit(model.init)(jax.random.key(0), **own.task.inputs(alone))

    def loss(variables, batch):
        total, weight = own.task.loss(lambda **k: model.apply(variables, **k), batch)["loss"]
        return total / weight, weight

    ((one, tokens), gradient), ((other, same), shared) = (
        jax.jit(jax.value_and_grad(loss, has_aux=True))(variables, b) for b in (alone, together)
    )
    assert tokens == same
    np.testing.assert_allclose(one, other, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, shared)


def test_a_run_of_packed_pairs_trains_evaluates_and_translates(path, tmp_path):
    data = dataclasses.replace(experiment(path).data, packed=48)
    own, feeds = resolved(experiment(path, data=data, batch_size=4, steps=4))
    check_trainable(own, feeds)
    write_json(tmp_path / "config.json", {"experiment": to_json(own)})
    train([Trial("0", own, tmp_path)], feeds, stacked=False, progress=Progress())
    assert np.isfinite(lines(tmp_path)[-1]["loss"]) and isinstance(translate(load(tmp_path), "ab c"), str)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_pair_that_is_too_long_is_named_before_training(path, tmp_path, split):
    """The pair may be in any split: training batches do not contain validation pairs."""
    files = {name: tmp_path / f"{name}.tsv" for name in ("train", "validation")}
    for name, file in files.items():
        file.write_text("a b\tb a\n" * 20 + ("a b\t" + "b a" * 30 + "\n" if name == split else "") + "a b\tb a")
    data = ParallelText(
        path=(str(files["train"]),), validation_path=(str(files["validation"]),), tokenizer=TOKENIZER, buckets=3
    )
    own, feeds = resolved(experiment(path, data=data))
    expected = "target: 91 in a row, expected at most context_length=64; the longest example is "
    with pytest.raises(RequestError) as raised:
        check_trainable(own, feeds)
    assert str(raised.value) == f"{expected}{files[split]}, line 21"


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    """Trains two seeds, one after another and stacked."""
    folder = tmp_path_factory.mktemp("trained")
    own, feeds = resolved(experiment(path))
    check_trainable(own, feeds)
    for stacked in (False, True):
        trials = [
            Trial(f"{seed}", dataclasses.replace(own, seed=seed), folder / str(stacked) / str(seed)) for seed in (0, 1)
        ]
        for trial in trials:
            trial.folder.mkdir(parents=True)
            write_json(trial.folder / "config.json", {"experiment": to_json(trial.experiment)})
        train(trials, feeds, stacked=stacked, progress=Progress())
    return folder, own, feeds


def test_stacked_trials_share_the_shape_of_every_step(trained):
    folder, *_ = trained
    for seed in ("0", "1"):
        alone, together = (lines(folder / kind / seed) for kind in ("False", "True"))
        assert len(alone) == len(together) == 9 + 2
        for a, b in zip(alone, together, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    first, other = (lines(folder / "True" / seed)[0]["loss"] for seed in ("0", "1"))
    assert first != other


def test_a_stopped_training_goes_on_as_if_it_had_not_been(trained, tmp_path):
    folder, own, feeds = trained
    asked = iter([False] * 5 + [True] * 100)
    trial = [Trial("0", own, tmp_path / "0")]
    with pytest.raises(Interrupted):
        train(trial, feeds, stacked=False, progress=Progress(), stop=lambda: next(asked))
    train(trial, feeds, stacked=False, progress=Progress())
    assert saved_steps(tmp_path / "0")[-1] == 9
    jax.tree.map(np.testing.assert_array_equal, state(tmp_path / "0"), state(folder / "False" / "0"))


def test_several_steps_a_call_give_the_same(trained, path, tmp_path):
    folder, *_ = trained
    own, feeds = resolved(experiment(path, parallel=dataclasses.replace(toys.ONE_DEVICE, steps_per_call=4)))
    train([Trial("0", own, tmp_path / "0")], feeds, stacked=False, progress=Progress())
    for a, b in zip(lines(tmp_path / "0"), lines(folder / "False" / "0"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"accumulation": 2}, {"parallel": {"mesh": (("data", 8),)}}], ids=["two", "eight"])
def test_micro_batches_and_devices_change_nothing(trained, path, tmp_path, changes):
    folder, *_ = trained
    if "parallel" in changes:
        changes = {"parallel": dataclasses.replace(toys.ONE_DEVICE, **changes["parallel"])}
    own, feeds = resolved(experiment(path, **changes))
    train([Trial("0", own, tmp_path / "0")], feeds, stacked=False, progress=Progress())
    for a, b in zip(lines(tmp_path / "0"), lines(folder / "False" / "0"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_the_result_says_how_it_was_scored_and_how_much_was_padding(trained):
    folder, *_ = trained
    result = load(folder / "False" / "0").experiment and lines(folder / "False" / "0")[-1]
    assert result["split"] == "test" and "bleu" in result
    from command_line import read

    facts = read(folder / "False" / "0" / "result.json")
    assert facts["scoring"]["bleu"].startswith("sacrebleu nrefs:1|case:mixed")
    assert "shapes of a batch" in facts["storage"]


def test_a_finished_run_translates_in_three_lines(trained):
    folder, *_ = trained
    predictor = load(folder / "False" / "0")
    one = translate(predictor, "ab cd 1")
    assert isinstance(one, str) and translate(predictor, ["ab cd 1", "a"])[0] == one
    with pytest.raises(ValueError, match="transcribe: this run was trained by Translation"):
        transcribe(predictor, "a.wav")


def test_the_loss_is_cross_entropy_with_smoothed_targets(path):
    import optax

    own, feeds = resolved(experiment(path))
    batch = feeds.train.batches(0, 8).largest() | {"weight": np.ones(8, np.float32)}
    from research.data.feed import take

    batch = take(feeds.train.resident, batch)
    logits = jax.random.normal(jax.random.key(0), (*batch["target"].shape, 260))
    total, weight = own.task.loss(lambda **k: logits, batch)["loss"]
    targets = optax.smooth_labels(jax.nn.one_hot(batch["target"], 260), 0.1)
    expected = (optax.softmax_cross_entropy(logits, targets) * batch["target_mask"]).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert weight == batch["target_mask"].sum()
    shifted = own.task.inputs(batch)["target"]
    assert (shifted[:, 0] == TOKENIZER.token_id("<bos>")).all()
    np.testing.assert_array_equal(shifted[:, 1:], jnp.asarray(batch["target"])[:, :-1])
