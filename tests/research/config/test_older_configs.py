"""config.json files that were written before classes moved, one of each family, still rebuild their experiment."""

import json
import pathlib

import pytest

from research.config.migration import MOVED_MODULES
from research.config.serialization import from_json, to_json
from research.experiment import Experiment
from research.tasks.task import direction

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "fixtures" / "configs").glob("*.json"))


def types(record):
    """The names of the classes in a record."""
    if isinstance(record, dict):
        own = [record["_type"]] if "_type" in record else []
        return own + [name for value in record.values() for name in types(value)]
    return [name for value in record for name in types(value)] if isinstance(record, list) else []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_of_before_rebuilds_its_experiment(path):
    record = json.loads(path.read_text())["experiment"]
    experiment = from_json(record)
    assert isinstance(experiment, Experiment)
    experiment.check()
    now = to_json(experiment)
    assert from_json(now) == experiment
    assert not MOVED_MODULES.keys() & {name.partition(":")[0] for name in types(now)}
    # Values are unchanged: fields that both have are equal, apart from class names.
    for name in record.keys() & now.keys() - {"model", "task", "data", "checkpoints", "_type"}:
        assert types(record[name]) or record[name] == now[name]
    for part in ("model", "task", "data"):
        shared = record[part].keys() & now[part].keys() - {"_type"}
        assert shared and all(types(record[part][name]) or record[part][name] == now[part][name] for name in shared)
    assert direction(experiment.task, "validation/loss") == "min"


def test_every_family_has_one():
    models = {json.loads(path.read_text())["experiment"]["model"]["_type"].partition(":")[2] for path in CONFIGS}
    assert models >= {
        "MLP", "SimpleCNN", "ResNet", "EfficientNet", "ConvNeXt", "ConvNeXtRoadmap", "ViT", "RNNLanguageModel", "GPT",
        "Llama", "Transformer", "Seq2SeqRNN", "Whisper", "CTC", "DiT",
    }  # fmt: skip
