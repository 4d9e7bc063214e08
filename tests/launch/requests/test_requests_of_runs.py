"""Wrong requests for finished runs, complete or damaged: each gives one line and leaves the run unchanged."""

import json
import os
import shlex
import shutil
import socket
import time

import pytest
from command_line import files, fill, refused

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
    "other seeds": (f"{SAME} --seeds 2", None, "holds seeds=None, but seeds=2 was requested"),
    "another sweep": (f"{SAME} --sweep rates", None, "holds sweep=None, but sweep='rates' was requested"),
    "other pruning": (
        f"{SAME} --prune validation/loss:min",
        None,
        "holds prune=None, but prune='validation/loss",
    ),
    "another experiment by that name": (
        SAME,
        lambda run: rewrite(run / "sweep.json", lambda x: x | {"hash": "0" * 12}),
        "the experiment has changed since (its defaults have changed)",
    ),
    "other data by that name": (
        SAME,
        lambda run: rewrite(
            run / TRIAL / "config.json", lambda x: x["experiment"]["data"].update(examples=9) or x | {"hash": ""}
        ),
        "trial base-s0 has changed since (data.examples 9 became 160)",
    ),
    "a run that another process trains": (SAME, another_owner, "is being trained by process"),
    "no sweep.json": (SAME, lambda run: (run / "sweep.json").unlink(), "not empty and not a run"),
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
    "start from fewer layers": (f"{FROM} --set model.widths=16,8,8", None, "params/Dense_3/bias is missing"),
    "start from more layers": (f"{FROM} --set model.widths=16", None, "params/Dense_2/bias is not in the model"),
    "start from several trials": (FROM, double, "holds 2 trials; trial: one of: base-s0, base-s1"),
    "start from a damaged checkpoint": (FROM, damage, "checkpoints/8: "),
    "start from no checkpoint": (FROM, lambda run: shutil.rmtree(run / TRIAL / "checkpoints"), "no checkpoint in it"),
    # looking at it
    "eval by an evaluation that is not there": ("eval $OUT --split tets", None, "'tets'; did you mean 'test'?"),
    "eval on a split that is not there": ("eval $OUT --split validation", None, "no validation split"),
    "eval as another model": (
        "eval $OUT --set model.widths=16,9",
        None,
        "the settings change the model: ['Dense_1']['bias'] is (8,) in the checkpoint and (9,) in the model",
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
        "config.json: not readable as the record",
    ),
    "eval of a list for a config.json": (
        "eval $OUT",
        lambda run: (run / TRIAL / "config.json").write_text("[]"),
        "config.json: not readable as the record",
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
