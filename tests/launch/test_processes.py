"""Several processes that train together: the same results as one, on any number of them, and nothing lost by a kill."""

import random
import shutil
import signal

import numpy as np
import pytest
from command_line import lines, read, saved_steps, state, write_module
from families import FAMILIES
from processes import Processes

from research import paths

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Processes find the programs that others have compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


def module_of(folder, family="mlp", changes=""):
    return write_module(
        folder / f"{family}.py",
        f"""
        import families
        from research.sweep import grid


        def experiment():
            return families.experiment({family!r}{changes})


        def sweeps():
            return {{"rates": grid("optimizer.learning_rate", 3e-3, 3e-2)}}
        """,
    )


def train(folder, count, devices, module, out, *options):
    outcomes = Processes(folder / f"io{out.name}{count}", count, devices, "run", module, "--out", out, *options).wait()
    assert [outcome.status for outcome in outcomes] == [0] * count, outcomes
    assert f"{count} processes, {count * devices} devices" in outcomes[0].err or count == 1
    assert all("report" not in outcome.out for outcome in outcomes[1:])  # process 0 reports for all; gloo prints too
    return outcomes


def trials(run):
    return sorted((run / "trials").iterdir())


def assert_close(run, reference, atol=1e-5):
    """Compares every line of the metrics, and the last parameters."""
    assert [trial.name for trial in trials(run)] == [trial.name for trial in trials(reference)]
    for trial, other in zip(trials(run), trials(reference), strict=True):
        ours, theirs = lines(trial), lines(other)
        assert [(x["step"], x["split"], x.keys()) for x in ours] == [(x["step"], x["split"], x.keys()) for x in theirs]
        for one, its in zip(ours, theirs, strict=True):
            for name in one.keys() - {"split"}:
                assert one[name] == pytest.approx(its[name], abs=atol, rel=1e-4), (trial.name, one["step"], name)
        params = [paths.flatten(state(x)["params"]) for x in (trial, other)]
        for name in params[0]:
            np.testing.assert_allclose(params[0][name], params[1][name], atol=10 * atol, err_msg=name)
        assert read(trial / "result.json")["status"] == "finished"


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_train_like_one(family, tmp_path):
    module = module_of(tmp_path, family)
    train(tmp_path, 1, 8, module, tmp_path / "one")
    train(tmp_path, 2, 4, module, tmp_path / "two")
    assert_close(tmp_path / "two", tmp_path / "one")


def test_another_number_of_processes_continues(tmp_path):
    module = module_of(tmp_path)
    whole = tmp_path / "whole"
    train(tmp_path, 1, 8, module, whole)
    for before, after, layout in ((1, 4, ()), (2, 1, ("--set", "data.storage=host"))):
        run = tmp_path / f"from{before}to{after}"
        train(tmp_path, before, 8 // before, module, run, *layout)
        (trial,) = trials(run)
        assert saved_steps(trial)[-1] == 50
        shutil.rmtree(trial / "checkpoints" / "50")  # as if all had been killed before the last save
        (trial / "result.json").unlink()
        outcomes = train(tmp_path, after, 8 // after, module, run, *layout)
        assert any("continues at step 40" in outcome.err for outcome in outcomes)
        assert_close(run, whole)


def test_trials_train_side_by_side(tmp_path):
    module = module_of(tmp_path)
    arguments = ("--sweep", "rates", "--stack", "on")
    train(tmp_path, 1, 8, module, tmp_path / "one", *arguments)
    train(tmp_path, 2, 4, module, tmp_path / "two", *arguments)
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(module, run) of two processes that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    module = module_of(folder, changes=", steps=400, log_every=50, eval_every=100")
    train(folder, 2, 2, module, folder / "run")
    return module, folder / "run"


def disturbed(undisturbed, folder, number, kills, seed):
    """Signals one of two processes at random moments, starts both again, and compares the end."""
    module, reference = undisturbed
    generator, run = random.Random(seed), folder / "run"
    for attempt in range(kills + 1):
        processes = Processes(folder / f"io{attempt}", 2, 2, "run", module, "--out", run)
        if attempt == kills:
            outcomes = processes.wait()
            assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
            break
        victim, after = generator.randrange(2), generator.uniform(0, 20)
        outcomes, seconds = processes.signal_when(lambda: "2 processes" in processes.errors(0), victim, number, after)  # noqa: B023
        # A signal before training has begun ends the process that gets it.
        assert {outcome.status for outcome in outcomes} <= {0, 75, -number}, outcomes
        assert seconds < 60, outcomes
        assert {read(result)["status"] for result in run.glob("trials/*/result.json")} <= {"finished"}, outcomes
    assert_close(run, reference, atol=0)


def test_killed_processes_lose_nothing(undisturbed, tmp_path):
    disturbed(undisturbed, tmp_path, signal.SIGKILL, kills=2, seed=0)


def test_a_signal_to_one_process_saves_on_all(undisturbed, tmp_path):
    disturbed(undisturbed, tmp_path, signal.SIGTERM, kills=1, seed=1)


def test_a_process_without_the_others_says_who_is_missing(tmp_path):
    module = module_of(tmp_path)
    (outcome,) = Processes(tmp_path / "io", 1, 1, "run", module, "--processes", 2, "--process", 0).wait()
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert "would train alone: expected --coordinator HOST:PORT too" in outcome.err
