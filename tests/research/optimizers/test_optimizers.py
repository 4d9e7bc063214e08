import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from research import paths
from research.config.hparams import bind, hparams
from research.errors import RequestError
from research.optimizers import SGD, Adafactor, Adam, AdamW, Lamb, Lion, Muon, RMSprop, layer_decay
from research.schedules import Cosine

# The fixtures come from 20 steps of PyTorch's optimizers with these settings.
REFERENCE = {
    "sgd_momentum": SGD(learning_rate=0.05, momentum=0.9, weight_decay=0.01),
    "sgd_nesterov": SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.0),
    "adam_l2": Adam(learning_rate=0.05, weight_decay=0.01),
    "adamw": AdamW(learning_rate=0.05, b2=0.99, weight_decay=0.1),
    "adamw_warmup_cosine_clip": AdamW(learning_rate=0.1, b2=0.95, weight_decay=0.1, schedule=Cosine(warmup_steps=5)),
    "rmsprop": RMSprop(learning_rate=0.01, alpha=0.95, momentum=0.9),
}
REFERENCE = {name: dataclasses.replace(optimizer, no_decay=()) for name, optimizer in REFERENCE.items()}

EVERY = (
    SGD(),
    SGD(momentum=0.9),
    RMSprop(momentum=0.9),
    Adam(),
    AdamW(),
    Lamb(),
    Lion(),
    Adafactor(),
    Muon(ns_steps=1),
)
EVERY = tuple(dataclasses.replace(optimizer, learning_rate=0.02, weight_decay=0.1) for optimizer in EVERY)
each = pytest.mark.parametrize("optimizer", EVERY, ids=lambda optimizer: type(optimizer).__name__)


def random_like(tree, seed=0):
    """Standard normal numbers in the place of every leaf."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=np.shape(x)), jnp.float32), tree)


def quadratic(target):
    return lambda params: 0.5 * sum(jax.tree.leaves(jax.tree.map(lambda p, t: jnp.sum((p - t) ** 2), params, target)))


PARAMS = random_like(
    {
        "embedding": np.zeros((4, 2)),
        "blocks": {"kernel": np.zeros((3, 4, 5)), "bias": np.zeros((3, 5))},
        "head": {"kernel": np.zeros((4, 2))},
        "scale": np.zeros(4),
    }
)
LOSS = quadratic(random_like(PARAMS, seed=1))


def step_of(optimizer, loss, total_steps=20, clip=None):
    """A train step (number, hyperparameters by path, params, state) -> (params, state, loss before it)."""

    def step(number, values, params, state):
        loss_before, grads = jax.value_and_grad(loss)(params)
        if clip is not None:  # like PyTorch's clip_grad_norm_
            scale = jnp.minimum(1.0, clip / (optax.tree.norm(grads) + 1e-6))
            grads = jax.tree.map(lambda g: g * scale, grads)
        bound = bind(optimizer, values)
        rate = bound.learning_rate_at(number, total_steps)
        updates, state = bound.transformation(rate).update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss_before

    return step


def train(optimizer, loss, params, steps=5):
    """Params and the optimizer's state after some steps with concrete hyperparameters."""
    state = optimizer.transformation().init(params)
    # Single operations are compiled once for all tests; loops and vmap would be compiled at every call.
    loops = isinstance(optimizer, Muon) or getattr(optimizer, "stacked", ())
    step = jax.jit(step_of(optimizer, loss)) if loops else step_of(optimizer, loss)
    for number in range(steps):
        params, state, _ = step(number, {}, params, state)
    return params, state


def train_with_optax(tx, loss, params, steps=5):
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    return params


def updates_of(optimizer, grads=None):
    """The first updates, by path."""
    grads = jax.tree.map(jnp.zeros_like, PARAMS) if grads is None else grads
    tx = optimizer.transformation()
    update = jax.jit(tx.update) if isinstance(optimizer, Muon) else tx.update
    return paths.flatten(update(grads, tx.init(PARAMS), PARAMS)[0])


