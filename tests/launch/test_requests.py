"""Wrong requests: each is exit status 2 and one line that says what was wrong, before anything is written."""

import itertools
import json
import os
import shlex
import shutil
import socket
import string
import time

import numpy as np
import pytest
import toys
from command_line import Process, files, launch, write_module

from launch.request import held_against_types
from research.data.augment import RandomCrop
from research.data.transforms import Scale
from research.errors import RequestError
from research.override import leaf_paths, override

FINE = "import toys\n\n\ndef experiment():\n    return toys.experiment()\n"

MODULES = {
    "fine": FINE
    + """
from research.sweep import Sweep, ablation, grid, product, zipped


def sweeps():
    return {
        "rates": grid("optimizer.learning_rate", 1e-3, 1e-2),
        "bad_path": grid("optimizer.learnin_rate", 1e-3, 1e-2),
        "bad_type": grid("model.widths", (8,), 9),
        "bad_value": ablation({}, {"wide": {"model.widths": (32,)}, "none": {"model.widths": (-1,)}}),
        "bad_name": grid("model.activation", "relu", "rellu"),
        "beyond": grid("batch_size", 24, 1000),
        "misfit": grid("task.classes", 3, 4),
        "empty": Sweep(()),
        "same": grid("model.widths", (8,), (8,)),
        "rounded": grid("optimizer.learning_rate", 1e-3, 1e-3 + 1e-12),
        "a_list": [{"model.widths": (8,)}],
        "lengths": grid("steps", 10, 20),
    }
""",
    "syntax": "def experiment(:\n",
    "needs": "import no_such_package\n",
    "breaks": "numbers = [1, 2]\nthird = numbers[2]\n",
    "empty": "",
    "nothing": "def experiments():\n    return 1\n",
    "constant": "experiment = 3\n",
    "a_dict": "def experiment():\n    return {'steps': 3}\n",
    "raises": "import toys\n\n\ndef experiment():\n    return toys.experiment(model=toys.MLP(widths=(8,)))\n",
    "sweeps_raise": FINE + "\n\ndef sweeps():\n    return {'a': missing}\n",
    "sweeps_list": FINE + "\n\ndef sweeps():\n    return ['a']\n",
    "no_sweeps": FINE,
    "zipped": FINE
    + "\nfrom research.sweep import grid, zipped\n\n\ndef sweeps():\n"
    + "    return {'a': zipped(grid('steps', 10, 20), grid('seed', 1))}\n",
    "texts": "import toys\n\n\ndef experiment():\n    return toys.experiment(steps='600')\n",
    "one_width": "import toys\n\n\ndef experiment():\n    return toys.experiment(model=toys.MLP(64, 3))\n",
    "no_model": "import toys\n\n\ndef experiment():\n    return toys.experiment(model='MLP')\n",
    "no_task": "import toys\n\n\ndef experiment():\n    return toys.experiment(task=None)\n",
    "function": "import toys\n\n\ndef experiment():\n    return toys.experiment(data=lambda: 3)\n",
    "heads": """
        import toys
        from research.models.gpt import GPT


        def experiment():
            return toys.experiment(model=GPT(vocab_size=5, width=16, num_heads=3))
        """,
    "attribute": """
        import toys
        from flax import linen as nn


        class Model(nn.Module):
            @nn.compact
            def __call__(self, x, *, train=False):
                return nn.Dense(self.widht)(x)


        def experiment():
            return toys.experiment(model=Model())
        """,
    "only_when_scored": """
        import toys
        from research.tasks.classification import Classification


        class Task(Classification):
            def eval_outputs(self, apply, batch):
                return {"rank": apply(*self.init_inputs(batch), train=False) + batch["labels"]}


        def experiment():
            return toys.experiment(task=Task(classes=3))
        """,
    "data_raises": """
        import toys


        class Mine(toys.Blobs):
            def read(self):
                return {}["train"]


        def experiment():
            return toys.experiment(data=Mine())
        """,
    "arrays": """
        import dataclasses

        import toys
        from research.data.arrays import Arrays


        def experiment():
            return toys.experiment(data=Arrays("labels.npz"), batch_size=8)
        """,
    "folder": """
        import toys
        from research.data.folders import ImageFolder


        def experiment():
            return toys.experiment(data=ImageFolder("images", size=(4, 4)), batch_size=8)
        """,
    "table": """
        import toys
        from research.data.tables import Table
        from research.tasks.regression import Regression


        def experiment():
            model = toys.MLP(widths=(8,), classes=1)
            return toys.experiment(data=Table("good.csv", target="y"), task=Regression(), model=model, batch_size=8)
        """,
    "prepared": """
        import toys
        from research.data.tfds import TFDS


        def experiment():
            return toys.experiment(data=TFDS("fashion_mnist", data_dir="nothing_here"))
        """,
    "in_memory": """
        import numpy as np
        import toys
        from research.data.arrays import InMemory


        def experiment():
            image, label = np.zeros((50, 4)), np.arange(50) % 3
            image[7] = np.nan
            return toys.experiment(data=InMemory(train={"image": image, "label": label}))
        """,
}

