"""Initialisation from published weights; tests/research/inference/test_predictor.py tests runs as the source."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from research.config.hparams import hparams
from research.data.feeds import make_feeds
from research.errors import RequestError
from research.models.mlp import MLP
from research.models.resnet import ResNet
from research.models.vit import ViT, resize_positions
from research.pretrained import export_pretrained
from research.tasks.classification import Classification
from research.training.check import check_trainable
from research.training.step import make_init
from research.training.transfer import initial_parameters

TINY = ViT(image_size=16, patch_size=8, width=8, depth=1, num_heads=2, classes=7, norm_epsilon=1e-12)
HEAD = ("params/head/*",)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Writes a ViT (16 pixels, 7 classes) under Hugging Face's names; returns its path and parameters."""
    variables = jax.jit(TINY.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))
    variables = {"params": jax.tree.map(lambda x: x + 0.1, variables["params"])}
    path = tmp_path_factory.mktemp("vit") / "model.safetensors"
    return export_pretrained(TINY, variables, path), variables["params"]


def started(path, model, *, side=16, channels=3, skip=HEAD):
    """Returns (experiment, fresh state, state initialised from the weights)."""
    experiment = toys.experiment(
        model=model, task=Classification(classes=4), init_from=str(path), init_skip=skip, ema_decay=0.9
    )
    batch = {"image": jnp.zeros((2, side, side, channels)), "label": jnp.zeros(2, int), "weight": jnp.ones(2)}
    values = {name: jnp.asarray(x) for name, x in hparams(experiment).items()}
    state = jax.jit(make_init(experiment))(jax.random.key(0), batch, values)
    return experiment, state, initial_parameters(experiment, state, stacked=False)


def test_published_weights_with_a_new_head(published):
    path, params = published
    _, fresh, state = started(path, TINY.clone(classes=4))
    body = {name: x for name, x in state.params.items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, body, {name: params[name] for name in body})
    jax.tree.map(np.testing.assert_array_equal, state.params["head"], fresh.params["head"])
    jax.tree.map(np.testing.assert_array_equal, state.ema["params"], state.params)


def test_positions_are_interpolated_to_another_image_size(published):
    path, params = published
    _, _, state = started(path.parent, TINY.clone(classes=4, image_size=32), side=32)  # a folder works too
    expected = resize_positions(params["positions"], (2, 2), (4, 4))
    np.testing.assert_allclose(state.params["positions"], expected, rtol=1e-6)


def test_grey_images_take_all_but_the_first_layer(published):
    path, params = published
    _, fresh, state = started(path, TINY.clone(classes=4), channels=1, skip=(*HEAD, "params/patches/*"))
    assert state.params["patches"]["kernel"].shape == (8, 8, 1, 8)
    np.testing.assert_array_equal(state.params["patches"]["kernel"], fresh.params["patches"]["kernel"])
    np.testing.assert_array_equal(state.params["positions"], params["positions"])


def test_every_trial_of_a_stack_gets_the_same(published):
    path, params = published
    experiment, state, _ = started(path, TINY.clone(classes=4))
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), dataclasses.replace(state, ema=None))
    found = initial_parameters(experiment, stacked, stacked=True)
    np.testing.assert_array_equal(found.params["positions"], np.stack([params["positions"]] * 2))


@pytest.mark.parametrize(
    ("model", "skip", "says"),
    [
        (TINY.clone(classes=4), (), "classifier.weight [7, 8] (for params/head/kernel [8, 4])"),
        (TINY.clone(classes=4), (), "add fresh parameters to init_skip, such as 'params/head/*'"),
        (TINY.clone(classes=4, depth=2), HEAD, "missing: vit.encoder.layer.1.layernorm_before.weight"),
        (
            TINY.clone(classes=4, width=16),
            HEAD,
            "vit.embeddings.cls_token [1, 1, 8] (for params/class_token [1, 1, 16])",
        ),
        (ResNet(depths=(1,), widths=(4,), strides=(1,), stem_width=4, classes=4), HEAD, "unknown: "),
        (MLP(widths=(4,), classes=4), HEAD, "MLP: no published weights are mapped for it"),
    ],
)
def test_what_does_not_fit_is_one_line(published, model, skip, says):
    with pytest.raises(RequestError, match="^init_from: [^\n]+$") as error:
        started(published[0], model, skip=skip)
    assert says in str(error.value)


def test_a_pattern_that_skips_nothing_is_refused(published):
    """Otherwise the published head would be kept silently if the numbers of classes were equal."""
    with pytest.raises(RequestError, match=r"^init_skip='params/haed/\*': matches none [^\n]*'params/head/[^\n]*$"):
        started(published[0], TINY.clone(classes=7), skip=("params/haed/*",))


def test_weights_that_are_not_there_are_one_line():
    with pytest.raises(RequestError, match="^init_from: no_such/model.safetensors: no such file or folder[^\n]*$"):
        started("no_such/model.safetensors", TINY)


def test_a_run_that_is_not_there_is_said_before_anything_is_compiled():
    experiment = toys.experiment(init_from="runs/no/such")
    with pytest.raises(RequestError, match=r"^init_from: runs/no/such: no run there \(expected [^\n]*$"):
        check_trainable(experiment, make_feeds(experiment.data.load(), experiment.data))
