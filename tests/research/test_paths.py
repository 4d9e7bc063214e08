import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import paths
from research.errors import RequestError

PARAMS = {
    "bias": jnp.zeros(3),
    "encoder": {
        "blocks": {"attention": {"kernel": jnp.zeros((4, 2, 5)), "bias": jnp.zeros((4, 5))}, "gate": jnp.zeros(4)},
        "norm": {"scale": jnp.zeros(2)},
    },
    "head": {"kernel": jnp.zeros((2, 3))},
}


def test_flatten_names_every_leaf_by_its_keys():
    assert set(paths.flatten(PARAMS)) == {
        "bias",
        "encoder/blocks/attention/bias",
        "encoder/blocks/attention/kernel",
        "encoder/blocks/gate",
        "encoder/norm/scale",
        "head/kernel",
    }
    assert paths.flatten(PARAMS)["head/kernel"] is PARAMS["head"]["kernel"]


def test_map_with_path_keeps_the_structure_and_takes_more_trees():
    twice = paths.map_with_path(lambda path, a, b: (path, a.shape == b.shape), PARAMS, PARAMS)
    assert twice["head"]["kernel"] == ("head/kernel", True)


@pytest.mark.parametrize(
    ("path", "pattern", "matched"),
    [
        ("bias", "*/bias", True),
        ("a/bias", "*/bias", True),
        ("a/b/bias", "*/bias", True),
        ("a/mybias", "*/bias", False),
        ("a/bias/c", "*/bias", False),
        ("a/mybias", "*bias", True),
        ("encoder/kernel", "encoder/*/kernel", True),
        ("encoder/a/b/kernel", "encoder/*/kernel", True),
        ("encoderX/kernel", "encoder/*/kernel", False),
        ("encoder", "encoder/*", False),
        ("encoder/a/b", "encoder/*", True),
        ("encoder/a/b", "encoder", False),
        ("blocks/a", "blocks[0:3]/*", True),
        ("blocks_0/a", "blocks[0:3]/*", False),
        ("Dense_0/kernel", "Dense_?/kernel", False),
        ("a.b/c", "a?b/c", False),
        ("aXb/c", "a.b/c", False),
        ("head/kernel", "*", True),
    ],
)
def test_matches(path, pattern, matched):
    assert paths.matches(path, pattern) is matched


@given(st.lists(st.text("abk_0.+", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_path_is_matched_by_itself_and_by_any_of_its_ends(names):
    path = "/".join(names)
    assert paths.matches(path, path)
    for start in range(len(names)):
        assert paths.matches(path, "*/" + "/".join(names[start:]))
        assert not paths.matches(path + "/more", "*/" + "/".join(names[start:]))


def test_first_takes_the_first_rule():
    rules = (("head/*", "a"), ("*/kernel", "b"))
    assert paths.first("head/kernel", rules) == "a"
    assert paths.first("encoder/kernel", rules) == "b"
    assert paths.first("encoder/bias", rules) is None


def test_assign_is_layer_by_layer_and_the_first_rule_holds():
    rules = (("encoder/blocks[-1]/*", 3.0), ("*/blocks[1:]/*", 2.0), ("*/kernel", 0.5))
    assigned = paths.flatten(paths.assign(PARAMS, rules, 1.0))
    kernel = assigned["encoder/blocks/attention/kernel"]
    assert kernel.shape == (4, 1, 1)
    np.testing.assert_array_equal(kernel.ravel(), [0.5, 2, 2, 3])
    np.testing.assert_array_equal(assigned["encoder/blocks/gate"], [1, 2, 2, 3])
    assert assigned["head/kernel"] == 0.5
    assert assigned["bias"] == 1.0


@pytest.mark.parametrize(
    ("brackets", "rows"),
    [("0", [0]), ("3", [3]), ("-4", [0]), ("0:4", [0, 1, 2, 3]), (":2", [0, 1]), ("-2:", [2, 3]), (":", [0, 1, 2, 3])],
)
def test_brackets_choose_as_in_python(brackets, rows):
    pattern = f"encoder/blocks[{brackets}]/*"
    paths.check_patterns("frozen", (pattern,), PARAMS)
    assigned = paths.assign(PARAMS, ((pattern, 1.0),), 0.0)["encoder"]["blocks"]["gate"]
    assert list(np.flatnonzero(assigned)) == rows


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("head/kernle", r"frozen='head/kernle': matches none of 6 parameters; did you mean 'head/kernel'"),
        ("*/scal", "did you mean 'encoder/norm/scale'"),
        ("blocks/*", "did you mean 'encoder/blocks/"),
        ("encoder/blocks[4]/*", r"\[4\] chooses none or too many of the 4 layers of encoder/blocks"),
        ("encoder/blocks[0:5]/*", r"\[0:5\] chooses none or too many of the 4 layers"),
        ("encoder/blocks[2:2]/*", r"\[2:2\] chooses none"),
        ("encoder/blocks[-5]/*", r"\[-5\] chooses none or too many"),
        ("encoder/blocks[a]/*", "brackets choose layers"),
        ("encoder[0]/blocks[1]/*", "brackets choose layers"),
        ("*[0]/kernel", "brackets choose layers"),
        ("encoder/[0]/kernel", "brackets choose layers"),
        ("encoder/blocks[0/*", "brackets choose layers"),
        ("", "a pattern is a string"),
        (3, "a pattern is a string"),
    ],
)
def test_a_wrong_pattern_is_told_in_one_line(pattern, said):
    with pytest.raises(RequestError, match=said) as raised:
        paths.check_patterns("frozen", (pattern,), PARAMS)
    assert "\n" not in str(raised.value)


def test_patterns_are_checked_against_shapes_alone_and_against_nothing():
    paths.check_patterns("rates", ("encoder/blocks[3]/*",), jax.eval_shape(lambda: PARAMS))
    with pytest.raises(RequestError, match="matches none of 0 parameters"):
        paths.check_patterns("rates", ("*/kernel",), {})
    with pytest.raises(RequestError, match="scalar"):
        paths.check_patterns("rates", ("temperature[0]",), {"temperature": jnp.zeros(())})
