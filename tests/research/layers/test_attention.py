"""Attention: every kernel against the definition, masks, the cache, and refusals."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import RequestError
from research.layers import attention_kernels, kernels
from research.layers.attention import MultiHeadAttention, check_heads
from research.layers.attention_kernels import attention_weights, check_kernel, choose_kernel, dot_product_attention
from research.layers.masks import both, causal_mask, padding_mask, segment_mask
from research.layers.positions import Rotary


def inputs(seed=0, batch=2, queries=5, keys=5, heads=4, kv_heads=4, head_dim=8, dtype=np.float32):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(batch, queries, heads, head_dim))
    key, value = rng.normal(size=(2, batch, keys, kv_heads, head_dim))
    return tuple(jnp.asarray(x, dtype) for x in (query, key, value))


def by_definition(query, key, value, mask=None, bias=0.0, scale=None):
    """Computes one product at a time, in float64."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    shared = query.shape[2] // key.shape[2]
    key, value = np.repeat(key, shared, axis=2), np.repeat(value, shared, axis=2)
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) * (scale or query.shape[-1] ** -0.5) + np.asarray(bias)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, value), weights


MASK = both(padding_mask(np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])), causal_mask(5, 5))


@pytest.mark.parametrize("kernel", ["einsum", "xla"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_kernels_compute_the_definition(kernel, kv_heads, mask):
    query, key, value = inputs(kv_heads=kv_heads)
    expected, _ = by_definition(query, key, value, mask)
    np.testing.assert_allclose(dot_product_attention(query, key, value, mask, kernel=kernel), expected, atol=2e-6)


def test_kernels_have_the_same_gradients():
    query, key, value = inputs(kv_heads=2)

    def gradients(kernel):
        def loss(*qkv):
            return (dot_product_attention(*qkv, MASK, kernel=kernel) ** 2).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(query, key, value)

    chex.assert_trees_all_close(gradients("einsum"), gradients("xla"), atol=5e-6)


@pytest.mark.parametrize("kernel", ["einsum", "xla"])
def test_causal_is_the_causal_mask(kernel):
    query, key, value = inputs()
    causal = dot_product_attention(query, key, value, causal=True, kernel=kernel)
    np.testing.assert_allclose(causal, by_definition(query, key, value, causal_mask(5, 5))[0], atol=2e-6)


def test_bias_scale_and_weights():
    query, key, value = inputs(kv_heads=2)
    bias = np.random.default_rng(1).normal(size=(1, 4, 5, 5)).astype(np.float32)
    expected, weights = by_definition(query, key, value, MASK, bias, scale=1.0)
    given = dot_product_attention(query, key, value, MASK, bias=bias, scale=1.0)
    np.testing.assert_allclose(given, expected, atol=2e-5)
    np.testing.assert_allclose(attention_weights(query, key, MASK, bias=bias, scale=1.0), weights, atol=1e-6)


def test_mask_of_every_head_by_itself():
    query, key, value = inputs(kv_heads=2)
    mask = np.random.default_rng(2).random((2, 4, 5, 5)) < 0.7
    mask[..., 0] = True
    np.testing.assert_allclose(
        dot_product_attention(query, key, value, mask), by_definition(query, key, value, mask)[0], atol=2e-6
    )


def test_bfloat16_softmax_is_in_float32():
    """Scores near 40 differ by less than the resolution of bfloat16; products round, the softmax does not."""
    query, key, value = inputs(dtype=jnp.bfloat16, head_dim=64, keys=64)
    expected, _ = by_definition(query, key, value, scale=1.0)
    out = dot_product_attention(query, key, value, scale=1.0)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=0.03)


def test_a_query_that_sees_nothing_is_finite_and_so_is_its_gradient():
    query, key, value = inputs()
    mask = np.zeros((2, 1, 5, 5), bool)

    def loss(query):
        return dot_product_attention(query, key, value, mask).sum()

    chex.assert_tree_all_finite((loss(query), jax.grad(loss)(query)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 2**31))
def test_what_is_masked_has_no_influence(hidden, seed):
    query, key, value = inputs(seed)
    mask = padding_mask(np.arange(5)[None] != hidden)
    changed = np.array(key)
    changed[:, hidden] += 100.0
    chex.assert_trees_all_equal(
        dot_product_attention(query, key, value, mask), dot_product_attention(query, changed, value, mask)
    )


def test_dropped_weights_average_to_the_kept_ones():
    query, key, value = inputs(batch=1)
    drop = jax.jit(lambda rng: dot_product_attention(query, key, value, dropout=0.4, dropout_rng=rng))
    samples = jax.vmap(drop)(jax.random.split(jax.random.key(0), 4000))
    assert samples.std(axis=0).min() > 0.05
    np.testing.assert_allclose(samples.mean(axis=0), dot_product_attention(query, key, value), atol=0.08)


def test_segments_see_only_themselves():
    segments = np.array([[0, 0, 1, 1, 1]])
    query, key, value = inputs(batch=1)
    packed = dot_product_attention(query, key, value, segment_mask(segments), causal=True)
    first = dot_product_attention(query[:, :2], key[:, :2], value[:, :2], causal=True)
    second = dot_product_attention(query[:, 2:], key[:, 2:], value[:, 2:], causal=True)
    np.testing.assert_allclose(packed, np.concatenate([first, second], axis=1), atol=1e-6)


# -- which kernel --------------------------------------------------------------------------------------------------

CHOICES = [
    ({"platform": "cpu"}, "einsum"),
    ({"platform": "tpu"}, "xla"),
    ({"platform": "rocm"}, "xla"),
    ({"platform": "cuda", "dtype": "bfloat16"}, "cudnn"),
    ({"platform": "gpu", "dtype": "bfloat16"}, "cudnn"),
    ({"platform": "cuda", "dtype": "float32"}, "xla"),
    ({"platform": "cuda", "dtype": "bfloat16", "head_dim": 20}, "xla"),
    ({"platform": "cuda", "dtype": "bfloat16", "plain": False}, "einsum"),
    ({"platform": "tpu", "plain": False}, "einsum"),
    ({"platform": "a new one"}, "xla"),
]


@pytest.fixture
def with_cudnn(monkeypatch):
    """Simulates a machine where JAX finds cuDNN."""
    monkeypatch.setattr(attention_kernels, "_cudnn_refusal", lambda: None)


@pytest.mark.parametrize(("situation", "kernel"), CHOICES, ids=str)
def test_auto_chooses_by_the_table(situation, kernel, with_cudnn):
    chosen, reason = choose_kernel("auto", **situation)
    assert chosen == kernel and reason


REFUSALS = [
    ("cudnn", {"platform": "cpu", "dtype": "bfloat16"}, "needs an NVIDIA GPU"),
    ("cudnn", {"platform": "rocm", "dtype": "bfloat16"}, "needs an NVIDIA GPU"),
    ("cudnn", {"platform": "cuda", "dtype": "float32"}, "bfloat16"),
    ("cudnn", {"platform": "cuda", "dtype": "bfloat16", "head_dim": 20}, "have 20"),
    ("cudnn", {"platform": "cuda", "dtype": "bfloat16", "head_dim": 256}, "have 256"),
    ("cudnn", {"platform": "cuda", "dtype": "bfloat16", "plain": False}, "dropout"),
    ("xla", {"platform": "cpu", "plain": False}, "dropout"),
]


def test_asking_for_cudnn_is_granted_where_it_runs(with_cudnn):
    assert choose_kernel("cudnn", platform="cuda", dtype="bfloat16") == ("cudnn", "asked for")


def test_a_gpu_program_without_cudnn_says_so(monkeypatch):
    monkeypatch.setattr(attention_kernels, "_cudnn_refusal", lambda: "JAX says of cuDNN: not detected")
    chosen = choose_kernel("auto", platform="cuda", dtype="bfloat16")
    assert chosen == ("xla", "JAX says of cuDNN: not detected")
    with pytest.raises(RequestError, match="not detected"):
        choose_kernel("cudnn", platform="cuda", dtype="bfloat16")


@pytest.mark.parametrize(("kernel", "situation", "word"), REFUSALS, ids=str)
def test_a_kernel_that_cannot_run_is_refused(kernel, situation, word, with_cudnn):
    with pytest.raises(RequestError, match=word) as refusal:
        choose_kernel(kernel, **situation)
    assert str(refusal.value).startswith(f"kernel={kernel!r}: ") and "\n" not in str(refusal.value)


def test_asking_for_cudnn_here_is_no_silent_slow_path():
    query, key, value = inputs(dtype=jnp.bfloat16)
    with pytest.raises(RequestError, match="NVIDIA"):
        dot_product_attention(query, key, value, kernel="cudnn")


def test_the_choice_is_recorded():
    query, key, value = inputs()
    with kernels.recording() as record:
        dot_product_attention(query, key, value)
        dot_product_attention(query, key, value)
        dot_product_attention(query, key, value, kernel="xla")
    assert record == {"attention": "einsum (the table's for cpu), xla (asked for)"}
    dot_product_attention(query, key, value)
    assert record == {"attention": "einsum (the table's for cpu), xla (asked for)"}


def test_another_target_than_this_machine():
    query, key, value = inputs()
    with kernels.targeting("tpu"), kernels.recording() as record:
        dot_product_attention(query, key, value)
    assert record == {"attention": "xla (the table's for tpu)"}
    assert kernels.target_platform() == jax.default_backend()


@pytest.mark.parametrize(
    ("kernel", "fields", "word"),
    [
        ("cudnn", {"dtype": "float32", "head_dim": 64}, "bfloat16"),
        ("cudnn", {"dtype": "bfloat16", "head_dim": 12}, "have 12"),
        ("cudnn", {"dtype": "bfloat16", "head_dim": 64, "dropout": 0.1}, "dropout"),
        ("xla", {"dtype": "float32", "head_dim": 64, "dropout": 0.1}, "dropout"),
    ],
    ids=str,
)
def test_a_model_that_its_kernel_cannot_run_is_refused(kernel, fields, word):
    with pytest.raises(RequestError, match=word):
        check_kernel(kernel, **fields)
    check_kernel("auto", **fields)


BAD_HEADS = [
    ({"num_heads": 5}, "num_heads=5: expected a divisor of width=32, such as 1, 2, 4, 8, 16"),
    ({"num_heads": 8, "num_kv_heads": 3}, "num_kv_heads=3: expected a divisor of num_heads=8"),
    ({"num_heads": 32, "rotary": True}, "head_dim=1: expected an even number for rotary positions"),
]


@pytest.mark.parametrize(("heads", "line"), BAD_HEADS, ids=str)
def test_heads_that_do_not_divide(heads, line):
    with pytest.raises(RequestError) as refusal:
        check_heads(32, **heads)
    assert str(refusal.value) == line


# -- the layer -----------------------------------------------------------------------------------------------------


def layer(**fields):
    heads = MultiHeadAttention(**{"num_heads": 4, "num_kv_heads": 2, "rotary": Rotary()} | fields)
    x = jax.random.normal(jax.random.key(1), (2, 6, 16))
    return heads, x, jax.jit(heads.init)(jax.random.key(0), x)


def test_parameters_of_grouped_queries():
    _, _, variables = layer(head_dim=6, use_bias=False, out_bias=True)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {
        "query": {"kernel": (16, 24)},
        "key": {"kernel": (16, 12)},
        "value": {"kernel": (16, 12)},
        "out": {"kernel": (24, 16), "bias": (16,)},
    }


def test_token_by_token_with_the_cache_is_all_at_once():
    heads, x, variables = layer()
    apply = jax.jit(heads.apply, static_argnames=("causal", "decode", "mutable"))
    valid = jnp.array([[1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1]], bool)  # a cache longer than the text
    whole = apply(variables, x, mask=padding_mask(valid[:, :6]), causal=True)
    parts, cache = [], {}
    for begin, end in ((0, 3), (3, 4), (4, 6)):
        out, cache = apply(
            {**variables, **cache}, x[:, begin:end], mask=padding_mask(valid), causal=True, decode=True, mutable="cache"
        )
        parts.append(out)
    np.testing.assert_allclose(np.concatenate(parts, axis=1)[:, 2:], whole[:, 2:], atol=1e-6)
    assert cache["cache"]["index"] == 6 and cache["cache"]["keys"].shape == (2, 8, 2, 4)


def test_memory_is_projected_once():
    heads, x, _ = layer(rotary=None)
    memory = jax.random.normal(jax.random.key(2), (2, 3, 10))
    variables = jax.jit(heads.init)(jax.random.key(0), x, memory)
    apply = jax.jit(heads.apply, static_argnames=("decode", "mutable"))
    mask = padding_mask(jnp.array([[1, 1, 1], [1, 1, 0]]))
    whole = apply(variables, x, memory, mask=mask)
    first, cache = apply(variables, x[:, :2], memory, mask=mask, decode=True, mutable="cache")
    nothing = jnp.full_like(memory, jnp.nan)
    second, _ = apply({**variables, **cache}, x[:, 2:], nothing, mask=mask, decode=True, mutable="cache")
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)


