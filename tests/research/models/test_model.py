"""Every model of the base class reports a wrong field in one line, from `check`, `init` and `apply`."""

import re

import jax
import jax.numpy as jnp
import pytest

from research.errors import RequestError
from research.models.convnext import ConvNeXt
from research.models.convnext_roadmap import ConvNeXtRoadmap
from research.models.efficientnet import EfficientNet
from research.models.mlp import MLP
from research.models.resnet import ResNet
from research.models.simple_cnn import SimpleCNN
from research.models.vit import ViT

WRONG = [
    (MLP((4,), 2, norm="bacth"), "norm='bacth': expected one of none, batch, layer; did you mean 'batch'?"),
    (SimpleCNN(pool="avg"), "pool='avg': expected one of max, average, stride, none"),
    (ResNet(norm="layer"), "norm='layer': expected one of batch, frozen, group, none"),
    (ResNet(inner_activation="rellu"), "inner_activation='rellu': expected one of relu, .*'relu'"),
    (EfficientNet(pool="mean"), "pool='mean': expected one of average, max"),
    (ConvNeXt(activation="gleu"), "activation='gleu': expected one of relu, gelu, .*'gelu'"),
    (ConvNeXtRoadmap(stem="cifer"), "stem='cifer': expected one of imagenet, cifar, patch; did you mean 'cifar'?"),
    (ViT(positions="rope"), "positions='rope': expected one of learned, sincos"),
    (SimpleCNN(kernel_size=2.5), "kernel_size=2.5: expected a whole number"),
    (MLP((4, 0), 2), r"widths=\(4, 0\): expected at least 1"),
]
IMAGE = jnp.zeros((1, 32, 32, 3))


@pytest.mark.parametrize(("model", "message"), WRONG, ids=[message.split(":")[0] for _, message in WRONG])
def test_a_wrong_field_is_refused_by_whoever_calls(model, message):
    calls = (
        model.check,
        lambda: model.init(jax.random.key(0), IMAGE),
        lambda: model.apply({"params": {}}, IMAGE),
    )
    for call in calls:
        with pytest.raises(RequestError) as error:
            call()
        assert re.fullmatch(f"{message}.*", str(error.value))
