"""Leases: one launcher at a time writes to a run's folder, also if it is suspended and another one takes over."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import TESTS, files, launch, lines, quickly, read, write_module

from research.errors import RequestError
from research.parallel.programs import Programs
from research.running import lease as leases
from research.running.lease import LEASE_SECONDS, Lease, LeaseLost


@pytest.fixture(autouse=True, scope="module")
def quick(tmp_path_factory):
    """Leaves out figures, since these tests look at leases."""
    with quickly(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return write_module(
        tmp_path_factory.mktemp("module") / "mine.py",
        """
        import toys
        from research.training.checkpoints import Checkpoints


        def experiment():
            only_at_the_end = Checkpoints(every_steps=None, every_seconds=None)
            return toys.experiment(steps=18, eval_every=None, log_every=2, checkpoints=only_at_the_end)
        """,
    )


def held_by(**changes):
    return json.dumps({"host": socket.gethostname(), "pid": os.getppid(), **changes})


def renewed(path, seconds_ago):
    os.utime(path, (time.time() - seconds_ago,) * 2)


@pytest.fixture(scope="module")
def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("content", "seconds_ago", "taken_over"),
    [
        (lambda dead: held_by(), 9, False),
        (lambda dead: held_by(host="elsewhere", pid=1), 9, False),
        (lambda dead: held_by(processes="pid:[1]", pid=dead), 9, False),
        (lambda dead: held_by(pid=dead), 9, True),
        (lambda dead: held_by(), 90, True),
        (lambda dead: held_by(host="elsewhere"), 90, True),
        (lambda dead: held_by(host="elsewhere", time=0), 9, False),
        (lambda dead: "", 9, True),
        (lambda dead: "", 0, False),
        (lambda dead: '{"host"', 9, True),
        (lambda dead: "[]", 9, True),
        (lambda dead: "{}", 9, True),
        (lambda dead: held_by(pid="me"), 9, True),
        (lambda dead: held_by(pid="me"), 0, False),
    ],
)
def test_a_lease_holds_while_its_owner_lives(tmp_path, dead_pid, content, seconds_ago, taken_over):
    """Process numbers count on their own host and in their own container only, and clocks of hosts never."""
    (tmp_path / "lease.json").write_text(content(dead_pid))
    renewed(tmp_path / "lease.json", seconds_ago)
    before = files(tmp_path)
    if taken_over:
        with Lease(tmp_path) as lease:
            lease.check()
            assert read(tmp_path / "lease.json")["pid"] == os.getpid()
        assert files(tmp_path) == {}
    else:
        with pytest.raises(RequestError, match="is being trained by process|another launcher has just started"):
            Lease(tmp_path).__enter__()
        assert files(tmp_path) == before


def test_a_process_that_knows_the_token_gives_up_the_lease(tmp_path):
    with Lease(tmp_path, token="ours") as lease:
        Lease(tmp_path, token="another").give_up()
        lease.check()
        Lease(tmp_path, token="ours").give_up()
        assert files(tmp_path) == {}
        with pytest.raises(LeaseLost, match=r"its lease\.json is gone"):
            lease.check()
        with Lease(tmp_path) as next_one:
            next_one.check()


def test_clocks_of_two_hosts_may_differ_by_minutes(tmp_path, monkeypatch):
    with Lease(tmp_path):
        (tmp_path / "lease.json").write_text(held_by(host="elsewhere"))
        for other in (time.time() - 600, time.time() + 600):
            monkeypatch.setattr(time, "time", lambda other=other: other)
            with pytest.raises(RequestError, match="on elsewhere"):
                Lease(tmp_path).__enter__()
            monkeypatch.undo()


def test_renewing_keeps_a_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "NOTICED_SECONDS", 0.01)
    monkeypatch.setattr(leases, "RENEWED_SECONDS", 0.02)
    with Lease(tmp_path) as lease:
        lease.check()
        renewed(tmp_path / "lease.json", 90)
        lease.check()
        started = time.time()
        while (tmp_path / "lease.json").stat().st_mtime < started - 5:
            assert time.time() < started + 10
            time.sleep(0.005)
        lease.check()
        (tmp_path / "lease.json").write_text(held_by(host="elsewhere"))
        with pytest.raises(LeaseLost, match="on elsewhere has taken over this run"):
            lease.check()


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    with Lease(tmp_path) as lease:
        lease.check()
        assert read(tmp_path / "lease.json")["pid"] == os.getpid()
        assert list(files(tmp_path)) == ["lease.json"]
    assert files(tmp_path) == {}


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lost_lease_is_noticed_and_the_new_one_left_alone(tmp_path, replaced):
    with Lease(tmp_path) as lease:
        lease.check()
        (tmp_path / "lease.json").unlink()
        if replaced:
            (tmp_path / "lease.json").write_text(held_by(host="elsewhere", pid=7))
        says = "process 7 on elsewhere has taken over this run" if replaced else "lease.json is gone"
        with pytest.raises(LeaseLost, match=says):
            lease.check()
        before = files(tmp_path)
    assert files(tmp_path) == before


class Shop:
    """An object store, as far as leases use it: no links, no locks, no times of its own."""

    def __init__(self):
        self.content, self.waited, self.while_waiting = None, 0.0, lambda: None

    def __truediv__(self, name):
        return self

    parent = "gs://runs/a"

    def exists(self):
        return True

    def mkdir(self, **_):
        pass

    def __fspath__(self):
        return "gs://runs/a/lease.json"

    def read_text(self):
        if self.content is None:
            raise FileNotFoundError
        return self.content

    def write_text(self, text):
        self.content = text

    def unlink(self):
        self.content = None

    def sleep(self, seconds):
        self.waited += seconds
        self.while_waiting()


@pytest.fixture
def shop(monkeypatch):
    made = Shop()
    monkeypatch.setattr(leases.epath, "Path", lambda path: path)
    monkeypatch.setattr("research.training.records.epath.Path", lambda path: path)
    monkeypatch.setattr(leases.time, "sleep", made.sleep)
    return made


WATCHED = [(0, False, False), (-5, True, False), (5, True, False), (-5, False, True)]


@pytest.mark.parametrize(("minutes", "renews", "taken_over"), WATCHED)
def test_in_an_object_store_a_lease_that_looks_expired_is_watched(shop, minutes, renews, taken_over):
    def owner(later=0.0):
        return held_by(host="elsewhere", token="theirs", time=time.time() + 60 * minutes + later)

    def renew():
        shop.content = owner(later=15.0)

    shop.content = owner()
    if renews:
        shop.while_waiting = renew
    if taken_over:
        with Lease(shop) as lease:
            lease.check()
            assert shop.waited >= 15
        assert shop.content is None
    else:
        with pytest.raises(RequestError, match="is being trained by process"):
            Lease(shop).__enter__()
        assert json.loads(shop.content)["token"] == "theirs"


def test_in_an_object_store_the_last_of_two_that_start_at_once_stays(shop):
    def another_starts():
        shop.content = held_by(host="elsewhere", token="theirs", time=time.time())

    shop.while_waiting = another_starts
    with pytest.raises(RequestError, match="another launcher has just started"):
        Lease(shop).__enter__()
    assert json.loads(shop.content)["token"] == "theirs"


def test_a_launcher_whose_lease_is_gone_stops_in_a_line_and_writes_nothing_more(module, tmp_path, monkeypatch):
    run, seen = tmp_path / "run", {}
    train = Programs.train

    def taken_over(self, state, feeds):
        if int(np.ravel(self.placement.whole(state).step)[0]) >= 12 and not seen:
            another = run / "another"
            another.write_text(held_by(host="elsewhere", pid=7))
            another.rename(run / "lease.json")
            seen.update({name: x for name, x in files(run).items() if "tensorboard" not in name})
        return train(self, state, feeds)

    monkeypatch.setattr(Programs, "train", taken_over)
    outcome = launch("run", module, "--set", "parallel.steps_per_call=2", "--out", run)
    assert outcome.status == 1 and outcome.out == ""
    assert outcome.err.splitlines()[-1].startswith(f"{run}: process 7 on elsewhere has taken over this run")
    assert outcome.err.count("taken over") == 1 and "failed" not in outcome.err
    assert {name: x for name, x in files(run).items() if "tensorboard" not in name} == seen
    assert read(run / "lease.json")["host"] == "elsewhere"


# -- several processes -------------------------------------------------------------------------------------------------


class Contender:
    """A process that takes leases on command (tests/research/running/contender.py)."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
        script = pathlib.Path(__file__).with_name("contender.py")
        self.process = subprocess.Popen(
            [sys.executable, script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command, folder):
        self.process.stdin.write(f"{command} {folder}\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip()

    def send(self, number):
        self.process.send_signal(number)


@pytest.fixture(scope="module")
def three():
    contenders = [Contender() for _ in range(3)]
    assert [contender.answer() for contender in contenders] == ["ready"] * 3
    yield contenders
    for contender in contenders:
        contender.process.kill()
        contender.process.wait()


LEFT_BEHIND = {"nothing": None, "empty": "", "garbled": '{"host": "a', "another host's": held_by(host="elsewhere")}

ROUNDS = int(os.environ.get("LEASE_ROUNDS", "10"))
"""Number of races and of suspensions; 200 and more to look for rare ones."""


@pytest.mark.slow
def test_of_three_that_start_at_once_one_writes(three, tmp_path):
    wins = 0
    for i in range(ROUNDS):
        left = list(LEFT_BEHIND.values())[i % len(LEFT_BEHIND)]
        folder = tmp_path / str(i)
        folder.mkdir()
        if left is not None:
            (folder / "lease.json").write_text(left)
            renewed(folder / "lease.json", 90)
        for contender in three:
            contender.ask("hold", folder)
        answers = [contender.answer() for contender in three]
        assert set(answers) <= {"done", "refused"} and "done" in answers, (i, answers)
        assert files(folder) == {}, (i, answers)
        wins += answers.count("done")
    assert wins < 3 * ROUNDS


@pytest.mark.slow
def test_suspended_at_a_random_moment_it_stops_when_it_is_resumed(three, tmp_path):
    """The second launcher continues from the last line of the first; afterwards no line is there twice."""
    first, second, _ = three
    generator = random.Random(0)
    for i in range(ROUNDS):
        folder = tmp_path / str(i)
        folder.mkdir()
        first.ask("train", folder)
        while not (folder / "metrics.jsonl").exists():
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.03))
        first.send(signal.SIGSTOP)
        os.waitid(os.P_PID, first.process.pid, os.WSTOPPED | os.WNOWAIT)
        renewed(folder / "lease.json", LEASE_SECONDS + 1)
        second.ask("train", folder)
        moment = generator.uniform(0, 0.02)
        while "process" not in read_owner(folder, second):
            time.sleep(0.0005)
        time.sleep(moment)
        first.send(signal.SIGCONT)
        assert first.answer() == "lost", i
        (folder / "end").touch()
        assert second.answer() == "done", i
        steps = [line["step"] for line in lines(folder)]
        assert steps == list(range(1, len(steps) + 1)), i
        processes = [line["process"] for line in lines(folder)]
        assert processes == sorted(processes, key=[first.process.pid, second.process.pid].index), i
        assert not (folder / "lease.json").exists()


def read_owner(folder, contender):
    """Returns {"process": …} once the lease is that of a contender."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        if read(folder / "lease.json")["pid"] == contender.process.pid:
            return {"process": contender.process.pid}
    return {}
