"""Wrong requests: each gives exit status 2 and one line that says what is wrong, before anything is written."""

import itertools
import shlex

import pytest
import toys
from command_line import Process, files, fill, refused

from research.config.override import conformed, leaf_paths, override
from research.data.augment.augmentation import RandomCrop
from research.data.transforms import Scale
from research.errors import RequestError

COMMANDS = {
    # the request itself
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
    "experiment gives something else": ("run $W/a_dict.py", "experiment() returns a dict, not an Experiment"),
    "experiment raises": ("run $W/raises.py", "raises.py, line 5: TypeError: "),
    # sweeps and seeds
    "unknown sweep": ("run $W/fine.py --sweep rate", "--sweep rate: no such sweep; did you mean 'rates'?"),
    "a sweep where there is none": ("run $W/no_sweeps.py --sweep a", "--sweep a: no such sweep; there is none"),
    "sweeps raise": ("run $W/sweeps_raise.py --sweep a", "sweeps_raise.py, line 9: NameError: name 'missing'"),
    "sweeps give a list": ("run $W/sweeps_list.py --sweep a", "sweeps() returns a list"),
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
    "pruning by nothing": ("run $W/fine.py --prune loss", "--prune loss: expected a metric of an evaluation"),
    "pruning by the test split": ("run $W/fine.py --prune test/loss:min", "expected a metric of an evaluation"),
    "pruning too few": (
        "run $W/fine.py --seeds 3 --prune validation/loss:min",
        "leave nothing to prune; expected at least 4 trials",
    ),
    "pruning against the task": (
        "run $W/fine.py --sweep rates --seeds 2 --prune validation/loss:max",
        "--prune validation/loss:max: the task declares min as best",
    ),
    "pruning by what has no direction": (
        "run $W/fine.py --sweep rates --seeds 2 --prune validation/losses",
        "Classification does not declare whether a lower or higher losses is better; did you mean 'loss'?",
    ),
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
    "an activation's other name": ("run $W/fine.py --set model.activation=swish", "did you mean 'silu'?"),
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
    "best by the test split": ("run $W/fine.py --set checkpoints.best=test/loss", "a metric of an evaluation"),
    "best without a validation split": (
        "run $W/fine.py --set data.validation=0 --set checkpoints.best=validation/loss",
        "no validation split",
    ),
    "a rule that matches nothing": (
        'run $W/fine.py --set \'parallel.rules=[["*/kernl", ["data"]]]\'',
        "parallel.rules='*/kernl': matches none of",
    ),
    "pmap with shards": ("run $W/fine.py --set parallel.shard=fsdp --set parallel.strategy=pmap", "no shard; use jit"),
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
    "a function of ours with a mistake": ("run $W/our_function.py", "our_function.py, line 7: TypeError: "),
    "model that divides by zero": ("run $W/divides.py", "divides.py, line 17: ZeroDivisionError: "),
    "a setting that divides by zero": (
        "run $W/divides_when_set.py --set task.shares=0",
        "divides_when_set.py, line 12: ZeroDivisionError: ",
    ),
    "task that cannot be scored": ("run $W/only_when_scored.py", "only_when_scored.py, line 7: KeyError: 'labels'"),
    "data that raise": ("run $W/data_raises.py", "data_raises.py, line 6: KeyError: 'train'"),
    # model, task and data that do not fit together
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
        'run $W/fine.py --set \'augment=[{"_type": "research.data.augment.augmentation:RandomCrop"}]\'',
        "RandomCrop: 'image' is [4, 3] per example; expected an image [height, width, channels]",
    ),
    # data
    "unknown set of scikit-learn": ("run digits_mlp --set data.name=digit", "did you mean 'digits'?"),
    "validation beyond the data": ("run digits_mlp --set data.validation=5000", "validation=5000: expected"),
    "negative share": ("run digits_mlp --set data.validation=-0.5", "data.validation=-0.5: expected a fraction"),
    "more examples than there are": ("run digits_mlp --set data.train_examples=9999", "the training split has"),
    "unprepared set": ("run $W/prepared.py", "python -m research.data.sources.tfds prepare fashion_mnist"),
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
    "out holds something else": ("run $W/fine.py --out $W/images", "not empty and not a run"),
    "report on nothing": ("report $W/nothing", "no such folder; expected one that"),
    "report on no run": ("report $W/images", "not a run, since it has no sweep.json"),
    "report on two without a place": ("report $W/images $W/hollow", "not a run"),
    "report without a folder": ("report", "arguments are required: DIR"),
    "eval of nothing": ("eval $W/nothing", "no run there"),
    "eval of an empty folder": ("eval $W/hollow", "no run there"),
    "start from nothing": ("run $W/fine.py --set init_from=$W/nothing", "nothing: no run there"),
    "start from no run": ("run $W/fine.py --set init_from=$W/images", "images: no run there"),
}


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
            changed = conformed(override(experiment, {path: text}, parse=True))
            changed.check()
        except RequestError as error:
            refused += 1
            assert len(str(error)) < 1000 + len(text)
    assert 0.5 < refused / len(paths) / len(TEXTS) < 0.99


def test_there_are_at_least_sixty():
    assert len(COMMANDS) >= 60


@pytest.mark.parametrize("name", ["unknown experiment", "syntax error", "unknown path", "nan in the data"])
def test_a_process_of_its_own_says_no_more(name, world, tmp_path):
    command, says = COMMANDS[name]
    outcome = Process(*shlex.split(fill(command, world)), "--out", tmp_path / "out").wait()
    assert outcome.status == 2 and outcome.out == ""
    assert outcome.err.count("\n") == 1 and fill(says, world) in outcome.err
    assert list(tmp_path.iterdir()) == []
