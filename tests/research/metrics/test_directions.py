import pytest

from research.metrics.directions import direction, is_better

BETTER = {"accuracy": "max", "top_*_accuracy": "max", "*": "min", "samples/accuracy": "min", "shifted/top_*": "min"}


@pytest.mark.parametrize(
    ("metric", "way"),
    [
        ("accuracy", "max"),
        ("validation/accuracy", "max"),
        ("samples/accuracy", "min"),
        ("test/top_5_accuracy", "max"),
        ("shifted/top_5_accuracy", "min"),
        ("test/neg_log_likelihood", "min"),
        ("test/Accuracy", "min"),
    ],
)
def test_the_closest_declaration_holds(metric, way):
    assert direction(BETTER, metric) == way


@pytest.mark.parametrize("metric", ["test/loss", "loss", "test/accuracy_drop", "test/", "", "accuracy/", "a/b/c"])
def test_what_is_not_declared_has_no_direction(metric):
    assert direction({"accuracy": "max", "samples/loss": "min"}, metric) is None


def test_better_follows_the_direction():
    assert is_better(1.0, 2.0, "min") and not is_better(2.0, 1.0, "min")
    assert is_better(2.0, 1.0, "max") and not is_better(1.0, 1.0, "max")
