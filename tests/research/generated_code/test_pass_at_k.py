"""The estimator against its definition, and an evaluation of a model that knows some answers."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import RequestError
from research.generated_code.pass_at_k import evaluate, pass_at_k
from research.generated_code.problems import Problem

pytestmark = pytest.mark.usefixtures("sandbox")

ADD = Problem("add", "def add(a, b):\n", "assert add(1, 2) == 3\n", "    return a + b\n", "body")
NEGATE = Problem("negate", "def negate(a):\n", "assert negate(1) == -1\n", "    return -a\n", "body")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_estimate_is_the_mean_over_all_choices_of_k_samples(data):
    n = data.draw(st.integers(1, 7))
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    chosen = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, chosen)) / len(chosen))


def test_an_evaluation():
    def complete(prompts, seed):
        answers = {ADD.prompt: ["    return a + b\n", "    return (\n"], NEGATE.prompt: ["    return a\n"] * 2}
        return [answers[prompt][seed - 7] for prompt in prompts]

    result = evaluate([ADD, NEGATE], complete, samples=2, ks=(1, 2), seed=7)
    assert (result["pass@1"], result["pass@2"], result["seeds"]) == (0.25, 0.5, [7, 8])
    assert result["outcomes"] == {"passed": 1, "syntax error": 1, "failed": 2}
    assert result["problems"][0]["outcomes"] == ["passed", "syntax error"]
    assert result["problems"][1]["completions"] == ["    return a\n"] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samples": 0}, "samples=0: expected at least 1"),
        ({"samples": 2, "ks": (1, 3)}, "k=3: expected 1 to samples=2"),
        ({"problems": []}, "problems: none"),
        ({"workers": 0}, "workers=0: expected at least 1"),
    ],
)
def test_what_is_refused_before_anything_is_sampled(fields, message):
    def complete(prompts, seed):
        raise AssertionError("sampled")

    with pytest.raises(RequestError, match=f"^{message}"):
        evaluate(**{"problems": [ADD], "complete": complete} | fields)
    with pytest.raises(RequestError, match="^k=3: expected 1 to the 2 samples"):
        pass_at_k(2, 1, 3)
