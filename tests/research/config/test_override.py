"""Overrides by dotted path: changes, refusals, and error messages."""

import dataclasses
import subprocess
import sys
from typing import Literal

import pytest
import toys
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from research.config.override import leaf_paths, override, parse_assignment
from research.errors import RequestError
from research.models.mlp import MLP
from research.optimizers import SGD, AdamW, Optimizer
from research.schedules import Cosine


@dataclasses.dataclass(frozen=True)
class Whole:
    model: nn.Module = MLP(widths=(8, 8), classes=3)
    optimizer: Optimizer = AdamW(schedule=Cosine(warmup_steps=5))
    parts: tuple[Optimizer, ...] = (SGD(), AdamW())
    rates: tuple[tuple[str, float], ...] = ()
    mode: Literal["fast", "slow"] = "fast"
    steps: int = 10
    limit: float | None = None
    share: float | int = 0.1
    name: str = "n"
    flag: bool = False
    table: dict[str, float] = dataclasses.field(default_factory=lambda: {"a": 1.0})


def test_reaches_nested_dataclasses_modules_tuples_and_dicts():
    changed = override(
        Whole(),
        {
            "model.widths": (4,),
            "model.widths.0": 5,
            "optimizer.schedule.warmup_steps": 7,
            "parts.1.learning_rate": 1,
            "table.a": 2.0,
            "limit": 3,
        },
    )
    assert changed.model == MLP(widths=(5,), classes=3)
    assert changed.optimizer.schedule.warmup_steps == 7
    assert changed.parts[1].learning_rate == 1.0 and isinstance(changed.parts[1].learning_rate, float)
    assert changed.table == {"a": 2.0} and changed.limit == 3.0
    assert Whole().model.widths == (8, 8)


def test_a_whole_part_goes_before_its_fields_whatever_the_order():
    changed = override(Whole(), {"optimizer.momentum": 0.5, "optimizer": SGD()})
    assert changed.optimizer == SGD(momentum=0.5)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("steps", "1e3", 1000),
        ("steps", "1_000", 1000),
        ("limit", "none", None),
        ("limit", "3", 3.0),
        ("optimizer.learning_rate", "3e-4", 3e-4),
        ("model.widths", "16,32", (16, 32)),
        ("model.widths", "(16, 32)", (16, 32)),
        ("model.widths", "[16]", (16,)),
        ("model.widths", "()", ()),
        ("model.activation", "tanh", "tanh"),
        ("model.residual", "true", True),
        ("share", "5", 5),
        ("share", "0.5", 0.5),
        ("name", "1", "1"),
        ("rates", '[["head/*", 0.1]]', (("head/*", 0.1),)),
        ("rates", "head/*:0.1,*:1", (("head/*", 0.1), ("*", 1.0))),
        ("optimizer", "SGD", SGD()),
        ("optimizer", '{"_type": "research.optimizers:SGD", "momentum": 0.9}', SGD(momentum=0.9)),
    ],
)
def test_text_is_read_by_the_type_of_its_field(path, text, expected):
    value = dict(_flat(override(Whole(), {path: text}, parse=True)))[path]
    assert value == expected and type(value) is type(expected)


def _flat(value, prefix=""):
    for field in dataclasses.fields(value):
        if field.name in ("parent",):
            continue
        child = getattr(value, field.name)
        yield f"{prefix}{field.name}", child
        if dataclasses.is_dataclass(child):
            yield from _flat(child, f"{prefix}{field.name}.")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("model.width", 3, "did you mean 'widths'?"),
        ("learning_rate", 3, "did you mean 'optimizer.learning_rate'"),
        ("steps", 1.5, "expected a whole number"),
        ("steps", True, "expected a whole number"),
        ("steps", "10", "expected a whole number"),
        ("limit", "x", "expected none or a number"),
        ("mode", "fats", "did you mean 'fast'?"),
        ("model.activation", "rellu", "did you mean 'relu'?"),
        ("model.widths", 5, "expected a tuple, each entry a whole number"),
        ("model.widths", (5, "a"), "expected a whole number"),
        ("parts.7.momentum", 1.0, "'7' is not an index; expected 0 to 1"),
        ("steps.x", 1, "has no fields"),
        ("table.b", 1.0, "one of: a"),
        ("model.parent", None, "has no field 'parent'"),
        ("optimizer", 3, "expected Optimizer"),
        ("flag", 1, "expected true or false"),
    ],
)
def test_a_wrong_change_is_one_line_that_names_the_right_one(path, value, says):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        override(Whole(), {path: value})
    assert path in str(error.value) and says in str(error.value)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("steps", "ten", "expected a whole number"),
        ("steps", "1.5", "expected a whole number"),
        ("flag", "yes", "expected true or false"),
        ("optimizer", "AdanW", "did you mean 'AdamW'"),
        ("optimizer", "3", "or one of its fields: optimizer.learning_rate"),
        ("model.widths", "a,b", "expected a whole number"),
        ("model.activation", "geluu", "did you mean 'gelu'"),
    ],
)
def test_a_wrong_text_is_one_line(path, text, says):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        override(Whole(), {path: text}, parse=True)
    assert says in str(error.value)