def assert_trees_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


# --- PyTorch's trajectories -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("name", REFERENCE)
def test_equals_pytorch(name, dtype, tolerance):
    arrays, metadata = parity.load(f"optim_{name}")
    optimizer, config = REFERENCE[name], metadata["config"]
    assert config["lr"] == optimizer.learning_rate
    assert config.get("weight_decay") == optimizer.weight_decay
    clip = 0.5 if "clip" in name else None
    suffix = "64" if dtype == "float64" else ""

    with jax.enable_x64(dtype == "float64"):
        A, b, x, y = (arrays[key].astype(dtype) for key in ("quad/A", "quad/b", "mlp/x", "mlp/y"))

        def on_quadratic(p):
            return 0.5 * p["x"] @ A @ p["x"] - b @ p["x"]

        def on_mlp(p):
            hidden = jnp.tanh(x @ p["0"]["kernel"] + p["0"]["bias"])
            return jnp.mean((hidden @ p["2"]["kernel"] + p["2"]["bias"] - y) ** 2)

        def trajectory(loss, params):
            # Like training: one compiled step with hyperparameters as arguments.
            step, state = jax.jit(step_of(optimizer, loss, clip=clip)), optimizer.transformation().init(params)
            passed, losses = [params], []
            for number in range(20):
                params, state, loss_before = step(number, hparams(optimizer), params, state)
                passed, losses = [*passed, params], [*losses, loss_before]
            return passed, losses

        passed, losses = trajectory(on_quadratic, {"x": jnp.asarray(arrays["quad/x0"], dtype)})
        assert passed[-1]["x"].dtype == dtype
        np.testing.assert_allclose([p["x"] for p in passed], arrays[f"quad/x_traj{suffix}"], atol=tolerance)
        np.testing.assert_allclose(losses, arrays[f"quad/loss{suffix}"], rtol=tolerance, atol=tolerance)

        initial = {
            layer: {
                "kernel": jnp.asarray(arrays[f"mlp/param_init/{layer}.weight"].T, dtype),
                "bias": jnp.asarray(arrays[f"mlp/param_init/{layer}.bias"], dtype),
            }
            for layer in ("0", "2")
        }
        passed, losses = trajectory(on_mlp, initial)
        np.testing.assert_allclose(losses, arrays[f"mlp/loss{suffix}"], rtol=tolerance, atol=tolerance)
        for layer, final in passed[-1].items():
            expected = f"mlp/param_final{suffix}/{layer}"
            np.testing.assert_allclose(final["kernel"].T, arrays[f"{expected}.weight"], atol=tolerance)
            np.testing.assert_allclose(final["bias"], arrays[f"{expected}.bias"], atol=tolerance)

        rates = [optimizer.learning_rate_at(step, 20) for step in range(20)]
        np.testing.assert_allclose(rates, arrays["lr"], atol=1e-7)


# --- Optax's own ------------------------------------------------------------------------------------------------------

DECAYED = paths.map_with_path(lambda path, _: not path.endswith(("bias", "scale")), PARAMS)


