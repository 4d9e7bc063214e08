"""Kills, full disks and programs that raise: the files that remain, and how the command line continues."""

import contextlib
import os
import random
import shutil
import signal
import subprocess

import jax
import numpy as np
import pytest
from command_line import Process, files, launch, lines, quickly, read, saved_steps, state, write_module

from research.parallel.programs import Programs
from research.running import local

TRAINED = """
    import toys
    from research.training.checkpoints import Checkpoints
    from research.models.mlp import MLP
    from research.sweep import grid


    def experiment():
        return toys.experiment(
            model=MLP(widths=(16, 8), classes=3, dropout=0.1, norm="batch"),
            steps=120,
            eval_every=25,
            log_every=7,
            ema_decay=0.9,
            checkpoints=Checkpoints(every_steps=5, every_seconds=None, best="validation/loss"),
        )


    def sweeps():
        return {"rates": grid("optimizer.learning_rate", 3e-3, 3e-2)}
    """


@pytest.fixture(autouse=True, scope="module")
def quick(tmp_path_factory):
    """Leaves out figures, since these tests look at trials."""
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


def trials(run):
    return sorted((run / "trials").iterdir())


def groups(run):
    return [{key: group[key] for key in ("trials", "until", "stacked")} for group in read(run / "sweep.json")["groups"]]


def result(trial):
    """The contents of result.json without its times."""
    return {key: x for key, x in read(trial / "result.json").items() if "second" not in key}


def assert_same(run, reference):
    """Checks that two runs of the same plan agree: parameters bitwise, logs line by line, results apart from times."""
    assert groups(run) == groups(reference)
    assert [t.name for t in trials(run)] == [t.name for t in trials(reference)]
    for one, other in zip(trials(run), trials(reference), strict=True):
        jax.tree.map(np.testing.assert_array_equal, state(one), state(other))
        assert lines(one) == lines(other)
        assert result(one) == result(other)
        assert saved_steps(one)[-1] == saved_steps(other)[-1]


