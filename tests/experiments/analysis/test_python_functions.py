"""The counts of python_functions, and the bits per byte of both models on the same bytes."""

import json
import math
import types

import numpy as np
import pytest

from experiments.analysis import python_functions
from experiments.analysis.python_functions import HEADERS, bits_per_byte, training_text
from research import inference
from research.data.sources.python_source import PythonSource
from research.data.text.tokenizers import BPETokenizer
from research.generated_code.functions import parses
from research.models.ngram import NGram
from research.training import folder

MODULE = "import os\n\n\ndef function{i}(path):\n    if path:\n        return {i}\n    return path + os.sep + path\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for i in range(12):
        (folder / f"module{i}.py").write_text(MODULE.format(i=i))
    tokenizer = BPETokenizer(280, ("<eos>",), min_frequency=1)
    data = PythonSource(path=str(folder), length=16, tokenizer=tokenizer, end_of_text="<eos>", validation=2, test=3)
    return data.fit(data.load().train)


def test_headers_are_functions_without_a_body():
    assert len(set(HEADERS)) == len(HEADERS)
    assert all(parses(header + "    pass\n") for header in HEADERS)


def test_bits_per_byte_is_over_every_byte_of_the_split(data):
    splits, size = data.load(), data.tokenizer.vocab_size
    model = NGram.fit(training_text(splits.train), size, 3)
    documents = [document.text for document in data.split()["test"]]
    end = data.tokenizer.token_id("<eos>")
    tokens = np.concatenate([np.append(data.tokenizer.encode(text), end) for text in documents])
    first = len(data.tokenizer.decode(tokens[:1]).encode())
    wanted = -model.log_probs(tokens).sum() / math.log(2) / (len("".join(documents).encode()) - first)
    assert bits_per_byte(model, splits.test) == pytest.approx(wanted)
    assert wanted < 1  # its training text is almost the same


def test_the_command(data, tmp_path, monkeypatch, capsys):
    def generate(given, prompts, **options):
        assert given is run and options["max_new_tokens"] == 30
        return ["    a = 1\n    return a\n\nx"] * len(prompts)

    run = types.SimpleNamespace(experiment=types.SimpleNamespace(data=data))
    monkeypatch.setattr(folder, "trial_folder", lambda path: tmp_path)
    monkeypatch.setattr(inference, "generate", generate)
    monkeypatch.setattr(inference, "load", lambda path, trust: run)
    (tmp_path / "result.json").write_text(json.dumps({"metrics": {"test/bits_per_byte": 1.5}}))
    out = tmp_path / "out.json"
    command = ["a run", "--samples", "2", "--least-lines", "2", "--max-new-tokens", "30", "--order", "3"]
    assert python_functions.main([*command, "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    own = record["model"]
    assert (own["samples"], own["long"], own["parsed"], own["own"]) == (2 * len(HEADERS),) * 4
    assert own["bits per byte"] == 1.5 and own["parsed of long"] == 1.0
    assert record["3-gram"]["samples"] == own["samples"] and record["3-gram"]["whole"] >= record["3-gram"]["long"]
    assert "model: bits per byte 1.500" in capsys.readouterr().out


def test_one_line_where_it_cannot_begin(capsys):
    assert python_functions.main(["runs/none"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: runs/none: no run there") and said.count("\n") == 1