def test_an_assignment_needs_an_equals_sign():
    assert parse_assignment("a.b=c=d") == ("a.b", "c=d")
    with pytest.raises(RequestError, match="expected PATH=VALUE"):
        parse_assignment("a.b")


@given(st.integers(-(10**9), 10**9), st.floats(width=32, allow_nan=False, allow_infinity=False), st.booleans())
def test_what_is_printed_is_read_back(steps, limit, flag):
    changed = override(Whole(), {"steps": str(steps), "limit": repr(limit), "flag": str(flag)}, parse=True)
    assert (changed.steps, changed.limit, changed.flag) == (steps, limit, flag)


def test_every_leaf_has_a_path_that_can_be_set_to_itself():
    whole = Whole()
    paths = dict(leaf_paths(whole))
    assert paths["model.widths"] == (8, 8) and "parts.0.momentum" in paths
    assert override(whole, paths) == whole


def test_a_class_of_the_library_is_known_by_name_whatever_was_imported():
    program = """
from experiments.digits_mlp import experiment
from research.config.override import override
import sys
assert "research.data.augment.randaugment" not in sys.modules
print(override(experiment(), {"augment": "RandAugment"}, parse=True).augment)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.startswith("(RandAugment("), run.stderr


def test_a_class_is_known_by_name_whatever_has_been_imported():
    """Runs in a separate process that has imported only the base class."""
    code = """
import dataclasses
from research import data, optimizers, override
@dataclasses.dataclass(frozen=True)
class Holder:
    source: data.Data = None
    optimizer: optimizers.Optimizer = None
changed = override(Holder(), {"source": "Recall", "optimizer": "Muon"}, parse=True)
print(changed.source.distance, changed.optimizer.ns_steps)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.stdout.split() == ["32", "5"], told.stderr


def test_parts_that_are_not_changed_stay_the_same_objects():
    base = Whole()
    changed = override(base, {"optimizer.learning_rate": 0.5, "optimizer.weight_decay": 0.0, "steps": 3})
    assert (changed.optimizer.learning_rate, changed.optimizer.weight_decay, changed.steps) == (0.5, 0.0, 3)
    assert changed.model is base.model and changed.parts is base.parts


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer.learning_rate": float("inf")}, "optimizer.learning_rate=inf: expected a finite number"),
        ({"optimizer": SGD(learning_rate=float("nan"))}, "optimizer.learning_rate=nan: expected a finite number"),
        (
            {"optimizer.learning_rate": 10**400},
            "optimizer.learning_rate=1000000000.*…: expected a whole number below 2",
        ),
        ({"limit": 1e39}, "limit=1e\\+39: expected a number of at most 3.4e\\+38, the largest of float32"),
        ({"rates": (("a", float("nan")),)}, "rates.0.1=nan: expected a finite number"),
        ({"steps": 2**63}, "steps=9223372036854775808…: expected a whole number below 2"),
        ({"optimizer": SGD(learning_rate="fast")}, "optimizer.learning_rate='fast': expected a number"),
    ],
)
def test_new_values_are_checked_down_to_their_fields(changes, says):
    with pytest.raises(RequestError, match=says):
        override(Whole(), changes)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("model", "MLP", 'it needs widths and classes; expected JSON: model=\'{"_type": "research.models.mlp:MLP", '),
        ("model", "RestNet", "no model of that name; did you mean 'ResNet'?"),
        ("model", "MLP(widths=3)", 'expected Module as JSON, such as model=\'{"_type": "research.models.mlp:MLP", '),
        ("model", "MLP(widths=3)", "or one of its fields: model.widths, model.classes, "),
        ("task", "Regression2", "no Task of that name; did you mean 'Regression'?"),
        ("task", "Classification", 'it needs classes; expected JSON: task=\'{"_type": "research.tasks.classification:'),
    ],
)
def test_a_part_that_is_written_wrongly_names_the_form_it_wants(path, text, said):
    with pytest.raises(RequestError, match="^[^\n]+$") as error:
        override(toys.experiment(), {path: text}, parse=True)
    assert said in str(error.value)


def test_the_form_that_is_named_is_one():
    text = '{"_type": "research.models.mlp:MLP", "widths": [3], "classes": 3}'
    assert override(toys.experiment(), {"model": text}, parse=True).model == MLP(widths=(3,), classes=3)
