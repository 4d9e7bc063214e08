"""Processes agree, name those that are missing, and hear of errors; here they are threads with a store of keys."""

import concurrent.futures
import threading
import time

import pytest

from research.errors import RequestError, Stopped
from research.parallel import hosts
from research.parallel.clusters import Joining, joining
from research.parallel.link import Elsewhere, Link, Lost
from research.parallel.watch import AGAIN, GRACE_SECONDS, LOST_SECONDS, Watch


class Service:
    """The keys that JAX's coordination service keeps, and its barrier."""

    def __init__(self, processes):
        self._keys, self._changed = {}, threading.Condition()
        self._barrier = threading.Barrier(processes)

    def key_value_set(self, key, value, allow_overwrite=False):
        with self._changed:
            assert allow_overwrite or key not in self._keys
            self._keys[key] = value
            self._changed.notify_all()

    def key_value_delete(self, key):
        with self._changed:
            self._keys = {k: x for k, x in self._keys.items() if k != key and not k.startswith(key.rstrip("/") + "/")}

    def key_value_dir_get(self, folder):
        with self._changed:
            return [(key, x) for key, x in self._keys.items() if key.startswith(folder)]

    def blocking_key_value_get(self, key, milliseconds):
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._keys, milliseconds / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED")
            return self._keys[key]

    def wait_at_barrier(self, name, milliseconds):
        self._barrier.wait(milliseconds / 1000)


def run(*programs, seconds=10.0):
    """Runs a function of a link per process; returns their values, or the exceptions that they raise."""
    service = Service(len(programs))
    links = [Link(service, i, len(programs), seconds) for i in range(len(programs))]

    def outcome(program, link):
        try:
            return program(link)
        except Exception as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(programs)) as threads:
        values = list(threads.map(outcome, programs, links))
    return values, service


def test_process_0_decides_and_all_hear():
    values, service = run(*[lambda link: [link.agree("a", {"x": link.process}), link.agree("b", 0.1)]] * 3)
    assert values == [[{"x": 0}, 0.1]] * 3


def test_all_hear_of_all_and_old_keys_are_deleted():
    def program(link):
        return [link.gather("a", 10 * link.process) for _ in range(20)] + [link.agree("b", link.process)]

    values, service = run(*[program] * 3)
    assert values == [[[0, 10, 20]] * 20 + [0]] * 3
    assert len(service.key_value_dir_get("")) <= 2


def test_those_that_do_not_come_are_named():
    values, service = run(lambda link: link.gather("saving", 1), lambda link: None, lambda link: None, seconds=0.3)
    assert isinstance(values[0], Lost)
    assert str(values[0]) == "process 1, process 2: not at saving, where process 0 has waited for 0 s"
    assert Watch(Link(service, 1, 3), service, threading.Event()).verdict(0.0, {}) is None


def test_processes_at_different_decisions_fail_at_once():
    values, _ = run(lambda link: link.gather("saving", 1), lambda link: link.gather("stopping", 2))
    assert [str(value) for value in values] == ["process 1 is at stopping (2), process 0 at saving"] * 2
    values, _ = run(lambda link: link.agree("saving", 1), lambda link: link.agree("stopping", 2))
    assert values[0] == 1 and str(values[1]) == "process 1 is at stopping, process 0 at saving"


def test_a_failure_of_one_is_an_error_of_all():
    def program(link):
        link.names = ["a", "b", "c"]
        link.share("loading", "no such file" if link.process == 1 else None)

    values, service = run(*[program] * 3)
    assert [type(value) for value in values] == [Elsewhere] * 3
    assert {str(value) for value in values} == {"process 1 (b): no such file"}
    assert not service.key_value_dir_get("espalier/ended/")
    values, _ = run(*[lambda link: link.share("loading", "no such file")] * 3)
    assert {str(value) for value in values} == {"no such file"}
    assert run(*[lambda link: link.share("loading", None)] * 3)[0] == [None] * 3


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_of_one_makes_the_others_fail_at_their_next_decision(failing):
    def program(link):
        link.agree("a", 1)
        reached = 0
        try:
            if link.process == failing:
                raise OSError("no such file")
            for reached in range(1, 50):
                link.agree("b", reached)
                link.gather("c", 1)
        except Exception as error:
            link.share_failure("a failure", str(error))
            return reached, str(error), link.gather("after it", link.process)
        return None

    values, service = run(*[program] * 3)
    assert all(value is not None and value[2] == [0, 1, 2] and value[0] <= 1 for value in values), values
    for i, (_, error, _) in enumerate(values):
        assert "no such file" in error, (i, error)
    assert not service.key_value_dir_get("espalier/ended/")


@pytest.mark.parametrize("kind", [Stopped, OSError])
def test_processes_stop_together(monkeypatch, kind):
    def refused():
        raise kind("another launcher has taken over")

    service = Service(2)
    for process, expected in ((0, kind), (1, Stopped if kind is Stopped else Elsewhere)):
        monkeypatch.setattr(hosts, "_link", Link(service, process, 2))
        with pytest.raises(expected, match="another launcher has taken over") as raised:
            hosts.by_leader("the permission to write", refused)
        assert type(raised.value) is expected