# -- kills -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["on", "off"])
def uninterrupted(request, tmp_path_factory):
    """(arguments, run) of an uninterrupted run of two trials, stacked or one after another."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    module = write_module(folder / "mine.py", TRAINED)
    arguments = ("run", module, "--sweep", "rates", "--stack", request.param, "--out")
    with pytest.MonkeyPatch.context() as patch:
        # Later processes find the programs that this one compiles.
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        outcome = Process(*arguments, folder / "run").wait()
        assert outcome.status == 0, outcome
        yield arguments, folder / "run"


def checkpoint_names(run):
    """The checkpoints of all trials, including unfinished ones, whose names are longer."""
    found = set()
    for folder in run.glob("trials/*/checkpoints"):
        with contextlib.suppress(FileNotFoundError):
            found |= {f"{folder.parent.name}/{name}" for name in os.listdir(folder)}
    return found


def kill_once(generator, moment, arguments, run):
    """Starts the run and kills it at a random time of a moment: (its outcome, True if it was writing a checkpoint)."""
    before = checkpoint_names(run)
    process = Process(*arguments, run)
    if moment == "starting":
        outcome = process.signal_when(lambda: True, signal.SIGKILL, after=generator.uniform(0, 6))
    else:

        def written():
            new = checkpoint_names(run) - before
            unfinished = sum("tmp" in name for name in new)
            # Stacked trials continue from a checkpoint that all of them have.
            return unfinished > 0 if moment == "writing" else len(new) - unfinished >= 2

        wait = generator.uniform(0, 0.01 if moment == "writing" else 0.15)
        outcome = process.signal_when(written, signal.SIGKILL, after=wait)
    return outcome, any("tmp" in name for name in checkpoint_names(run))


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(uninterrupted, tmp_path):
    """Five moments for each way of stacking."""
    arguments, reference = uninterrupted
    generator = random.Random(arguments[5])
    kills = torn = continued = 0
    for attempt in range(5):
        run = tmp_path / f"run{attempt}"
        while kills < 5:
            moment = ("training", "writing", "starting")[kills % 3]
            outcome, was_writing = kill_once(generator, moment, arguments, run)
            continued += "continues at step" in outcome.err
            assert "Traceback" not in outcome.err
            if outcome.status == 0:
                break
            assert outcome.status == -signal.SIGKILL, outcome
            kills, torn = kills + 1, torn + was_writing
        outcome = Process(*arguments, run).wait()
        assert outcome.status == 0 and "Traceback" not in outcome.err, outcome
        assert not any("tmp" in name for name in checkpoint_names(run))
        assert_same(run, reference)
        if kills == 5:
            break
    assert kills == 5 and torn >= 1 and continued >= 2


@pytest.mark.slow
def test_sigterm_saves_and_says_where(uninterrupted, tmp_path):
    arguments, reference = uninterrupted
    run = tmp_path / "run"
    generator = random.Random(1)

    def another_is_refused():
        if not any("tmp" not in name for name in checkpoint_names(run)):
            return False
        second = launch(*arguments, run)
        assert second.status == 2 and "is being trained by process" in second.err
        return True

    process = Process(*arguments, run)
    outcome = process.signal_when(another_is_refused, signal.SIGTERM, after=generator.uniform(0, 0.05))
    assert outcome.status == 1 and outcome.out == "" and "Traceback" not in outcome.err, outcome
    last = outcome.err.splitlines()[-1]
    assert last.startswith("stopped at step ") and last.endswith("; the same command continues from there")
    step = int(last.split(";")[0].split()[-1])
    assert step in {saved_steps(trial)[-1] for trial in trials(run) if saved_steps(trial)}
    assert step > 0 and not (run / "lease.json").exists()
    outcome = Process(*arguments, run).wait()
    assert outcome.status == 0 and f"continues at step {step}" in outcome.err
    assert_same(run, reference)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A small experiment with sweeps, and a switch that makes one of its models raise."""
    return write_module(
        tmp_path_factory.mktemp("module") / "mine.py",
        """
        import pathlib

        import jax
        import numpy as np
        import toys
        from flax import linen as nn
        from research.training.checkpoints import Checkpoints
        from research.models.mlp import MLP
        from research.sweep import ablation, grid, product


        def raises_while_broken(x):
            if (pathlib.Path(__file__).parent / "broken").exists():
                raise RuntimeError("the device caught fire\\nand burns")
            return x


        class Net(MLP):
            fragile: bool = False

            @nn.compact
            def __call__(self, x, *, train=False):
                if self.fragile and train:
                    factor = jax.pure_callback(
                        raises_while_broken,
                        jax.ShapeDtypeStruct((), x.dtype),
                        np.ones((), x.dtype),
                        vmap_method="expand_dims",
                    )
                    x = x * jax.lax.stop_gradient(factor)
                return super().__call__(x, train=train)


        def experiment():
            return toys.experiment(
                model=Net(widths=(8,), classes=3),
                steps=18,
                eval_every=None,
                log_every=2,
                checkpoints=Checkpoints(every_steps=6, every_seconds=None, keep=9),
            )


        def sweeps():
            return {
                "fragile": ablation({}, {"fragile": {"model.fragile": True}}, name="solid"),
                "widths": ablation({}, {"wide": {"model.widths": (12,)}}, name="narrow"),
                "steps": product(grid("steps", 12, 18), grid("optimizer.learning_rate", 1e-3, 1e-2)),
                "rates": grid("optimizer.learning_rate", *np.geomspace(1e-4, 3e-2, 10).tolist()),
                "steep": grid("optimizer.learning_rate", 1e-3, 1e38, 1e-2),
                "flat": grid("optimizer.learning_rate", 1e-3, 1e-3 / 2, 1e-2),
            }
        """,
    )


