"""Several processes that train together: the same results as one, and nothing lost by a kill or a signal."""

import random
import signal

import pytest
from command_line import read, write_module
from processes import Processes, assert_close, disturb, free_port

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


def disturbed(undisturbed, folder, number, seed, moments):
    """Signals each of two processes at a random moment, starts both again, and compares the end."""
    module, reference = undisturbed
    generator, run = random.Random(seed), folder / "run"
    for attempt, most in enumerate(moments):
        once = disturb(folder / f"io{attempt}", attempt % 2, number, generator, "run", module, "--out", run, most=most)
        assert {read(result)["status"] for result in run.glob("trials/*/result.json")} <= {"finished"}, once
        assert not (run / "lease.json").exists(), once  # so that another host need not wait until it expires
    train(folder, 2, 2, module, run)
    assert_close(run, reference, atol=0)


def test_killed_processes_lose_nothing(undisturbed, tmp_path):
    disturbed(undisturbed, tmp_path, signal.SIGKILL, 0, moments=(20.0, 20.0))


def test_a_signal_to_one_process_saves_on_all(undisturbed, tmp_path):
    disturbed(undisturbed, tmp_path, signal.SIGTERM, 1, moments=(0.0, 20.0))


LATE = """
import sys, time, jax
from research.parallel import hosts
from research.parallel.link import Link

count, number, coordinator = (sys.argv[sys.argv.index(name) + 1] for name in sys.argv if name.startswith("--"))
hosts.start(int(count), int(number), coordinator)
if sys.argv[1] == "unwaited":
    Link.wait_until_left = lambda link: None
shutdown = jax.distributed.shutdown
jax.distributed.shutdown = lambda: (time.sleep(2 * int(number)), shutdown())
hosts.end(3)
sys.exit(3)
"""


@pytest.mark.parametrize("waits", ["waited", "unwaited"])
def test_a_process_that_is_late_to_leave_ends_with_its_own_status(tmp_path, waits):
    outcomes = Processes(tmp_path, 2, 1, waits, program=("-c", LATE)).wait()
    assert [outcome.status for outcome in outcomes] == [3, 3], outcomes
    assert "Terminating process" not in outcomes[1].err or waits == "unwaited"


def test_a_process_that_would_train_alone_is_refused(tmp_path):
    module = module_of(tmp_path)
    (outcome,) = Processes(tmp_path / "io", 1, 1, "run", module, "--processes", 2, "--process", 0).wait()
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert "would train alone: expected --coordinator HOST:PORT too" in outcome.err


def test_a_process_that_waits_says_for_which_and_ends_when_asked(tmp_path):
    joining = ("--processes", 2, "--process", 0, "--coordinator", f"localhost:{free_port()}")
    alone = Processes(tmp_path / "io", 1, 1, "run", module_of(tmp_path), *joining)
    line = "process 0 of 2 waits for process 1\n"
    (outcome,), seconds = alone.signal_when(lambda: line in alone.errors(0), 0, signal.SIGTERM)
    assert outcome.status == 75 and seconds < 10
    assert outcome.err == line + "asked to end; start the same command in all processes again\n"