@pytest.mark.parametrize(
    ("ours", "optax_own"),
    [
        (Lamb(0.02, weight_decay=0.1, stacked=()), optax.lamb(0.02, weight_decay=0.1, mask=DECAYED)),
        (Lion(0.02, weight_decay=0.1), optax.lion(0.02, weight_decay=0.1, mask=DECAYED)),
        (AdamW(0.02, weight_decay=0.1), optax.adamw(0.02, weight_decay=0.1, mask=DECAYED)),
        (Adafactor(0.02, stacked=()), optax.adafactor(0.02)),
        (Adafactor(0.02, min_dim_size_to_factor=2, momentum=0.9, stacked=()), optax.adafactor(0.02, 2, momentum=0.9)),
        (
            Adafactor(0.02, scale_parameters=False, clipping_threshold=None, weight_decay=0.1, stacked=()),
            # Optax's decay is not multiplied by the learning rate.
            optax.adafactor(
                0.02,
                multiply_by_parameter_scale=False,
                clipping_threshold=None,
                weight_decay_rate=0.1 * 0.02,
                weight_decay_mask=DECAYED,
            ),
        ),
    ],
    ids=["lamb", "lion", "adamw", "adafactor", "adafactor-factored", "adafactor-plain"],
)
def test_equals_optax(ours, optax_own):
    assert_trees_close(train(ours, LOSS, PARAMS)[0], train_with_optax(optax_own, LOSS, PARAMS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("match_rms", "nesterov"), [(None, True), (0.2, False)])
def test_muon_equals_optax_for_matrices_and_adamw_for_the_rest(match_rms, nesterov):
    matrices = (("head/kernel", 1), ("embedding", 1))
    ours = Muon(0.02, weight_decay=0.1, no_decay=(), match_rms=match_rms, nesterov=nesterov, matrices=matrices)
    label = {"embedding": "muon", "blocks": "adamw", "head": "muon", "scale": "adamw"}
    own = optax.contrib.muon(0.02, weight_decay=0.1, consistent_rms=match_rms, nesterov=nesterov)
    both = optax.partition({"muon": own, "adamw": optax.adamw(0.02, weight_decay=0.1)}, label)
    both = both._replace(update=jax.jit(both.update))
    assert_trees_close(train(ours, LOSS, PARAMS)[0], train_with_optax(both, LOSS, PARAMS), rtol=1e-4, atol=1e-6)


def test_muon_takes_output_axes_from_the_pattern():
    # A projection to heads [features, heads, head_dim] is the matrix [features, heads * head_dim]; a convolution's
    # kernel [height, width, in, out] the matrix [height * width * in, out].
    params = random_like({"query": {"kernel": np.zeros((6, 2, 4))}, "conv": {"kernel": np.zeros((2, 2, 3, 5))}})
    shapes = {"query": {"kernel": (6, 8)}, "conv": {"kernel": (12, 5)}}
    target = random_like(params, seed=3)

    def flat(tree):
        return jax.tree.map(lambda x, shape: x.reshape(shape), tree, shapes)

    folded, _ = train(Muon(0.02, matrices=(("query/*", 2), ("*/kernel", 1))), quadratic(target), params)
    matrices, _ = train(Muon(0.02), quadratic(flat(target)), flat(params))
    assert_trees_close(flat(folded), matrices, rtol=1e-4, atol=1e-6)


# --- every optimizer --------------------------------------------------------------------------------------------------


@each
def test_the_loss_falls(optimizer):
    optimizer = dataclasses.replace(optimizer, weight_decay=None)
    params, _ = train(optimizer, LOSS, PARAMS, steps=10)
    assert LOSS(params) < 0.99 * LOSS(PARAMS)


@each
def test_two_trials_under_vmap_with_traced_hyperparameters_are_two_trainings(optimizer):
    optimizer = dataclasses.replace(
        optimizer, schedule=Cosine(warmup_steps=2, final=0.1), rates=(("blocks[0]/*", 2.0),)
    )
    trials = (optimizer, dataclasses.replace(optimizer, learning_rate=0.05, weight_decay=0.0))
    values = jax.tree.map(lambda *xs: jnp.asarray(xs), *(hparams(trial) for trial in trials))
    assert {"learning_rate", "weight_decay", "schedule.final"} <= set(values)

    params = jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS)
    state = jax.vmap(optimizer.transformation().init)(params)
    step = jax.jit(jax.vmap(step_of(optimizer, LOSS), in_axes=(None, 0, 0, 0)))
    for number in range(5):
        params, state, _ = step(number, values, params, state)
    for i, trial in enumerate(trials):
        alone, _ = train(trial, LOSS, PARAMS)  # its hyperparameters are Python floats
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], params), alone, rtol=1e-4, atol=1e-5)


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_keeps_its_types(optimizer, dtype):
    """A float64 hyperparameter promotes nothing, and float64 parameters have float64 moments."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), PARAMS)
        values = {name: jax.ShapeDtypeStruct((), "float64") for name in hparams(optimizer)}

        def states(values, params):
            tx = bind(optimizer, values).transformation()
            return tx.init(params), *tx.update(params, tx.init(params), params)

        before, updates, after = jax.eval_shape(states, values, params)
        types = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (before, after)]
        assert types[0] == types[1]
        assert all(x.dtype == dtype for x in jax.tree.leaves(updates))
        assert all(x.dtype == dtype for x in jax.tree.leaves(before) if x.ndim > 1)


def test_without_decay_and_with_decay_zero_the_results_are_the_same():
    none, zero = AdamW(0.02, weight_decay=None), AdamW(0.02, weight_decay=0.0)
    assert "weight_decay" not in hparams(none)
    assert_trees_close(train(none, LOSS, PARAMS)[0], train(zero, LOSS, PARAMS)[0], rtol=1e-6)


# --- which parameters -------------------------------------------------------------------------------------------------


def test_biases_and_scales_are_not_decayed_and_embeddings_are():
    updates = updates_of(AdamW(0.1, weight_decay=0.5))
    for path, p in paths.flatten(PARAMS).items():
        spared = path in ("blocks/bias", "scale")
        np.testing.assert_allclose(updates[path], 0 * p if spared else -0.1 * 0.5 * p, rtol=1e-6)


def test_no_decay_of_some_layers():
    updates = updates_of(AdamW(0.1, weight_decay=0.5, no_decay=("embedding", "blocks[1:]/kernel")))
    assert not updates["embedding"].any()
    assert not updates["blocks/kernel"][1:].any()
    np.testing.assert_allclose(updates["blocks/kernel"][0], -0.05 * PARAMS["blocks"]["kernel"][0], rtol=1e-6)
    np.testing.assert_allclose(updates["blocks/bias"], -0.05 * PARAMS["blocks"]["bias"], rtol=1e-6)


@each
def test_frozen_parameters_and_layers_stay_bitwise(optimizer):
    optimizer = dataclasses.replace(optimizer, frozen=("embedding", "head/*", "blocks[0:2]/*"))
    after, state = train(optimizer, LOSS, PARAMS)
    for path in ("embedding", "head/kernel"):
        np.testing.assert_array_equal(paths.flatten(after)[path], paths.flatten(PARAMS)[path])
        assert not [held for held in paths.flatten(state) if held.endswith(path)]
    for path in ("blocks/kernel", "blocks/bias"):
        np.testing.assert_array_equal(paths.flatten(after)[path][:2], paths.flatten(PARAMS)[path][:2])
        assert (paths.flatten(after)[path][2] != paths.flatten(PARAMS)[path][2]).all()


def test_what_is_not_frozen_has_state():
    state = paths.flatten(Adam(frozen=("head/*",)).transformation().init(PARAMS))
    for path in set(paths.flatten(PARAMS)) - {"head/kernel"}:
        assert len([held for held in state if held.endswith(f"/{path}")]) == 2, path


def test_a_leaf_of_which_all_layers_are_frozen_has_no_state():
    state = Adam(frozen=("blocks[:]/kernel",)).transformation().init(PARAMS)
    assert not [held for held in paths.flatten(state) if held.endswith("blocks/kernel")]


def test_frozen_wins_over_rates_and_over_gradients_that_are_not_finite():
    grads = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), PARAMS)
    updates = updates_of(AdamW(frozen=("head/*", "blocks[0]/*"), rates=(("*", 2.0),)), grads)
    assert not updates["head/kernel"].any()
    assert not updates["blocks/kernel"][0].any()
    assert jnp.isnan(updates["blocks/kernel"][1:]).all()


@each
def test_multipliers_scale_the_update_by_path_and_layer(optimizer):
    grads = random_like(PARAMS, seed=4)
    plain = updates_of(optimizer, grads)
    rates = (("blocks[-1]/*", 3.0), ("blocks/kernel", 0.5), ("head/*", 0.0), ("*/bias", 7.0))
    scaled = updates_of(dataclasses.replace(optimizer, rates=rates), grads)
    expected = {
        "embedding": 1,
        "scale": 1,
        "head/kernel": 0,
        "blocks/kernel": np.asarray([0.5, 0.5, 3], np.float32)[:, None, None],
        "blocks/bias": np.asarray([7, 7, 3], np.float32)[:, None],
    }
    for path, multiplier in expected.items():
        np.testing.assert_allclose(scaled[path], multiplier * plain[path], rtol=1e-4, atol=1e-7)


def test_layer_decay_falls_from_the_output_to_the_input_through_scanned_layers():
    params = {"patches": jnp.ones(2), "blocks": {"kernel": jnp.ones((2, 3))}, "norm": jnp.ones(2), "head": jnp.ones(2)}
    rates = layer_decay(0.5, ("*", "blocks[0]/*", "blocks[1]/*", "head"))
    optimizer = SGD(learning_rate=1.0, rates=rates)
    optimizer.check_paths(params)
    updates, _ = optimizer.transformation().update(params, optimizer.transformation().init(params), params)
    assert (updates["head"] == -1).all() and (updates["norm"] == updates["patches"]).all()
    assert updates["blocks"]["kernel"][:, 0].tolist() == [-0.25, -0.5] and updates["patches"][0] == -0.125


def test_trained_tells_what_is_not_frozen():
    trained = paths.flatten(AdamW(frozen=("head/*", "blocks[0:2]/*")).trained(PARAMS))
    assert trained["head/kernel"] == 0
    assert trained["embedding"] == 1
    np.testing.assert_array_equal(trained["blocks/kernel"].ravel(), [0, 0, 1])


@pytest.mark.parametrize(
    "optimizer",
    [
        Lamb(weight_decay=0.1, stacked=("blocks/*",)),
        Adafactor(min_dim_size_to_factor=3, momentum=0.9, weight_decay=0.1, stacked=("blocks/*",)),
        Muon(ns_steps=1, weight_decay=0.1, stacked=("blocks/*",)),
        AdamW(weight_decay=0.1),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_a_stack_of_layers_is_trained_as_its_layers_one_by_one(optimizer):
    def unroll(tree):
        return tree | {"blocks": {str(i): jax.tree.map(lambda x, i=i: x[i], tree["blocks"]) for i in range(3)}}

    optimizer = dataclasses.replace(optimizer, learning_rate=0.02)
    on_layers = dataclasses.replace(optimizer, rates=(("blocks/0/*", 0.3),))
    on_stack = dataclasses.replace(optimizer, rates=(("blocks[0]/*", 0.3),))
    if hasattr(optimizer, "stacked"):
        on_layers = dataclasses.replace(on_layers, stacked=())
    on_stack.check_paths(PARAMS)
    on_layers.check_paths(unroll(PARAMS))

    stack, _ = train(on_stack, LOSS, PARAMS)
    layers, _ = train(on_layers, quadratic(unroll(random_like(PARAMS, seed=1))), unroll(PARAMS))
    assert_trees_close(unroll(stack), layers, rtol=1e-4, atol=1e-6)


def test_stacks_of_different_depth():
    params = random_like({"encoder": {"kernel": np.zeros((2, 3, 4))}, "decoder": {"kernel": np.zeros((5, 3, 4))}})
    target = random_like(params, seed=5)
    together, _ = train(Lamb(stacked=("encoder/*", "decoder/*")), quadratic(target), params)
    for name in params:
        alone, _ = train(Lamb(stacked=("*/kernel",)), quadratic({name: target[name]}), {name: params[name]})
        assert_trees_close({name: together[name]}, alone, rtol=1e-6)


# --- wrong requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (AdamW(learning_rate=0.0), "^learning_rate=0.0: must be a finite number > 0"),
        (AdamW(learning_rate=float("inf")), "^learning_rate=inf:"),
        (AdamW(learning_rate=float("nan")), "^learning_rate=nan:"),
        (AdamW(learning_rate=None), "^learning_rate=None:"),
        (AdamW(learning_rate="3e-4"), "^learning_rate='3e-4':"),
        (AdamW(weight_decay=-0.1), "^weight_decay=-0.1:"),
        (AdamW(b1=1.0), "^b1=1.0: must be at least 0 and below 1"),
        (Lion(b2=-0.1), "^b2=-0.1:"),
        (Adam(eps=-1e-8), "^eps=-1e-08:"),
        (SGD(momentum=1.5), "^momentum=1.5:"),
        (SGD(nesterov=True), "^nesterov=True: needs a momentum"),
        (RMSprop(alpha=1.0), "^alpha=1.0:"),
        (Adafactor(clipping_threshold=0.0), "^clipping_threshold=0.0:"),
        (Adafactor(decay_rate=0.0), "^decay_rate=0.0:"),
        (Adafactor(min_dim_size_to_factor=0), "^min_dim_size_to_factor=0:"),
        (Muon(momentum=None), "^momentum=None:"),
        (Muon(ns_steps=0), "^ns_steps=0:"),
        (Muon(matrices=(("*/kernel", -1),)), "^matrices="),
        (Muon(matrices=("*/kernel",)), "^matrices=.*must be a tuple of pairs"),
        (AdamW(no_decay="*/bias"), r"^no_decay='\*/bias': must be a tuple of patterns"),
        (AdamW(frozen=("blocks[x]/*",)), "^frozen=.*brackets choose layers"),
        (AdamW(rates=("head/*", 0.1)), "^rates=.*must be a tuple of pairs"),
        (AdamW(rates=(("head/*", -1.0),)), "^rates=.*multiplier must be a finite number >= 0"),
        (AdamW(schedule=Cosine(warmup_steps=500)), "^schedule.warmup_steps=500: "),
    ],
)
def test_check_names_the_field(optimizer, said):
    with pytest.raises(RequestError, match=said) as raised:
        optimizer.check(100)
    assert "\n" not in str(raised.value)


@each
def test_good_values_pass(optimizer):
    optimizer.check(100)
    optimizer.check_paths(jax.eval_shape(lambda: PARAMS))


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (
            AdamW(no_decay=("*/biass",)),
            r"^no_decay='\*/biass': matches none of 5 parameters; did you mean 'blocks/b",
        ),
        (AdamW(rates=(("haed/*", 0.1),)), r"^rates='haed/\*': .*did you mean 'head/"),
        (AdamW(frozen=("blocks[3]/*",)), r"^frozen='blocks\[3\]/\*': \[3\] chooses none or too many of the 3 layers"),
        (AdamW(frozen=("*",)), "^frozen=.*nothing to train"),
        (Lamb(stacked=("layers/*",)), "^stacked='layers/"),
        (Muon(matrices=(("scale", 1),)), "^matrices: scale has 1 axes"),
        (Muon(stacked=("blocks/*",), matrices=(("blocks/bias", 1),)), "^matrices: blocks/bias has 1 axes"),
    ],
)
def test_a_pattern_that_matches_nothing_is_told_in_one_line(optimizer, said):
    with pytest.raises(RequestError, match=said) as raised:
        optimizer.check_paths(PARAMS)
    assert "\n" not in str(raised.value)


def test_default_patterns_may_match_nothing():
    for optimizer in EVERY:
        optimizer.check_paths({"embedding": PARAMS["embedding"]})
    with pytest.raises(RequestError, match="matches none"):
        AdamW(frozen=("*/scale",)).check_paths({"embedding": PARAMS["embedding"]})