def test_weights_are_kept_only_when_asked_for():
    heads, x, variables = layer()
    assert set(variables) == {"params"}
    _, kept = heads.apply(variables, x, causal=True, mutable=["intermediates"])
    (weights,) = kept["intermediates"]["attention_weights"]
    assert weights.shape == (2, 4, 6, 6)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-6)
    assert (np.triu(weights, 1) == 0).all()


def test_dropout_only_in_training():
    heads, x, variables = layer(dropout=0.5)
    quiet = heads.apply(variables, x)
    rngs = {"dropout": jax.random.key(3)}
    np.testing.assert_array_equal(heads.apply(variables, x, rngs=rngs), quiet)
    assert abs(heads.apply(variables, x, train=True, rngs=rngs) - quiet).max() > 1e-3


def test_keys_may_come_from_other_features_than_values():
    """As in DETR: with positions in the keys only, weights follow them, and the values stay those of the memory."""
    generator = np.random.default_rng(0)
    x, memory, keys = (jnp.asarray(generator.normal(size=(2, n, 8)), jnp.float32) for n in (3, 5, 5))
    attention = MultiHeadAttention(num_heads=2)
    variables = attention.init(jax.random.key(0), x, memory)
    same = attention.apply(variables, x, memory, keys=memory)
    np.testing.assert_array_equal(same, attention.apply(variables, x, memory))
    ours = attention.apply(variables, x, memory, keys=keys)
    p = variables["params"]

    def heads(name, y):
        return (y @ p[name]["kernel"] + p[name]["bias"]).reshape(*y.shape[:2], 2, 4)

    seen, _ = by_definition(heads("query", x), heads("key", keys), heads("value", memory))
    expected = seen.reshape(2, 3, 8) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert abs(ours - same).max() > 1e-3