def stopping_after(monkeypatch, calls):
    """Simulates a signal at the launcher's n-th check."""
    left = [calls]

    def stop():
        left[0] -= 1
        return left[0] < 0

    @contextlib.contextmanager
    def signals():
        yield stop

    monkeypatch.setattr(local, "stopping_signals", signals)


def test_an_interrupt_at_once_is_one_word_and_gives_the_folder_back(module, tmp_path, monkeypatch):
    arguments = ("run", module, "--out", tmp_path / "run")
    assert launch(*arguments[:2], "--out", tmp_path / "whole").status == 0
    train = Programs.train

    def interrupted(self, state, feeds):
        if int(np.ravel(self.placement.whole(state).step)[0]) >= 12:
            raise KeyboardInterrupt
        return train(self, state, feeds)

    monkeypatch.setattr(Programs, "train", interrupted)
    outcome = launch(*arguments)
    assert outcome.status == 130 and outcome.err.splitlines()[-1] == "interrupted"
    assert not (tmp_path / "run" / "lease.json").exists()
    monkeypatch.undo()
    assert launch(*arguments).status == 0
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_report_that_cannot_be_written_takes_nothing_from_the_results(module, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".hidden").touch()
    with monkeypatch.context() as patch:
        patch.setattr("research.report.write.html.to_html", lambda *_: 1 / 0)
        outcome = launch("run", module, "--out", run)
    assert outcome.status == 0
    assert outcome.err.splitlines()[-1] == "the report cannot be made: ZeroDivisionError: division by zero"
    shutil.rmtree(run / "report")
    (run / "report").write_text("a file")
    outcome = launch("run", module, "--out", run)
    assert outcome.status == 0 and "base" in outcome.out
    told = outcome.err.splitlines()[-1]
    assert told.startswith("the report cannot be written: FileExistsError")
    assert told.endswith(f"choose another place: python -m launch report {run} --out DIR")
    assert read(run / "trials" / "base-s0" / "result.json")["status"] == "finished"
    assert launch("report", run, "--out", tmp_path / "elsewhere").status == 0


# -- continuing --------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_only_reported_again(module, tmp_path, monkeypatch):
    arguments = ("run", module, "--sweep", "widths", "--out", tmp_path / "run")
    first = launch(*arguments)
    shutil.rmtree(tmp_path / "run" / "report")
    before = files(tmp_path / "run")

    def never(*_):
        raise AssertionError("a finished run was trained")

    monkeypatch.setattr(Programs, "init", never)
    second = launch(*arguments)
    assert (second.status, second.out) == (first.status, first.out) == (0, first.out)
    after = files(tmp_path / "run")
    assert {name: x for name, x in after.items() if not name.startswith("report/")} == before
    assert "report/table.md" in after and "report/report.html" in after


@pytest.mark.parametrize(
    ("sweep", "more", "every"),
    [
        ("steps", ("--stack", "on"), 4),
        ("rates", ("--stack", "on", "--prune", "validation/loss"), 3),
        pytest.param("rates", ("--stack", "off", "--prune", "validation/accuracy:max"), 11, marks=pytest.mark.slow),
    ],
)
def test_stopped_again_and_again_a_sweep_ends_the_same(module, tmp_path, monkeypatch, sweep, more, every):
    """Includes groups of several lengths, and pruned trials."""
    arguments = ("run", module, "--sweep", sweep, "--set", "parallel.steps_per_call=2", *more, "--out")
    assert launch(*arguments, tmp_path / "whole").status == 0
    stops = 0
    while True:
        stopping_after(monkeypatch, every)
        outcome = launch(*arguments, tmp_path / "parts")
        if outcome.status == 0:
            break
        stops += 1
        assert outcome.status == 1 and outcome.err.splitlines()[-1].startswith("stopped at step "), outcome
        assert stops < 60
    assert stops >= 2
    assert_same(tmp_path / "parts", tmp_path / "whole")
    if "--prune" in more:
        pruned = [read(trial / "result.json").get("pruned_at_step") for trial in trials(tmp_path / "whole")]
        assert sorted(pruned, key=str) == [2] * 6 + [6] * 2 + [None] * 2