COMMANDS = {
    # what is asked for
    "no command": ("", "arguments are required: COMMAND"),
    "unknown command": ("rum $W/fine.py", "no command 'rum'; did you mean 'run'?"),
    "unknown option": ("run $W/fine.py --stpes 3", "unrecognized arguments: --stpes 3"),
    "no experiment": ("run", "arguments are required: EXPERIMENT"),
    "unknown experiment": ("run digits_mpl", "no experiment 'digits_mpl'; did you mean 'digits_mlp'?"),
    "unknown experiment by module": ("show experiments.digit_mlp", "did you mean 'digits_mlp'?"),
    "unknown module": ("run my_package.mine", "no module 'my_package.mine'"),
    "module that is no experiment": ("run research.errors", "research.errors: it defines no function experiment()"),
    "no file": ("run $W/fin.py", "fin.py: no such file"),
    "a folder for a file": ("run $W/", "no such file"),
    "syntax error": ("run $W/syntax.py", "syntax.py, line 1: SyntaxError"),
    "import that is not there": ("run $W/needs.py", "needs.py, line 1: ModuleNotFoundError: No module named 'no_such"),
    "error while imported": ("run $W/breaks.py", "breaks.py, line 2: IndexError: list index out of range"),
    "empty file": ("run $W/empty.py", "it defines no function experiment()"),
    "no experiment in a file": ("run $W/nothing.py", "it defines no function experiment()"),
    "experiment is no function": ("run $W/constant.py", "it defines no function experiment()"),
    "experiment gives something else": ("run $W/a_dict.py", "experiment() gives a dict, not an Experiment"),
    "experiment raises": ("run $W/raises.py", "raises.py, line 5: TypeError: "),
    # sweeps and seeds
    "unknown sweep": ("run $W/fine.py --sweep rate", "--sweep rate: no such sweep; did you mean 'rates'?"),
    "a sweep where there is none": ("run $W/no_sweeps.py --sweep a", "--sweep a: no such sweep; there is none"),
    "sweeps raise": ("run $W/sweeps_raise.py --sweep a", "sweeps_raise.py, line 9: NameError: name 'missing'"),
    "sweeps give a list": ("run $W/sweeps_list.py --sweep a", "sweeps() gives a list"),
    "a sweep that is a list": ("run $W/fine.py --sweep a_list", "'a_list' is a list, not a Sweep"),
    "unknown path in a sweep": ("plan $W/fine.py --sweep bad_path", "learnin_rate=0.001: optimizer.learnin_rate"),
    "wrong type in a sweep": ("run $W/fine.py --sweep bad_type", "widths=9: model.widths=9: expected a tuple"),
    "wrong value in a sweep": ("run $W/fine.py --sweep bad_value", "none: model.widths=(-1,): expected at least 1"),
    "a setting that the sweep overrules": (
        "run $W/fine.py --sweep rates --set optimizer.learning_rate=0.1",
        "--set optimizer.learning_rate=0.1: every variant of --sweep rates sets it, so it would change nothing",
    ),
    "wrong name in a sweep": ("run $W/fine.py --sweep bad_name", "did you mean 'relu'?"),
    "one variant beyond the data": ("run $W/fine.py --sweep beyond", "batch_size=1000-s0: batch_size=1000: there are"),
    "one variant that does not fit": ("run $W/fine.py --sweep misfit", "classes=4-s0: task.classes=4: the"),
    "empty sweep": ("run $W/fine.py --sweep empty", "the sweep has no variant"),
    "two variants of a name": ("run $W/fine.py --sweep same", "two variants named 'widths=8'"),
    "two variants that round to a name": ("run $W/fine.py --sweep rounded", "two variants named"),
    "zipped of two lengths": ("run $W/zipped.py --sweep a", "zipped: the sweeps have [2, 1] variants"),
    "no seeds": ("run $W/fine.py --seeds 0", "--seeds 0: expected a whole number, at least 1"),
    "seeds in words": ("run $W/fine.py --seeds many", "--seeds many: expected a whole number"),
    "a square for a seed": ("run $W/fine.py --seeds ²", "--seeds ²: expected a whole number"),
    "half a seed": ("plan $W/fine.py --seeds 1.5", "--seeds 1.5: expected a whole number"),
    "unknown way of stacking": ("run $W/fine.py --stack maybe", "invalid choice: 'maybe'"),
    "unknown place": ("run $W/fine.py --on mars", "invalid choice: 'mars'"),
    "pruning by nothing": ("run $W/fine.py --prune loss", "--prune loss: expected a validation metric and a mode"),
    "pruning by the test split": ("run $W/fine.py --prune test/loss:min", "expected a validation metric"),
    "pruning too few": (
        "run $W/fine.py --seeds 3 --prune validation/loss:min",
        "leave nothing to prune; expected at least 4 trials",
    ),
    "pruning without a mode": ("run $W/fine.py --prune validation/loss:low", "such as validation/loss:min"),
    "pruning trials of different length": (
        "run $W/fine.py --sweep lengths --prune validation/loss:min",
        "the trials have [10, 20] steps",
    ),
    "pruning without a validation split": (
        "run $W/fine.py --sweep rates --seeds 2 --set data.validation=0 --prune validation/loss:min",
        "no validation split",
    ),
    # --set
    "no equals sign": ("run $W/fine.py --set steps", "--set steps: expected PATH=VALUE"),
    "no path": ("run $W/fine.py --set =3", "--set =3: expected PATH=VALUE"),
    "unknown path": ("run $W/fine.py --set model.width=8", "did you mean 'widths'?"),
    "path without its part": ("run $W/fine.py --set learning_rate=1", "did you mean 'optimizer.learning_rate'"),
    "path beyond a leaf": ("run $W/fine.py --set steps.more=1", "has no fields"),
    "words for a number": ("run $W/fine.py --set steps=many", "steps=many: expected a whole number"),
    "a fraction of a step": ("show $W/fine.py --set steps=1.5", "steps=1.5: expected a whole number"),
    "endless steps": ("run $W/fine.py --set steps=inf", "steps=inf: expected a whole number"),
    "more steps than can be counted": ("run $W/fine.py --set steps=1e30", "steps="),
    "no steps": ("run $W/fine.py --set steps=0", "steps=0: expected at least 1"),
    "negative width": ("run $W/fine.py --set model.widths=8,-8", "model.widths=(8, -8): expected at least 1"),
    "heads that do not divide": ("run $W/heads.py", "num_heads=3"),
    "unknown activation": ("run $W/fine.py --set model.activation=rleu", "did you mean 'relu'?"),
    "unknown optimizer": ("run $W/fine.py --set optimizer=AdanW", "did you mean 'AdamW'?"),
    "a class that is none": (
        'run $W/fine.py --set \'optimizer={"_type": "os:system"}\'',
        "os has no dataclass 'system'",
    ),
    "a type that is a number": ("run $W/fine.py --set 'optimizer={\"_type\": 3}'", "_type=3: expected"),
    "a type without a module": ('run $W/fine.py --set \'optimizer={"_type": "SGD"}\'', "'SGD'"),
    "a part of the wrong kind": (
        'run $W/fine.py --set \'optimizer={"_type": "research.models.mlp:MLP", "widths": [3], "classes": 3}\'',
        "expected Optimizer",
    ),
    "a field of the wrong kind in a part": (
        'run $W/fine.py --set \'optimizer={"_type": "research.optimizers:SGD", "momentum": "high"}\'',
        "optimizer.momentum='high': expected none or a number",
    ),
    "learning rate of nan": ("run $W/fine.py --set optimizer.learning_rate=nan", "optimizer.learning_rate=nan"),
    "negative learning rate": ("run $W/fine.py --set optimizer.learning_rate=-1", "optimizer.learning_rate=-1.0"),
    "infinite clip norm": ("run $W/fine.py --set clip_norm=inf", "clip_norm=inf: expected a finite number"),
    "warm-up longer than training": (
        "run $W/fine.py --set optimizer.schedule.warmup_steps=50",
        "optimizer.schedule.warmup_steps=50: must be a whole number from 0 to total_steps=40",
    ),
    "batch larger than the data": ("run $W/fine.py --set batch_size=121", "batch_size=121: there are 120 training"),
    "accumulation that does not divide": ("run $W/fine.py --set accumulation=5", "expected a divisor of batch_size=24"),
    "negative seed": ("run $W/fine.py --set seed=-1", "seed=-1: expected 0 to 4294967295"),
    "average that never moves": ("run $W/fine.py --set ema_decay=1", "ema_decay=1.0: expected 0 <= ema_decay < 1"),
    "nothing kept": ("run $W/fine.py --set checkpoints.keep=0", "checkpoints.keep=0: expected at least 1"),
    "best by the test split": ("run $W/fine.py --set checkpoints.best=test/loss", "a metric of the validation split"),
    "best without a validation split": (
        "run $W/fine.py --set data.validation=0 --set checkpoints.best=validation/loss",
        "no validation split",
    ),
    "mesh without data": ("run $W/fine.py --set 'parallel.mesh=[[\"date\", 1]]'", "one of them 'data'"),
    "mesh beyond the devices": ("run $W/fine.py --set 'parallel.mesh=[[\"data\", 999]]'", "devices do not fill it"),
    "rule of an unknown axis": (
        'run $W/fine.py --set \'parallel.rules=[["*/kernel", ["modle"]]]\'',
        "no mesh axis 'modle'",
    ),
    "rule that does not divide": (
        'run $W/fine.py --set \'parallel.mesh=[["data", 8]]\' --set \'parallel.rules=[["*/kernel", [null, "data"]]]\''
        " --set model.classes=5 --set task.classes=5",
        "does not divide",
    ),
    "pattern of no parameter": (
        "run $W/fine.py --set 'optimizer.frozen=[\"Dens_0/*\"]'",
        "matches none of 6 parameters; did you mean 'Dense_0",
    ),
    "everything frozen": ("run $W/fine.py --set optimizer.frozen=*", "leaves nothing to train"),
    # a user's own module
    "text for a number in a file": ("run $W/texts.py", "steps='600': expected a whole number"),
    "number for a tuple in a file": ("run $W/one_width.py", "model.widths=64: expected a tuple"),
    "name for a model in a file": ("run $W/no_model.py", "model='MLP': expected"),
    "no task in a file": ("run $W/no_task.py", "task=None: expected Task"),
    "function for data in a file": ("run $W/function.py", "expected Data"),
    "model with a mistake": ("run $W/attribute.py", "attribute.py, line 8: AttributeError: "),
    "task that cannot be scored": ("run $W/only_when_scored.py", "only_when_scored.py, line 7: KeyError: 'labels'"),
    "data that raise": ("run $W/data_raises.py", "data_raises.py, line 6: KeyError: 'train'"),
    # model, task and data against each other
    "classes of model and task": ("run $W/fine.py --set model.classes=4", "the model gives 4 logits"),
    "labels beyond the task": (
        "run $W/fine.py --set model.classes=2 --set task.classes=2",
        "label 2 is outside 0 to 1 (task.classes=2)",
    ),
    "column that is not there": ("run $W/fine.py --set task.input=imgae", "did you mean 'image'?"),
    "task of another kind": (
        'run $W/fine.py --set \'task={"_type": "research.tasks.regression:Regression"}\'',
        "task.input='features': the train split has no such column",
    ),
    "preprocess of an unknown column": (
        'run $W/fine.py --set \'preprocess=[{"_type": "research.data.transforms:Scale", "field": "imgae"}]\'',
        "no field 'imgae'; did you mean 'image'?",
    ),
    "crop of what is no image": (
        'run $W/fine.py --set \'augment=[{"_type": "research.data.augment:RandomCrop"}]\'',
        "do not fit together",
    ),
    # data
    "unknown set of scikit-learn": ("run digits_mlp --set data.name=digit", "did you mean 'digits'?"),
    "validation beyond the data": ("run digits_mlp --set data.validation=5000", "validation=5000: expected"),
    "negative share": ("run digits_mlp --set data.validation=-0.5", "data.validation=-0.5: expected a fraction"),
    "more examples than there are": ("run digits_mlp --set data.train_examples=9999", "the training split has"),
    "unprepared set": ("run $W/prepared.py", "python -m research.data.tfds prepare fashion_mnist"),
    "no name of a set": ("run $W/prepared.py --set data.name=../x", "expected NAME, NAME/CONFIG"),
    "no arrays": ("run $W/arrays.py --set data.path=$W/data/lables.npz", "did you mean 'labels.npz'?"),
    "arrays that are text": ("run $W/arrays.py --set data.path=$W/data/good.csv", "expected an .npz archive"),
    "arrays that are objects": ("run $W/arrays.py --set data.path=$W/data/objects.npz", "expected an .npz archive"),
    "arrays of two lengths": ("run $W/arrays.py --set data.path=$W/data/lengths.npz", "the numbers of examples differ"),
    "label out of range": ("run $W/arrays.py --set data.path=$W/data/labels.npz", "label 7 is outside 0 to 2"),
    "negative label": ("run $W/arrays.py --set data.path=$W/data/negative.npz", "label -1"),
    "nan in the data": (
        "run $W/arrays.py --set data.path=$W/data/nan.npz",
        "'image' holds nan; expected finite numbers",
    ),
    "nan in memory": ("run $W/in_memory.py", "'image' holds nan; expected finite numbers"),
    "no folder of images": ("run $W/folder.py --set data.path=$W/imags", "does not exist"),
    "empty folder": ("run $W/folder.py --set data.path=$W/hollow", "holds no class folders"),
    "empty class": ("run $W/folder.py --set data.path=$W/half", "holds no image"),
    "corrupt image": ("run $W/folder.py --set data.path=$W/corrupt", "3.png is not an image that can be read"),
    "cut image": ("run $W/folder.py --set data.path=$W/cut", "3.png is not an image that can be read"),
    "grey among colours": ("run $W/folder.py --set data.path=$W/grey", "3.png has 1 channels"),
    "no table": ("run $W/table.py --set data.path=$W/data/god.csv", "did you mean 'good.csv'?"),
    "unknown target": (
        "run $W/table.py --set data.path=$W/data/good.csv --set data.target=z",
        "target: $W/data/good.csv has no column 'z'",
    ),
    "text in a column of numbers": ("run $W/table.py --set data.path=$W/data/words.csv", "words.csv"),
    "infinity in a table": ("run $W/table.py --set data.path=$W/data/infinite.csv", "is not a finite float32"),
    "target that is missing": ("run $W/table.py --set data.path=$W/data/gap.csv", "the target 'y' is missing"),
    "ragged table": ("run $W/table.py --set data.path=$W/data/ragged.csv", "ragged.csv: "),
    "table without rows": ("run $W/table.py --set data.path=$W/data/header.csv", "has no rows"),
    "classes for a regression": ("run $W/table.py --set data.path=$W/data/classes.csv", "task.target='target'"),
    # folders
    "out is a file": ("run $W/fine.py --out $W/data/good.csv", "data/good.csv: a file, not a folder"),
    "out below a file": ("run $W/fine.py --out $W/data/good.csv/run", "data/good.csv: a file, not a folder"),
    "out holds something else": ("run $W/fine.py --out $W/images", "not empty and no run"),
    "report on nothing": ("report $W/nothing", "there is no such folder"),
    "report on no run": ("report $W/images", "not a run, it holds no sweep.json"),
    "report on two without a place": ("report $W/images $W/hollow", "not a run"),
    "report without a folder": ("report", "arguments are required: DIR"),
    "eval of nothing": ("eval $W/nothing", "no run there"),
    "eval of an empty folder": ("eval $W/hollow", "no run there"),
    "eval on an unknown split": ("eval $W/run --split tets", "invalid choice: 'tets'"),
    "start from nothing": ("run $W/fine.py --set init_from=$W/nothing", "nothing: no run there"),
    "start from no run": ("run $W/fine.py --set init_from=$W/images", "images: no run there"),
}


