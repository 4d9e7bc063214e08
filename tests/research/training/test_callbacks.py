"""Callbacks hear of every event of a trial, and an error of theirs ends none."""

import sys
import types

import pytest
import toys
from command_line import launch, lines, read, write_module
from training_loops import experiments, go

from research.errors import RequestError
from research.training.callbacks import Callback, as_callbacks
from research.training.loggers import MLflow, TensorBoard, WandB, settings
from research.training.loop import Interrupted


class Heard(Callback):
    """Keeps every event in a list that the callbacks of all trials share."""

    def __init__(self):
        self.events = []

    def start(self, step):
        self._add("start", step)

    def write(self, step, split, metrics):
        self._add("write", step, split, dict(metrics))

    def show(self, step, evaluation, name, exhibit):
        self._add("show", step, evaluation, name)

    def save(self, step):
        self._add("save", step)

    def end(self, status, metrics):
        self._add("end", status, dict(metrics))

    def close(self):
        self._add("close")

    def _add(self, *event):
        self.events.append((self.trial.name, *event))

    def of(self, trial, kind):
        return [event[2:] for event in self.events if event[:2] == (trial, kind)]


class Breaks(Callback):
    def write(self, step, split, metrics):
        if step > 10:
            raise ValueError("the service is away")


@pytest.mark.parametrize("stacked", [True, False])
def test_callbacks_hear_what_the_trial_writes(tmp_path, stacked):
    heard = Heard()
    notes = go(tmp_path, experiments(), stacked=stacked, callbacks=(Breaks(), heard))
    for name in "012":
        assert heard.of(name, "start") == [(0,)]
        written = [(step, split, pytest.approx(metrics)) for step, split, metrics in heard.of(name, "write")]
        for line, event in zip(lines(tmp_path / name), written, strict=True):
            assert (line.pop("step"), line.pop("split"), line) == event
        assert (8, "validation", "confusion") in heard.of(name, "show")
        assert heard.of(name, "save") == [(8,), (12,), (16,), (24,)]
        ((status, metrics),) = heard.of(name, "end")
        assert status == "finished" and metrics == read(tmp_path / name / "result.json")["metrics"]
        assert heard.events[-1][1] == "close" and heard.of(name, "close") == [()]
        assert sum(line.startswith(f"{name}: callback Breaks.write: ") for line in notes.notes) == 1
        assert not (tmp_path / name / "tensorboard").exists()


def test_a_stopped_trial_is_closed_and_heard_of_again(tmp_path):
    heard, looks = Heard(), iter(range(100))
    with pytest.raises(Interrupted):
        go(tmp_path, experiments(), stacked=True, stop=lambda: next(looks) > 2, callbacks=(heard,))
    assert heard.of("0", "close") == [()] and not heard.of("0", "end")
    go(tmp_path, experiments(), stacked=True, callbacks=(heard,))
    (_, (again,)) = heard.of("0", "start")
    assert again > 0 and len(heard.of("0", "end")) == 1 and len(heard.of("0", "close")) == 2


def test_tensorboard_has_a_row_of_hyperparameters(tmp_path):
    go(tmp_path, experiments()[:1], stacked=False, callbacks=(TensorBoard(),))
    (path,) = (tmp_path / "0" / "tensorboard").iterdir()
    content = path.read_bytes()
    for expected in (b"_hparams_/session_start_info", b"optimizer.learning_rate", b"_hparams_/session_end_info"):
        assert expected in content


def test_settings_are_dotted_paths():
    found = settings(toys.experiment(seed=7))
    assert found["seed"] == 7 and found["optimizer.learning_rate"] == toys.experiment().optimizer.learning_rate
    assert all(isinstance(value, bool | int | float | str) for value in found.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (TensorBoard(), "callbacks: a TensorBoard; expected a tuple"),
        ((TensorBoard,), "callbacks: TensorBoard: expected TensorBoard(…)"),
        (("wandb",), "callbacks: str: expected a research.Callback"),
        ((WandB("mine"),), "the callback WandB needs wandb, which is not installed"),
        ((MLflow("mine"),), "the callback MLflow needs mlflow, which is not installed"),
    ],
)
def test_what_is_no_callback_is_refused(given, message, monkeypatch):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RequestError) as refused:
        as_callbacks(given)
    assert message in str(refused.value)


class Recorder:
    """Stands for a service's object: keeps the names and arguments of its calls."""

    def __init__(self, calls, name=""):
        self._calls, self._name = calls, name

    def __getattr__(self, name):
        return Recorder(self._calls, f"{self._name}.{name}" if self._name else name)

    def __call__(self, *arguments, **named):
        self._calls.append((self._name, arguments, named))
        return Recorder(self._calls, self._name)


def test_weights_and_biases_gets_a_run_for_each_trial(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(
        init=Recorder(calls, "init"), Image=lambda x: ("image", x.shape[-1])
    ))  # fmt: skip
    go(tmp_path / "trials", experiments()[:2], stacked=True, callbacks=as_callbacks([WandB("digits", mode="offline")]))
    begun = [named for name, _, named in calls if name == "init"]
    assert [run["name"] for run in begun] == ["0", "1"] and begun[0]["id"] != begun[1]["id"]
    assert begun[0]["project"] == "digits" and begun[0]["config"]["batch_size"] == experiments()[0].batch_size
    logged = [(arguments[0], named["step"]) for name, arguments, named in calls if name == "init.log"]
    assert any(step == 16 and "validation/loss" in metrics for metrics, step in logged)
    assert ({"validation/confusion": ("image", 3)}, 8) in logged
    assert len([name for name, _, _ in calls if name == "init.finish"]) == 2


def test_the_functions_of_a_module_are_used_by_the_command_line(tmp_path, capsys):
    module = write_module(
        tmp_path / "with_callbacks.py",
        """
        import toys
        from research import Callback

        class Prints(Callback):
            def end(self, status, metrics):
                print("heard:", self.trial.name, status)

        def experiment():
            return toys.experiment(steps=6)

        def callbacks():
            return (Prints(),)
        """,
    )
    ran = launch("run", module, "--out", tmp_path / "run")
    assert ran.status == 0 and "heard: base-s0 finished" in ran.out
    assert not (tmp_path / "run/trials/base-s0/tensorboard").exists()
    other = write_module(tmp_path / "with_one.py", module.read_text().replace("(Prints(),)", "Prints()"))
    assert "callbacks: a Prints; expected a tuple" in launch("run", other, "--out", tmp_path / "other").err
