"""Successful commands: their output, their files, and the number of compilations."""

import importlib
import logging
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from command_line import Process, launch, lines, quickly, read, saved_steps, state, write_module

from launch.list import EXPERIMENTS, entries, scripts
from research.config.modules import load_module
from research.config.serialization import stable_hash
from research.evaluation.exhibit_files import read_exhibits
from research.experiment import Experiment
from research.report import figures
from research.sweep import Sweep
from research.training.checkpoints import Store
from research.training.folder import read_experiment

MODULE = '''
    """Blobs, told apart by a perceptron.

    More about it.
    """

    import jax.numpy as jnp
    import toys
    from flax import linen as nn
    from research.sweep import ablation, grid, product


    class Logarithmic(nn.Module):
        """Takes the logarithm of what may be negative."""

        @nn.compact
        def __call__(self, x, *, train=False):
            return nn.Dense(3)(jnp.log(x.reshape(len(x), -1)))


    def experiment():
        return toys.experiment(steps=12, eval_every=6)


    def sweeps():
        rates = grid("optimizer.learning_rate", 1e-3, 3e-3, 1e-2, 3e-2)
        return {
            "activation": ablation({}, {"tanh": {"model.activation": "tanh"}}, name="relu"),
            "many": product(rates, grid("optimizer.weight_decay", 0.0, 0.01, 0.1, 1.0)),
            "layers": grid("model.widths", (), (8,), (8, 8)),
        }


    def other():
        return {"not a sweep": None}
    '''


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return write_module(tmp_path_factory.mktemp("module") / "blobs.py", MODULE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def quick(cache):
    """For tests that need neither figures nor compilation counts."""
    with quickly(cache):
        yield


@pytest.fixture(scope="module")
def swept(module):
    """(run, output) of a sweep over two variants and two seeds."""
    run = module.parent / "swept"
    outcome = launch("run", module, "--sweep", "activation", "--seeds", "2", "--set", "batch_size=16", "--out", run)
    assert outcome.status == 0, outcome
    return run, outcome


def test_a_run_ends_with_the_table_and_the_path_of_the_report(swept):
    run, outcome = swept
    assert outcome.out.splitlines()[-1] == str(run / "report" / "report.html")
    assert re.search(r"^relu.* 0\.\d+ ± ", outcome.out, re.MULTILINE)
    assert re.search(r"^tanh.* 0\.\d+ ± ", outcome.out, re.MULTILINE)
    assert "±" in (run / "report" / "table.md").read_text()
    for name in ("table.md", "table.tex", "table.csv", "report.html"):
        assert (run / "report" / name).stat().st_size > 100
    assert list((run / "report").glob("*.png"))
    assert f"4 trials in {run}; data: 120 examples" in outcome.err.splitlines()[0]
    assert "Traceback" not in outcome.err


def test_exhibits_of_every_evaluation_are_files_and_stand_in_the_report(swept):
    run, _ = swept
    found = {(one.evaluation, one.name, one.step): one.read() for one in read_exhibits(run / "trials/relu-s1")}
    steps = {("validation", 6), ("validation", 12), ("test", 12)}
    assert found.keys() == {(split, name, step) for split, step in steps for name in ("confusion", "reliability")}
    result = read(run / "trials/relu-s1/result.json")["metrics"]
    counts = found["test", "confusion", 12].counts
    assert np.trace(counts) / counts.sum() == pytest.approx(result["test/accuracy"])
    assert counts.sum() == found["test", "reliability", 12].count.sum()
    assert "<h2>Exhibits</h2>" in (run / "report" / "report.html").read_text()
    assert (run / "report" / "exhibit-tanh-test-confusion.png").exists()


def test_what_a_run_leaves(swept, module):
    run, _ = swept
    names = ["relu-s0", "relu-s1", "tanh-s0", "tanh-s1"]
    assert sorted(p.name for p in (run / "trials").iterdir()) == names
    assert not (run / "lease.json").exists()
    sweep = read(run / "sweep.json")
    assert sweep["experiment"] == f"file:{module}" and sweep["sweep"] == "activation" and sweep["baseline"] == "relu"
    assert sweep["settings"] == {"batch_size": "16"} and sweep["seeds"] == 2
    assert {"jax", "flax", "optax", "numpy", "python", "device"} <= sweep["versions"].keys()
    assert sweep["protocol"]["seeds"] == [0, 1] and sweep["command"].startswith("python -m launch ")
    assert [t["name"] for t in sweep["trials"]] == names
    assert [(g["trials"], g["until"]) for g in sweep["groups"]] == [(names[:2], 12), (names[2:], 12)]
    for group in sweep["groups"]:
        speeds = group["measured"]  # of one way only, if timing the other takes longer than it can save
        assert group["stacked"] == (speeds.get("stacked", 0) > speeds["one_after_another"])
    for trial, asked in zip(sorted((run / "trials").iterdir()), sweep["trials"], strict=True):
        config, result = read(trial / "config.json"), read(trial / "result.json")
        experiment = read_experiment(trial)
        assert stable_hash(experiment) == config["hash"] and config["trial"] == trial.name
        assert experiment.model.activation == trial.name[:4] and experiment.seed == int(trial.name[-1])
        assert experiment.batch_size == 16 and asked["overrides"]["seed"] == experiment.seed
        assert result["status"] == "finished" and result["steps"] == 12
        assert 0 <= result["metrics"]["test/accuracy"] <= 1 and saved_steps(trial)[-1] == 12
        assert [r["step"] for r in lines(trial, "train")] == list(range(1, 13))


def test_the_default_folder_is_named_after_experiment_and_sweep(module, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    assert launch("run", module).status == 0
    assert launch("run", module, "--sweep", "activation").out.splitlines()[-1].endswith("activation/report/report.html")
    found = sorted(str(p.parent) for p in tmp_path.glob("**/sweep.json"))
    assert found == [str(tmp_path / "runs/blobs/activation"), str(tmp_path / "runs/blobs/base")]
    assert state(tmp_path / "runs/blobs/base/trials/base-s0")["step"] == 12


def test_the_folder_of_a_long_name_is_one_that_a_disk_takes(module, tmp_path, quick):
    source = module.read_text() + "\n\ndef sweeps():\n    long = 'x' * 300\n"
    source += "    return {'a': ablation({}, {long + 'a': {}, long + 'b': {'steps': 9}}, name='short')}\n"
    (tmp_path / "long.py").write_text(source)
    assert launch("run", tmp_path / "long.py", "--sweep", "a", "--stack", "off", "--out", tmp_path / "run").status == 0
    names = sorted(path.name for path in (tmp_path / "run" / "trials").iterdir())
    assert len(names) == 3 and max(map(len, names)) < 230 and all(name.endswith("-s0") for name in names)


def test_a_module_of_a_package_of_ones_own(tmp_path, monkeypatch, quick):
    (tmp_path / "own_package").mkdir()
    write_module(tmp_path / "own_package" / "mine.py", MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert launch("run", "own_package.mine", "--set", "steps=6").status == 0
    assert (tmp_path / "runs/mine/base/trials/base-s0/result.json").exists()


def test_an_experiment_of_the_house_by_its_last_word(tmp_path, quick):
    arguments = ("--set", "steps=9", "--set", "optimizer.schedule.warmup_steps=0", "--out", tmp_path / "run")
    assert launch("run", "digits_mlp", *arguments).status == 0
    assert read(tmp_path / "run" / "sweep.json")["experiment"] == "experiments.digits_mlp"
    assert launch("run", "experiments.digits_mlp", *arguments).status == 0


@pytest.mark.slow
def test_a_source_of_ones_own_goes_through_workers(tmp_path, quick):
    """Worker processes cannot import a user's file, but still receive its classes."""
    module = write_module(
        tmp_path / "lazy.py",
        """
        import dataclasses

        import numpy as np
        import toys
        from research.data.spec import Data, Splits


        class Lazy:
            def __init__(self, examples):
                self.examples = examples

            def __len__(self):
                return self.examples

            def __getitem__(self, i):
                x = np.random.default_rng(i).normal(size=(4, 3)).astype(np.float32)
                return {"image": x, "label": np.int32(i % 3)}


        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Mine(Data):
            def read(self):
                return Splits(train=Lazy(100), test=Lazy(30))


        def experiment():
            return toys.experiment(data=Mine(), steps=12)
        """,
    )
    outcome = Process("run", module, "--set", "data.storage=workers", "--out", tmp_path / "workers").wait()
    assert outcome.status == 0, outcome
    assert launch("run", module, "--set", "data.storage=device", "--out", tmp_path / "device").status == 0
    logs = [lines(tmp_path / storage / "trials" / "base-s0", "train") for storage in ("workers", "device")]
    for a, b in zip(*logs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


# -- the other commands ------------------------------------------------------------------------------------------------


def test_report_again_and_of_several_runs(swept, module, tmp_path, cache):
    run, outcome = swept
    again = launch("report", run)
    assert (again.status, again.out) == (0, outcome.out)
    other = tmp_path / "other"
    with quickly(cache):
        assert launch("run", module, "--sweep", "activation", "--out", other).status == 0
    both = launch("report", run, other, "--out", tmp_path / "both")
    assert both.status == 0 and both.out.splitlines()[-1] == str(tmp_path / "both" / "report.html")
    assert (tmp_path / "both" / "table.md").read_text().count("tanh") >= 2


def test_show_prints_what_would_be_trained_and_writes_nothing(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = launch("show", module, "--set", "model.widths=7,5")
    assert outcome.status == 0 and outcome.err == "" and list(tmp_path.iterdir()) == []
    assert '"widths": [\n   7,\n   5\n  ]' in outcome.out and "hash: " in outcome.out
    assert re.search(r"Dense_0/kernel +12 x 7 +84\n", outcome.out)
    assert re.search(rf"all +{12 * 7 + 7 + 7 * 5 + 5 + 5 * 3 + 3}\n", outcome.out)
    assert re.search(r"^FLOPs per step: [\d,]+ ", outcome.out, re.MULTILINE)


def test_show_prints_what_has_become_of_the_columns_of_a_table(tmp_path):
    rows = [f"{i},{i % 5}.5,{'' if i == 3 else 'rg'[i % 2]},note {i},{'ab'[i % 2]}\n" for i in range(40)]
    (tmp_path / "houses.csv").write_text("number,size,\x1b[31mcolour,note,kind\n" + "".join(rows))
    table = """
        import toys
        from research.data import Table
        from research.tasks import Classification


        def experiment():
            data = Table("FOLDER/houses.csv", "kind", ignore=("note",), test=0, validation=0)
            task = Classification(classes=2, input="features")
            return toys.experiment(data=data, task=task, model=toys.MLP(widths=(4,), classes=2))
        """
    outcome = launch("show", write_module(tmp_path / "houses.py", table.replace("FOLDER", str(tmp_path))))
    assert outcome.status == 0, outcome
    shown = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in outcome.out.splitlines() if "│" in line]
    assert shown[-5:] == [
        ["number", "number", "40", "0", "0 to 39"],
        ["size", "number", "5", "0", "0.5 to 4.5"],
        ["�[31mcolour", "category, 2 features", "2", "1", "g, r"],
        ["kind", "target, 2 classes", "2", "0", "a (20), b (20)"],
        ["note", "left out: in ignore", "", "", ""],
    ]
    assert "; number numbers the rows, and is an input unless data.ignore lists it" in outcome.out.splitlines()[-1]


@pytest.mark.parametrize("stack", ["on", "off"])
def test_plan_prints_the_groups_and_writes_nothing(module, tmp_path, monkeypatch, stack, quick):
    monkeypatch.chdir(tmp_path)
    outcome = launch("plan", module, "--sweep", "activation", "--seeds", "3", "--stack", stack)
    assert outcome.status == 0 and list(tmp_path.iterdir()) == []
    way = "side by side" if stack == "on" else "one after another"
    assert outcome.out.count(way) == 2 and "relu-s0" in outcome.out and "tanh-s0" in outcome.out
    assert re.search(r"^6 trials, 2 programs, about [\d.]+ s of training here", outcome.out, re.MULTILINE)


def test_debug_finds_where_a_nan_is_made(module, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    fine = launch("run", module, "--debug")
    assert fine.status == 0 and "no operation of the step produces a NaN" in fine.out and "loss: 1." in fine.out
    model = f'model={{"_type": "file:{module}:Logarithmic"}}'
    outcome = launch("run", module, "--debug", "--set", model)
    assert outcome.status == 1 and outcome.out.count("\n") == 1
    assert "blobs.py:17 in __call__: return nn.Dense(3)(jnp.log(" in outcome.out
    assert list(tmp_path.iterdir()) == []


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [["list"], ["data"], ["--help"], ["run", "--help"], ["report", "--help"]])
def test_what_needs_no_jax_does_not_import_it(arguments):
    code = f"""
import sys
from launch.cli import main
try:
    status = main({arguments!r})
except SystemExit as ended:
    status = ended.code
heavy = {{"jax", "flax", "numpy", "optax", "orbax", "matplotlib", "sklearn", "rich", "pyarrow"}} & sys.modules.keys()
print(sorted(heavy), file=sys.stderr)
sys.exit(status)
"""
    done = run_python(code)
    assert done.returncode == 0 and done.stderr == "[]\n", done
    if arguments == ["list"]:
        for entry in entries():
            assert f"{entry.name} " in done.stdout and entry.summary in done.stdout
        for folder in ("analysis", "speed"):
            assert done.stdout.count(f"(experiments/{folder}/):") == 1
            for script in scripts(EXPERIMENTS / folder):
                assert script.summary in done.stdout and f" {script.command}\n" in done.stdout
    elif arguments != ["data"]:
        assert done.stdout.startswith("usage: python -m launch")


def test_the_list_is_what_the_modules_say():
    """Names read from the source equal those that the functions return, and so does the first line of the docstring."""
    assert {"digits_mlp", "diabetes_mlp"} <= {entry.name for entry in entries()}
    for entry in entries():
        imported = importlib.import_module(f"experiments.{entry.name}")
        sweeps = imported.sweeps() if hasattr(imported, "sweeps") else {}
        assert entry.sweeps == tuple(sweeps), entry.name
        assert entry.summary == imported.__doc__.strip().splitlines()[0]
        experiment = imported.experiment()
        assert isinstance(experiment, Experiment)
        experiment.check()
        for sweep in sweeps.values():
            assert isinstance(sweep, Sweep)
            sweep.check()


def test_every_script_is_listed_with_its_command():
    # For a Python that has torch.
    peers = {"shakespeare_torch", "torch_diffusion", "torch_graphs", "torch_sequences", "torch_vit"}
    for folder in ("analysis", "speed"):
        files = (EXPERIMENTS / folder).glob("*.py")
        runnable = {path.stem for path in files if '__name__ == "__main__"' in path.read_text()}
        assert {script.name for script in scripts(EXPERIMENTS / folder)} == runnable - peers
    commands = {script.name: script.command for script in scripts(EXPERIMENTS / "speed")}
    assert commands["compile_scan"] == "python -m experiments.speed.compile_scan"
    assert commands["shakespeare_against_torch"].startswith("ESPALIER_DATA=... python -m experiments.speed.shake")


def test_the_list_of_another_folder(module):
    (entry,) = entries(module.parent)
    assert entry.name == "blobs" and entry.summary == "Blobs, told apart by a perceptron."
    assert entry.sweeps == tuple(load_module(f"file:{module}").sweeps())


# -- compilations ------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(caplog):
    """Counts the compilations of the training program."""
    with caplog.at_level(logging.DEBUG, logger="jax._src.dispatch"):
        yield lambda name: sum(f"Finished XLA compilation of jit({name})" in r.getMessage() for r in caplog.records)


@pytest.fixture
def unsaved(monkeypatch):
    """Counts compilations only: 64 trials without checkpoints, and a report without figures."""
    monkeypatch.setattr(Store, "save", lambda *_: None)
    monkeypatch.setattr(figures, "pictures", lambda table: ())


@pytest.mark.parametrize(("stack", "count"), [("on", {1}), ("off", {1}), ("auto", {1, 2})])
def test_sixty_four_trials_compile_one_training_program_per_mode_tried(
    module, tmp_path, compiled, unsaved, stack, count
):
    arguments = ("--sweep", "many", "--seeds", "4", "--stack", stack, "--set", "eval_every=none", "--set", "steps=6")
    assert launch("run", module, *arguments, "--out", tmp_path / "run").status == 0
    assert len(list((tmp_path / "run" / "trials").iterdir())) == 64
    assert compiled("train_steps") in count
    assert compiled("init") == 1
    assert compiled("evaluate") <= 2  # the validation split and the test split differ in size


def test_trials_of_several_programs_compile_each_once(module, tmp_path, compiled, unsaved):
    arguments = ("--sweep", "layers", "--seeds", "2", "--stack", "off", "--set", "eval_every=none", "--set", "steps=6")
    assert launch("run", module, *arguments, "--out", tmp_path / "run").status == 0
    assert compiled("train_steps") == compiled("init") == 3


def test_repeating_a_trial_gives_the_same_bits(module, tmp_path, quick):
    found = []
    for name in ("one", "two"):
        assert launch("run", module, "--out", tmp_path / name).status == 0
        found.append((state(tmp_path / name / "trials/base-s0"), lines(tmp_path / name / "trials/base-s0")))
    jax.tree.map(np.testing.assert_array_equal, found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
