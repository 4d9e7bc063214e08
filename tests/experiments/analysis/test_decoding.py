"""The decoding table: every cell equals the result of `launch eval`; invalid requests give one line."""

import pytest
from command_line import launch, quickly, write_module

from experiments.analysis import decoding

MODULE = """
    import toys
    from research.data.sources.parallel_text import SPECIAL, ParallelText
    from research.data.text.tokenizers import CharTokenizer
    from research.experiment import Experiment
    from research.models.seq2seq_rnn import Seq2SeqRNN
    from research.optimizers import AdamW
    from research.tasks.translation import Translation


    def experiment():
        return Experiment(
            model=Seq2SeqRNN(10, width=4, attention="none"),
            task=Translation(max_new_tokens=4),
            data=ParallelText(
                path=("pairs.tsv",), tokenizer=CharTokenizer(special_tokens=SPECIAL), validation=6, buckets=1
            ),
            optimizer=AdamW(learning_rate=0.1),
            steps=4,
            batch_size=8,
            parallel=toys.ONE_DEVICE,
        )
    """


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pairs = [f"{a}{b}{c}\t{c}{b}{a} {a}" for a in "abc" for b in "bcd" for c in "dcba"]
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n")
    module = write_module(folder / "mine.py", MODULE.replace("pairs.tsv", str(folder / "pairs.tsv")))
    assert launch("run", module, "--out", folder / "run").status == 0
    return folder / "run"


def test_every_cell_is_what_eval_says(run, capsys):
    asked = ["--metric", "chrf", "--beams", "1", "3", "--length-penalties", "-5", "2"]
    assert decoding.main([str(run), *asked]) == 0
    header, line, greedy, beam, _, signature = capsys.readouterr().out.splitlines()
    assert header == "| beams | length penalty -5 | length penalty 2 |" and line == "|---|---|---|"
    assert signature.startswith("chrf on validation sacrebleu nrefs:1|case:mixed|")

    def cell(*settings: str) -> str:
        given = [part for setting in settings for part in ("--set", setting)]
        said = launch("eval", run, "--split", "validation", *given).out
        return f"{float(said.split('chrf ')[1]):.4g}"

    short, long = (cell("task.beams=3", f"task.length_penalty={penalty}") for penalty in (-5, 2))
    assert greedy == f"| 1 | {cell()} |  |"
    assert beam == f"| 3 | {short} | {long} |"
    assert len({cell(), short, long}) > 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--beams", "0"], "task.beams=0: expected at least 1"),
        (["--metric", "blue"], "--metric blue: did you mean 'bleu'?"),
        (["--split", "test"], "its data has no test split; one of: train, validation"),
        (["--trial", "other"], "holds 1 trial; trial='other': one of: base-s0"),
    ],
)
def test_what_cannot_be_is_one_line(run, arguments, line, capsys):
    assert decoding.main([str(run), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and line in said.err and said.err.count("\n") == 1
