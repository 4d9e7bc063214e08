"""Files of a run's folder that a launcher writes before it trains."""

import dataclasses
import json

from experiments.digits_mlp import experiment
from launch.folder import RunFolder
from research.config.serialization import from_json
from research.tasks import Classification


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread(Classification):
    better = {**Classification.better, "spread": "min"}


def test_a_config_says_which_way_each_metric_is_better(tmp_path):
    asked = dataclasses.replace(experiment(), task=Spread(classes=10))
    RunFolder(tmp_path).write_config("base-s0", asked)
    config = json.loads((tmp_path / "trials/base-s0/config.json").read_text())
    assert config["better"] == Spread.better
    assert config["better"]["loss"] == "min" and config["better"]["accuracy"] == "max"
    assert from_json(config["experiment"]) == asked