def image(path, size=(4, 4), mode="RGB"):
    import PIL.Image

    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.effect_noise(size, 50).convert(mode).save(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with everything that the requests point to."""
    root = tmp_path_factory.mktemp("world")
    for name, text in MODULES.items():
        write_module(root / f"{name}.py", text)

    data = root / "data"
    data.mkdir()
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 4)), np.arange(60) % 3
    np.savez(data / "labels.npz", image=x, label=np.where(y == 2, 7, y))
    np.savez(data / "negative.npz", image=x, label=y - 1)
    np.savez(data / "nan.npz", image=np.where(x > x.max() - 1e-9, np.nan, x), label=y)
    np.savez(data / "lengths.npz", image=x, label=y[:-1])
    np.savez(data / "objects.npz", image=np.array([{}] * 60), label=y)

    rows = [f"{a:.3f},{b:.3f},{a + b:.3f}\n" for a, b in generator.normal(size=(60, 2))]
    tables = {
        "good": rows,
        "words": [*rows[:30], "1.0,about two,3.0\n", *rows[31:]],
        "infinite": [*rows[:30], "1.0,inf,3.0\n", *rows[31:]],
        "gap": [*rows[:30], "1.0,2.0,\n", *rows[31:]],
        "ragged": [*rows[:30], "1.0,2.0\n", *rows[31:]],
        "header": [],
        "classes": [f"1.0,2.0,{'ab'[i % 2]}\n" for i in range(60)],
    }
    for name, lines in tables.items():
        (data / f"{name}.csv").write_text("a,b,y\n" + "".join(lines))

    (root / "hollow").mkdir()
    for name in ("images", "corrupt", "cut", "grey", "half"):
        for i in range(6):
            image(root / name / "cat" / f"{i}.png")
            image(root / name / "dog" / f"{i}.png")
    (root / "half" / "owl").mkdir()
    (root / "corrupt" / "dog" / "3.png").write_bytes(b"no image")
    whole = (root / "cut" / "dog" / "3.png").read_bytes()
    (root / "cut" / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    image(root / "grey" / "dog" / "3.png", mode="L")
    return root


def fill(text, world, out=""):
    return string.Template(text).substitute(W=world, OUT=out)


def refused(arguments):
    """The one line that a request is refused with."""
    outcome = launch(*arguments)
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ") and len(lines[0]) < 1000
    return lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_request_is_one_line_and_writes_nothing(name, world, tmp_path, monkeypatch):
    command, says = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    before = files(world)
    arguments = shlex.split(fill(command, world))
    out = ["--out", "out"] if arguments[:1] == ["run"] and "--out" not in arguments else []
    assert fill(says, world) in refused([*arguments, *out])
    assert list(tmp_path.iterdir()) == []
    assert files(world) == before


TEXTS = [
    *("", "nan", "inf", "-inf", "1e999", "-1", "0", "1", "²", "٣", "1_", "_1", "0x10", "1.5", "1e3", "9" * 400),
    *("true", "False", "none", "null", "AdamW", "Data", "🙂", "a\nb", "*/x", "'", '"x"'),
    *("[", "]", "[]", "()", "(", ",", ",,", "1,2,", "[1", "[null]", '["a"]', '[["a"]]', '[["data", 1.5]]', "[" * 3000),
    *("{}", '{"_type"', '{"_type": 3}', '{"_type": "x"}', '{"_type": ":"}', '{"_type": "os:path"}', '{"a": 1}'),
    *('{"_type": "research.optimizers:Optimizer"}', '{"_type": "research.models.mlp:MLP", "widths": 3}'),
]
PARTS = ["model", "optimizer", "optimizer.schedule", "parallel", "preprocess", "preprocess.0", "augment.0"]
NO_PATHS = [
    "model.widths.²",
    "model.widths.-1",
    "model.widths.9",
    "",
    ".",
    " ",
    "..",
    "model.",
    "a.b.c",
    "parallel.mesh.0.1",
]


def test_any_text_for_any_path_is_a_value_or_a_request_error():
    experiment = toys.experiment(preprocess=(Scale("image"),), augment=(RandomCrop(),))
    paths = [*(path for path, _ in leaf_paths(experiment)), *PARTS, *NO_PATHS]
    refused = 0
    for path, text in itertools.product(paths, TEXTS):
        try:
            changed = held_against_types(override(experiment, {path: text}, parse=True))
            changed.check()
        except RequestError as error:
            refused += 1
            assert len(str(error)) < 1000 + len(text)
    assert 0.5 < refused / len(paths) / len(TEXTS) < 0.99


def test_there_are_at_least_sixty():
    assert len(COMMANDS) >= 60


# -- what there is already ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """The folder of a run of eight steps that has ended."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert launch("run", world / "fine.py", "--set", "steps=8", "--set", "data.validation=0", "--out", run).status == 0
    return run


TRIAL = "trials/base-s0"
SAME = "run $W/fine.py --set steps=8 --set data.validation=0 --out $OUT"
FROM = "run $W/fine.py --set init_from=$OUT --out $OUT/new"


def rewrite(path, change):
    """Changes the JSON record in a file."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps(change(record)))


def damage(run):
    """Flips bytes in the middle of every array of the checkpoints."""
    for path in run.glob(f"{TRIAL}/checkpoints/*/state/**/d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :][:8] = bytes(8)
        path.write_bytes(bytes(255 - x for x in content))


def double(run):
    shutil.copytree(run / TRIAL, run / "trials" / "base-s1")


def another_owner(run):
    lease = {"host": socket.gethostname(), "pid": os.getppid(), "time": time.time()}
    (run / "lease.json").write_text(json.dumps(lease))


CONTINUED = {
    # the folder of another run
    "another experiment": ("run $W/no_sweeps.py --set steps=8 --out $OUT", None, "holds experiment='file:$W/fine.py'"),
    "other settings": ("run $W/fine.py --set steps=5 --out $OUT", None, "holds settings={'steps': '8', "),
    "other seeds": (f"{SAME} --seeds 2", None, "holds seeds=None, asked was seeds=2"),
    "another sweep": (f"{SAME} --sweep rates", None, "holds sweep=None, asked was sweep='rates'"),
    "other pruning": (
        f"{SAME} --prune validation/loss:min",
        None,
        "holds prune=None, asked was prune='validation/loss",
    ),
    "another experiment by that name": (
        SAME,
        lambda run: rewrite(run / "sweep.json", lambda x: x | {"hash": "0" * 12}),
        "the experiment has changed since (its defaults are others now)",
    ),
    "other data by that name": (
        SAME,
        lambda run: rewrite(
            run / TRIAL / "config.json", lambda x: x["experiment"]["data"].update(examples=9) or x | {"hash": ""}
        ),
        "trial base-s0 has changed since (data.examples 9 became 160)",
    ),
    "a run that another process trains": (SAME, another_owner, "is being trained by process"),
    "no sweep.json": (SAME, lambda run: (run / "sweep.json").unlink(), "not empty and no run"),
    "half a sweep.json": (SAME, lambda run: (run / "sweep.json").write_text('{"experi'), "no readable sweep.json"),
    "empty sweep.json": (SAME, lambda run: (run / "sweep.json").write_text(""), "no readable sweep.json"),
    "binary sweep.json": (SAME, lambda run: (run / "sweep.json").write_bytes(b"\xff\x00"), "no readable sweep.json"),
    "a list for a sweep.json": (SAME, lambda run: (run / "sweep.json").write_text("[]"), "no readable sweep.json"),
    "a sweep.json without trials": (SAME, lambda run: (run / "sweep.json").write_text("{}"), "no readable sweep.json"),
    "groups of unknown trials": (
        SAME,
        lambda run: rewrite(run / "sweep.json", lambda x: x["groups"][0].update(trials=["who"]) or x),
        "no readable sweep.json",
    ),
    # starting from it
    "start from other widths": (
        f"{FROM} --set model.widths=16,9",
        None,
        "params/Dense_1/kernel is [16, 8], not [16, 9]; params/Dense_2/kernel is [8, 3], not [9, 3]",
    ),
    "start from fewer layers": (f"{FROM} --set model.widths=16,8,8", None, "params/Dense_3/bias is not there"),
    "start from more layers": (f"{FROM} --set model.widths=16", None, "params/Dense_2/bias has no place"),
    "start from several trials": (FROM, double, "holds 2 trials; trial: one of: base-s0, base-s1"),
    "start from a damaged checkpoint": (FROM, damage, "checkpoints/8: "),
    "start from no checkpoint": (FROM, lambda run: shutil.rmtree(run / TRIAL / "checkpoints"), "no checkpoint in it"),
    # looking at it
    "eval on a split that is not there": ("eval $OUT --split validation", None, "no validation split"),
    "eval as another model": (
        "eval $OUT --set model.widths=16,9",
        None,
        "the settings make another model: ['Dense_1']['bias'] is (8,) in the checkpoint and (9,) in the model",
    ),
    "eval with an unknown setting": ("eval $OUT --set task.clases=3", None, "did you mean 'classes'?"),
    "eval of a damaged checkpoint": ("eval $OUT", damage, "checkpoints/8: "),
    "eval of no checkpoint": (
        "eval $OUT",
        lambda run: shutil.rmtree(run / TRIAL / "checkpoints"),
        "no checkpoint in it",
    ),
    "eval of half a config.json": (
        "eval $OUT",
        lambda run: (run / TRIAL / "config.json").write_text('{"trial"'),
        "config.json: not readable",
    ),
    "eval of a list for a config.json": (
        "eval $OUT",
        lambda run: (run / TRIAL / "config.json").write_text("[]"),
        "config.json: not readable",
    ),
    "eval of a class that is gone": (
        "eval $OUT",
        lambda run: rewrite(
            run / TRIAL / "config.json", lambda x: x["experiment"]["model"].update(_type="toys:Mlp") or x
        ),
        "toys has no dataclass 'Mlp'; did you mean 'MLP'?",
    ),
    "eval of a field that is gone": (
        "eval $OUT",
        lambda run: rewrite(run / TRIAL / "config.json", lambda x: x["experiment"]["model"].update(depth=3) or x),
        "MLP has no field 'depth'",
    ),
    "report on half a sweep.json": ("report $OUT", lambda run: (run / "sweep.json").write_text("{"), "sweep.json"),
    "report on two without a place": ("report $OUT $OUT/../run2", double, "run2"),
}


@pytest.mark.parametrize("name", CONTINUED)
def test_a_wrong_request_of_what_is_there_changes_nothing(name, world, finished, tmp_path):
    command, change, says = CONTINUED[name]
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    if change is not None:
        change(run)
    before = files(run)
    assert fill(says, world, run) in refused(shlex.split(fill(command, world, run)))
    assert files(run) == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["unknown experiment", "syntax error", "unknown path", "nan in the data"])
def test_a_process_of_its_own_says_no_more(name, world, tmp_path):
    command, says = COMMANDS[name]
    outcome = Process(*shlex.split(fill(command, world)), "--out", tmp_path / "out").wait()
    assert outcome.status == 2 and outcome.out == ""
    assert outcome.err.count("\n") == 1 and fill(says, world) in outcome.err
    assert list(tmp_path.iterdir()) == []