def test_only_process_0_calls_what_one_process_may_call(monkeypatch):
    called = []

    def failing():
        called.append("failing")
        raise OSError("disk full")

    service = Service(2)
    for process in (0, 1):  # the second finds the answers of the first
        monkeypatch.setattr(hosts, "_link", Link(service, process, 2))
        assert hosts.leads() is (process == 0)
        assert hosts.by_leader("a", lambda: called.append("a") or 7) == 7
        with pytest.raises(OSError if process == 0 else Elsewhere, match="disk full"):
            hosts.by_leader("b", failing)
    assert called == ["a", "failing"]


def test_alone_everything_is_decided_at_once():
    assert hosts.leads() and not hosts.several()
    assert hosts.agree("a", (1, 2)) == (1, 2) and hosts.gather("a", 3) == [3] and hosts.smallest("a", 3) == 3
    assert hosts.by_leader("a", lambda: 5) == 5
    with pytest.raises(KeyError), hosts.together("a"):
        raise KeyError
    hosts.check_alike("the request", 1, "the same")
    hosts.end(3)


# -- watching ----------------------------------------------------------------------------------------------------------


def watch_of(process, processes=3):
    service = Service(processes)
    link = Link(service, process, processes)
    link.names = ["a", "b", "c"]
    return Watch(link, service, threading.Event()), link, service


def test_a_process_that_gives_no_sign_of_life_is_lost(monkeypatch):
    monkeypatch.setattr("research.parallel.watch.BEAT_SECONDS", 0.0)
    watch, link, service = watch_of(0)
    service.key_value_set("espalier/alive/1", "1")
    service.key_value_set("espalier/alive/2", "1")
    watch.hear()
    start = time.monotonic()
    assert watch.verdict(start + LOST_SECONDS - 1, {}) is None
    line = "process 1 (b) is lost; start the same command in all processes again to continue"
    assert watch.verdict(start + LOST_SECONDS + 1, {}) == (AGAIN, line, 1)
    left = []
    monkeypatch.setattr("research.parallel.link.leave", lambda *found: left.append(found))
    monkeypatch.setattr("research.parallel.link.BEAT_SECONDS", 0.01)
    link.releases.append(lambda: left.append("released"))
    link.leave(AGAIN, line)
    assert left == ["released", (AGAIN, line)]
    other = Watch(Link(service, 2, 3), service, threading.Event())
    other.hear()
    assert other.verdict(time.monotonic(), {0: 0.0}) == (AGAIN, line, None)  # process 0 has told it


def test_others_watch_process_0_only():
    watch, *_ = watch_of(1)
    status, line, lost = watch.verdict(time.monotonic() + LOST_SECONDS + 1, {})
    assert status == AGAIN and lost == 0 and line.startswith("process 0 (a) is lost")


def test_an_end_of_another_process_ends_this_one_after_a_while():
    watch, link, service = watch_of(1)
    Link(service, 2, 3).tell_end(1, "no memory")
    watch.hear()
    assert watch.verdict(1.0 + GRACE_SECONDS - 0.5, {2: 1.0}) is None
    assert watch.verdict(1.0 + GRACE_SECONDS + 0.5, {2: 1.0}) == (1, "process 2 (c) has ended: no memory", None)
    link.tell_end(0, "")  # it ends by itself
    watch.hear()
    assert watch.verdict(1.0 + GRACE_SECONDS + 0.5, {1: 1.0, 2: 1.0}) is None


# -- joining -----------------------------------------------------------------------------------------------------------

SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_NODELIST": "node[003-006]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables of a cluster, as its detectors read them."""

    def of(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return variables

    return of


def test_alone_outside_of_a_cluster():
    assert joining(None, None, None, {}) is None and joining(1, None, None, SLURM) is None


def test_told_by_options_or_by_the_environment():
    assert joining(4, 2, "host:1234", {}) == Joining("host:1234", 4, 2)
    told = {"ESPALIER_PROCESSES": "4", "ESPALIER_PROCESS": "0", "JAX_COORDINATOR_ADDRESS": "host:1234"}
    assert joining(None, None, None, told) == Joining("host:1234", 4, 0)


def test_found_in_slurm(environment):
    assert joining(None, None, None, environment(SLURM)) == Joining("node003:62344", 4, 2)
    assert joining(4, None, None, SLURM).processes == 4
    several = environment(SLURM | {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"})
    assert joining(None, None, None, several).devices == (1,)
    gpus = environment(several | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert joining(None, None, None, gpus).devices == (2, 3)
    own = environment(several | {"CUDA_VISIBLE_DEVICES": "0"})  # --gpus-per-task
    assert joining(None, None, None, own).devices is None


@pytest.mark.parametrize(
    ("asked", "variables", "message"),
    [
        ((8, None, None), {}, "--processes 8: this process would train alone, as neither SLURM, Open MPI, GKE"),
        ((None, 3, None), {}, "would train alone: expected --processes N and --coordinator HOST:PORT too, or --proc"),
        ((4, 4, "host:1"), {}, "--process 4: expected 0 to 3, of --processes 4"),
        ((4, 0, "host"), {}, "--coordinator host: expected HOST:PORT of process 0"),
        ((8, None, None), SLURM, "--processes 8: SLURM starts 4; expected the same number"),
        ((None, None, None), {"SLURM_NTASKS": "8"}, "SLURM gives the job 8 tasks, and this process is none of them"),
        ((None, None, None), {"ESPALIER_PROCESSES": "two"}, "ESPALIER_PROCESSES=two: expected a whole number"),
    ],
)
def test_a_process_that_would_train_alone_is_refused(environment, asked, variables, message):
    with pytest.raises(RequestError) as refused:
        joining(*asked, environment(variables))
    assert message in str(refused.value)