def test_pruning_keeps_the_best_of_each_rung(module, tmp_path):
    run = tmp_path / "run"
    arguments = ("run", module, "--sweep", "rates", "--stack", "on", "--prune", "validation/loss:min", "--out", run)
    assert launch(*arguments).status == 0
    assert [(group["until"], len(group["trials"])) for group in groups(run)] == [(2, 10), (6, 4), (18, 2)]
    alive = trials(run)
    for rung, count in ((2, 4), (6, 2)):
        scores = {t.name: r["loss"] for t in alive for r in lines(t, "validation") if r["step"] == rung}
        best = sorted(scores, key=scores.get)[:count]
        gone = [t for t in alive if t.name not in best]
        for trial in gone:
            ended = read(trial / "result.json")
            assert ended["status"] == "finished" and ended["steps"] == ended["pruned_at_step"] == rung
            assert ended["metrics"] == {"validation/loss": scores[trial.name]}
            assert lines(trial)[-1]["step"] == rung and lines(trial, "test") == []
        alive = [t for t in alive if t.name in best]
    assert all("test/loss" in read(trial / "result.json")["metrics"] for trial in alive)
    assert "pruned" in (run / "report" / "table.md").read_text()


# -- trials that fail --------------------------------------------------------------------------------------------------


def test_one_that_fails_leaves_the_others_and_is_tried_again(module, tmp_path):
    switch = module.parent / "broken"
    arguments = ("run", module, "--sweep", "fragile", "--seeds", "2", "--stack", "off", "--out")
    assert launch(*arguments, tmp_path / "whole").status == 0
    switch.touch()
    outcome = launch(*arguments, tmp_path / "run")
    assert outcome.status == 1 and "Traceback" not in outcome.err
    said = [line for line in outcome.err.splitlines() if line.startswith("fragile")]
    assert len(said) == 4 and all("failed: " in line and "the device caught fire" in line for line in said)
    assert "failed" in outcome.out
    solid = tmp_path / "run" / "trials" / "solid-s0", tmp_path / "run" / "trials" / "solid-s1"
    for trial in solid:
        jax.tree.map(np.testing.assert_array_equal, state(trial), state(tmp_path / "whole" / "trials" / trial.name))
    broken = tmp_path / "run" / "trials" / "fragile-s1"
    assert read(broken / "result.json")["status"] == "failed"
    assert "raises_while_broken" in (broken / "error.txt").read_text()
    before = [files(trial) for trial in solid]
    assert launch(*arguments, tmp_path / "run").status == 1
    switch.unlink()
    outcome = launch(*arguments, tmp_path / "run")
    assert outcome.status == 0 and "solid" not in outcome.err
    assert [files(trial) for trial in solid] == before
    assert not (broken / "error.txt").exists()
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("stack", ["on", "off"])
def test_one_that_diverges_is_a_result(module, tmp_path, stack):
    run = tmp_path / "run"
    arguments = ("run", module, "--stack", stack, "--out")
    outcome = launch(*arguments, run, "--sweep", "steep")
    assert outcome.status == 0
    diverged, *others = sorted(trials(run), key=lambda t: "e+38" not in t.name)
    ended = read(diverged / "result.json")
    assert ended["status"] == "diverged" and ended["error"].endswith(f"not finite at step {ended['steps']}")
    assert f"{diverged.name}: diverged: {ended['error']}" in outcome.err.splitlines()
    assert "diverged" in (run / "report" / "table.md").read_text()
    assert launch(*arguments, tmp_path / "flat", "--sweep", "flat").status == 0
    for trial in others:
        jax.tree.map(np.testing.assert_array_equal, state(trial), state(tmp_path / "flat" / "trials" / trial.name))
    before = files(run / "trials")
    assert launch(*arguments, run, "--sweep", "steep").status == 0
    assert files(run / "trials") == before


