"""config.json of Hugging Face and timm: its meaning, and one line for an invalid value."""

import pytest

from research.errors import RequestError
from research.models.convnext import convnext
from research.models.efficientnet import efficientnet
from research.models.resnet import resnet
from research.models.vit import vit
from research.pretrained import from_config

EFFICIENTNET = {"model_type": "efficientnet", "image_size": 32}
TIMM = {"num_features": 512, "global_pool": "avg", "pretrained_cfg": {"num_classes": 9, "input_size": [3, 224, 224]}}
LLAMA = {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 2.0}}


@pytest.mark.parametrize(
    ("config", "model"),
    [
        ({"architecture": "resnet18"}, resnet(18, classes=9)),
        ({"architecture": "resnet50", "num_classes": 4}, resnet(50, classes=4)),
        (
            {"architecture": "tf_efficientnet_b1"},
            efficientnet("b1", classes=9, momentum=0.9, dropout=0.0, drop_connect=0.0, image_size=224),
        ),
        (
            {"architecture": "convnext_tiny", "model_args": {"ls_init_value": None}},
            convnext("tiny", classes=9, layer_scale=None),
        ),
        (
            {"architecture": "vit_tiny_patch16_384", "global_pool": "token"},
            vit("ti", 16, classes=9, image_size=384, mlp_width=768),
        ),
    ],
)
def test_timms_architectures(config, model):
    assert from_config(TIMM | config)[1] == model


def test_timms_input_size_counts_where_it_is_fixed():
    cfg = {"num_classes": 9, "input_size": [3, 160, 128], "fixed_input_size": True}
    config = {"architecture": "vit_tiny_patch16_224", "global_pool": "token", "pretrained_cfg": cfg}
    assert from_config(config)[1] == vit("ti", 16, classes=9, image_size=(160, 128), mlp_width=768)


def test_timms_older_configs_have_their_constants_at_the_top():
    assert from_config({"architecture": "resnet34", "num_classes": 9, "mean": [0.5] * 3})[1] == resnet(34, classes=9)


def test_hugging_faces_sides():
    config = {"model_type": "vit", "image_size": [24, 16], "patch_size": [8, 8]}
    assert from_config(config)[1].grid == (3, 2)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "resnet", "depths": [1, 2]}, "config: widths="),
        ({"model_type": "resnet", "depths": []}, "depths=[] in the config: expected a list of whole numbers, one for"),
        ({"model_type": "resnet", "id2label": 5}, "id2label=5 in the config: expected an object, a name for each"),
        ({"model_type": "vit", "id2label": "cat"}, "id2label='cat' in the config: expected an object"),
        ({"model_type": "resnet", "depths": 3}, "depths=3 in the config: expected a list of whole numbers"),
        (
            {"model_type": "resnet", "layer_type": "botleneck"},
            "layer_type='botleneck' in the config: did you mean 'bott",
        ),
        ({"model_type": "convnext", "depths": [1, 1]}, "config: widths="),
        ({"model_type": "convnext", "patch_size": [4, 2]}, "patch_size=[4, 2] in the config: expected one number"),
        (
            EFFICIENTNET | {"strides": [1, 2]},
            "lists in the config of different lengths: kernel_sizes 7, out_channels 7,",
        ),
        (
            EFFICIENTNET | {"pooling_type": "avg"},
            "pooling_type='avg' in the config: did you mean 'mean'? (one of: max, mean)",
        ),
        (EFFICIENTNET | {"batch_norm_momentum": "0.9"}, "batch_norm_momentum='0.9' in the config: expected a number"),
        ({"model_type": "vit", "num_hidden_layers": "3"}, "config: depth='3': expected a whole number"),
        ({"model_type": "vit", "hidden_act": ["gelu"]}, "activation ['gelu'] in the config: "),
        ({"model_type": "vit", "image_size": [24, 16, 3]}, "config: image_size="),
        ({"model_type": "vit", "image_size": 30}, "config: image_size=30: expected a multiple of patch_size=16"),
        ({"model_type": "gpt2", "activation_function": ["gelu"]}, "activation_function=['gelu'] in the config: "),
        ({"model_type": "rnn_classifier", "kind": ["lstm"]}, "kind=['lstm'] in the config: "),
        ({"model_type": "rnn_classifier"}, "num_classes, hidden_size, input_size: missing in the config"),
        (LLAMA, "low_freq_factor, high_freq_factor, original_max_position_embeddings: missing in the config"),
        ({"model_type": ["vit"]}, "model_type=['vit'] in the config: "),
        ({"architecture": "resnet50d"}, "architecture='resnet50d' in the config: did you mean 'resnet50'?"),
        ({"architecture": ["resnet50"]}, "architecture=['resnet50'] in the config: "),
        ({"architecture": "resnet50", "pretrained_cfg": 1}, "pretrained_cfg=1 in config.json: expected an object"),
        ({"architecture": "resnet50", "model_args": 1}, "model_args=1 in config.json: expected an object"),
        (
            {"architecture": "resnet50", "input_size": 3, "fixed_input_size": True},
            "input_size=3 in config.json: expected",
        ),
        ({"architecture": "resnet50", "global_pool": "max"}, "global_pool='max' in the config: expected 'avg'"),
        ({"architecture": "resnet50", "model_args": {"stem_type": "deep"}}, "config: stem_type='deep' not supported"),
        (
            {"architecture": "resnet50", "model_args": {"block": "BottleNeck"}},
            "block='BottleNeck' in the config: did you mean 'Bottleneck'?",
        ),
        (
            {"architecture": "convnext_tiny", "model_args": {"kernel_sizes": [7, 7, 5, 5]}},
            "kernel_sizes=[7, 7, 5, 5] in",
        ),
        (
            {"architecture": "convnext_tiny", "model_args": {"patch_size": 8}},
            "patch_size=8 with 4 stages in the config:",
        ),
        (
            {"architecture": "convnext_tiny", "model_args": {"depths": [1] * 5, "dims": [8] * 5}},
            "patch_size=4 with 5 stages in the config: expected 4 (or 2), and at most 4 stages",
        ),
        (
            {"architecture": "efficientnet_b0", "model_args": {"variant": "efficientnet_lite0"}},
            "variant='efficientnet_lite0' in the config: lite networks are not built here",
        ),
        (
            {"architecture": "efficientnet_b0", "model_args": {"pad_type": "smae"}},
            "pad_type='smae' in the config: expected '' or 'same'",
        ),
        (
            {"architecture": "vit_base_patch16_224", "model_args": {"mlp_ratio": "4"}},
            "mlp_ratio='4' in the config: expe",
        ),
        *(
            (
                {"architecture": "vit_base_patch16_224", "model_args": {"mlp_ratio": ratio}},
                f"mlp_ratio={ratio} in the co",
            )
            for ratio in (float("inf"), 1e308, 0.0)
        ),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_one_line(config, said):
    with pytest.raises(RequestError) as error:
        from_config(config)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_timms_lists_of_equal_kernels_are_one():
    config = {"architecture": "convnext_atto", "model_args": {"kernel_sizes": [7, 7, 7, 7]}}
    assert from_config(config)[1].kernel_size == 7