@pytest.mark.parametrize("moment", ["planning", "training"])
def test_a_program_that_cannot_be_compiled_fails_its_group_alone(module, tmp_path, monkeypatch, moment):
    compiled = Programs.train_program

    def out_of_memory(self, state, sent):
        if state.params["Dense_0"]["kernel"].shape[-1] == 12:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return compiled(self, state, sent)

    monkeypatch.setattr(Programs, "train_program", out_of_memory)
    stack = {"planning": "auto", "training": "off"}[moment]
    outcome = launch("run", module, "--sweep", "widths", "--seeds", "2", "--stack", stack, "--out", tmp_path / "run")
    assert outcome.status == 1 and "Traceback" not in outcome.err
    statuses = {t.name: read(t / "result.json")["status"] for t in trials(tmp_path / "run")}
    assert statuses == {"narrow-s0": "finished", "narrow-s1": "finished", "wide-s0": "failed", "wide-s1": "failed"}
    monkeypatch.undo()
    assert (
        launch("run", module, "--sweep", "widths", "--seeds", "2", "--stack", stack, "--out", tmp_path / "run").status
        == 0
    )


# -- a full disk -------------------------------------------------------------------------------------------------------

FAT = ("--set", "model.widths=256,256", "--set", "steps=60", "--set", "checkpoints.keep=99")
"""Checkpoints of about 0.9 MB, ten of them."""


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs the right to mount a small disk: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_fails_the_trial_in_a_line_and_leaves_what_was_saved(module, small_disk, tmp_path):
    run = small_disk / "run"
    arguments = ("run", module, "--sweep", "fragile", "--stack", "off", *FAT, "--out")
    outcome = launch(*arguments, run)
    assert outcome.status == 1
    for name in ("solid-s0", "fragile-s0"):
        said = {line for line in outcome.err.splitlines() if line.startswith(f"{name}: failed: ")}
        assert len(said) == 1 and "[Errno 28] No space left on device (0." in said.pop()
    steps = saved_steps(run / "trials" / "solid-s0")
    assert len(steps) >= 2
    assert [state(run / "trials" / "solid-s0", step)["step"] for step in steps] == steps
    # With more space, it continues from there.
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    outcome = launch(*arguments, run)
    assert outcome.status == 0 and f"solid-s0: continues at step {steps[-1]}" in outcome.err, outcome.err
    assert launch(*arguments, tmp_path / "whole").status == 0
    assert_same(run, tmp_path / "whole")


def test_a_disk_that_is_full_before_the_start(module, small_disk):
    with contextlib.suppress(OSError):
        for i in range(2000):
            (small_disk / f"ballast{i}").write_bytes(b"0" * 4096)
    outcome = launch("run", module, "--out", small_disk / "run")
    assert outcome.status == 2 and outcome.err.count("\n") == 1, outcome
    assert "cannot be written to: OSError: [Errno 28] No space left on device" in outcome.err
    assert not (small_disk / "run").exists()


@pytest.mark.slow
def test_a_write_that_fails_half_way_is_a_line_in_a_process_of_its_own(module, tmp_path):
    """The free space is unknown, as under a quota: files of more than 200 kB cannot be written."""
    run = tmp_path / "run"
    arguments = ("run", module, *FAT, "--seeds", "2", "--out", run)
    outcome = Process(*arguments, before=("prlimit", "--fsize=200000")).wait()
    assert outcome.status == 1 and "Traceback" not in outcome.err, outcome.err
    for name in ("base-s0", "base-s1"):
        said = {line for line in outcome.err.splitlines() if line.startswith(f"{name}: failed: ")}
        assert len(said) == 1 and "File too large" in said.pop(), outcome.err
        assert read(run / "trials" / name / "result.json")["status"] == "failed"
    assert len([line for line in outcome.err.splitlines() if "File too large" in line]) <= 6
    assert launch(*arguments).status == 0
