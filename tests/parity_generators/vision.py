"""Makes parity fixtures of image models from their reference implementations: transformers and timm on PyTorch.

    pip install -e '.[parity]' timm
    python tests/parity_generators/vision.py OUT_DIR                    # the configurations of `CASES`
    python tests/parity_generators/vision.py OUT_DIR vit timm_vit       # some of them
    python tests/parity_generators/vision.py OUT_DIR vit --set hidden_size=48 --set image_size=40 --image 40 24

A fixture holds random weights under their published names (`param/...`), an input, the reference's outputs and loss in
evaluation mode, the L2 norm of the loss's gradient by parameter (`gradnorm/...`), and, with batch norm, the outputs and
running statistics of one forward pass in training mode (`train/...`); its metadata hold the configuration.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import zlib
from functools import partial

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

RESNET = {"embedding_size": 8, "depths": [1, 2, 1, 1]}
EFFICIENTNET = {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320, "image_size": 64}
NO_DROP = {"dropout_rate": 0.0, "drop_connect_rate": 0.0}
VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
TIMM_EFFICIENTNET = {"channel_multiplier": 0.25, "depth_multiplier": 0.5}
TIMM_VIT = {"img_size": 24, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 2.0}
CASES = {  # fixture: (configuration, side of the images or height and width)
    "resnet_basic": (RESNET | {"layer_type": "basic", "hidden_sizes": [8, 12, 16, 24]}, 40),
    "resnet_bottleneck": (RESNET | {"layer_type": "bottleneck", "hidden_sizes": [16, 24, 32, 40]}, 40),
    "efficientnet": (EFFICIENTNET | NO_DROP, 64),
    "convnext": ({"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "image_size": 64}, 64),
    "vit": (VIT | {"image_size": 24, "patch_size": 8}, 24),
    "timm_resnet_basic": ({"block": "BasicBlock", "layers": [1, 2, 1, 1], "channels": [8, 12, 16, 24]}, 40),
    "timm_resnet_bottleneck": ({"block": "Bottleneck", "layers": [1, 1, 2, 1], "channels": [8, 12, 16, 20]}, 40),
    "timm_efficientnet": (TIMM_EFFICIENTNET | {"variant": "efficientnet_b0"}, 64),
    "timm_tf_efficientnet": (
        TIMM_EFFICIENTNET | {"variant": "tf_efficientnet_b0", "bn_eps": 1e-3, "pad_type": "same"},
        64,
    ),
    "timm_convnext": ({"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}, 64),
    "timm_vit": (TIMM_VIT, 24),
    # The same with untested options: odd and oblong images, other activations, strides, pooling, channels.
    "resnet_basic_odd": (
        RESNET
        | {"layer_type": "basic", "hidden_sizes": [8, 8], "depths": [1, 2]}
        | {"downsample_in_first_stage": True, "hidden_act": "gelu"},
        (37, 51),
    ),
    "resnet_bottleneck_odd": (
        RESNET
        | {"layer_type": "bottleneck", "hidden_sizes": [18, 24, 29], "depths": [1, 2, 1]}
        | {"downsample_in_bottleneck": True, "num_channels": 1},
        (45, 33),
    ),
    "efficientnet_odd": (
        EFFICIENTNET | NO_DROP | {"depthwise_padding": [2, 3], "squeeze_expansion_ratio": 0.4, "num_channels": 1},
        (61, 75),
    ),
    "timm_tf_efficientnet_odd": (
        TIMM_EFFICIENTNET | {"variant": "tf_efficientnet_b0", "bn_eps": 1e-3, "pad_type": "same"},
        (63, 71),
    ),
    "convnext_odd": (
        {"hidden_sizes": [8, 16, 16], "depths": [1, 2, 1], "num_stages": 3, "layer_scale_init_value": 0.0},
        (70, 50),
    ),
    "timm_convnext_odd": (
        {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "patch_size": 2, "kernel_sizes": 5},
        (64, 48),
    ),
    "vit_odd": (
        VIT | {"image_size": [24, 16], "patch_size": 4, "qkv_bias": False, "hidden_act": "gelu_new"},
        (24, 16),
    ),
    "timm_vit_odd": (
        TIMM_VIT | {"img_size": [24, 16], "class_token": False, "global_pool": "avg", "in_chans": 1},
        (24, 16),
    ),
}

CLASSES, BATCH = 6, 3


def build(case: str, config: dict) -> tuple[nn.Module, dict]:
    """The reference of a case, and its configuration including the reference's defaults."""
    if case.startswith("timm_"):
        return build_timm(case, config), {**config, "num_classes": CLASSES}
    import transformers

    family = case.split("_")[0]
    stem = {"resnet": "ResNet", "efficientnet": "EfficientNet", "convnext": "ConvNext", "vit": "ViT"}[family]
    full = getattr(transformers, f"{stem}Config")(num_labels=CLASSES, **config)
    return getattr(transformers, f"{stem}ForImageClassification")(full), full.to_dict()


def build_timm(case: str, config: dict) -> nn.Module:
    from timm.layers import BatchNormAct2d
    from timm.models import convnext, efficientnet, resnet, vision_transformer

    if "efficientnet" in case:
        arguments = {key: value for key, value in config.items() if key != "bn_eps"}
        if "bn_eps" in config:
            arguments["norm_layer"] = partial(BatchNormAct2d, eps=config["bn_eps"])
        return efficientnet._gen_efficientnet(num_classes=CLASSES, **arguments)
    if "resnet" in case:
        arguments = {key: value for key, value in config.items() if key != "block"}
        return resnet.ResNet(getattr(resnet, config["block"]), num_classes=CLASSES, **arguments)
    if "convnext" in case:
        return convnext.ConvNeXt(num_classes=CLASSES, **config)
    return vision_transformer.VisionTransformer(num_classes=CLASSES, **config)


def enliven(model: nn.Module, generator: torch.Generator) -> None:
    """Sets random weights of a healthy scale: nothing is zero, one or symmetric, so that every mistake shows."""
    norms = {name for name, module in model.named_modules() if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))}
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if not x.is_floating_point():
                continue
            owner, leaf = name.rsplit(".", 1) if "." in name else ("", name)
            noise = torch.randn(x.shape, generator=generator)
            if leaf == "running_var":
                x.copy_(0.5 + torch.rand(x.shape, generator=generator))
            elif owner in norms and leaf == "weight":
                x.copy_(1 + 0.2 * noise)
            elif x.ndim >= 2 and leaf == "weight":
                x.copy_(noise * (1.5 / x[0].numel()) ** 0.5)
            elif leaf in ("gamma", "layer_scale_parameter"):
                x.copy_(0.5 + 0.2 * noise)
            else:
                x.copy_(0.2 * noise)


def forward(model: nn.Module, case: str, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    if case.startswith("timm_"):
        features = model.forward_features(images)
        out = {"forward_features": features, "logits": model.forward_head(features)}
    else:
        given = model(pixel_values=images, output_hidden_states=True)
        out = {"logits": given.logits}
        if "efficientnet" not in case:  # whose hidden states come from inside the blocks
            out |= {f"hidden_states.{i}": x for i, x in enumerate(given.hidden_states)}
    return out | {"loss": nn.functional.cross_entropy(out["logits"], labels)}


def published_state(model: nn.Module, directory: pathlib.Path) -> dict[str, np.ndarray]:
    """The state with the names that the reference writes to a file, which may differ from those of its modules."""
    if hasattr(model, "save_pretrained"):
        from safetensors.numpy import load_file

        model.save_pretrained(directory)
        return load_file(directory / "model.safetensors")
    return {name: x.detach().numpy().copy() for name, x in model.state_dict().items()}


def published_gradients(model: nn.Module, directory: pathlib.Path) -> dict[str, np.ndarray]:
    """The gradients with the same names, put in place of the parameters and written in the same way."""
    kept = {name: x.detach().clone() for name, x in model.named_parameters()}
    with torch.no_grad():
        for x in model.parameters():
            x.copy_(x.grad if x.grad is not None else torch.zeros_like(x))
        state = published_state(model, directory)
        for name, x in model.named_parameters():
            x.copy_(kept[name])
    return state


def make(case: str, config: dict, height: int, width: int, out: pathlib.Path, scratch: pathlib.Path) -> None:
    seed = zlib.crc32(f"{case}{json.dumps(config, sort_keys=True)}{height}x{width}".encode())
    generator = torch.Generator().manual_seed(seed)
    model, noted = build(case, config)
    enliven(model, generator)
    model.eval()
    channels = noted.get("num_channels", noted.get("in_chans", 3))
    images = torch.randn(BATCH, channels, height, width, generator=generator)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)

    state = published_state(model, scratch)
    arrays = {f"param/{name}": x for name, x in state.items()}
    arrays |= {"input/pixel_values": images.numpy(), "input/labels": labels.numpy().astype(np.int32)}
    outputs = forward(model, case, images, labels)
    arrays |= {f"output/{name}": x.detach().numpy() for name, x in outputs.items()}
    outputs["loss"].backward()
    buffers = {name for name in state if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    for name, x in published_gradients(model, scratch).items():
        if name not in buffers:
            arrays[f"gradnorm/{name}"] = np.asarray(np.linalg.norm(x.astype(np.float64)))
    if buffers:
        model.train()
        outputs = forward(model, case, images, labels)
        arrays |= {f"train/output/{name}": outputs[name].detach().numpy() for name in ("logits", "loss")}
        after = published_state(model, scratch)
        arrays |= {f"train/param/{name}": after[name] for name in buffers}

    metadata = {"arch": case, "config": json.dumps(noted), "config_kwargs": json.dumps(config), "seed": str(seed)}
    out.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(x) if x.ndim else x for name, x in arrays.items()}
    save_file(arrays, out / f"{case}.safetensors", metadata)
    print(f"{out / case}.safetensors: {len(state)} tensors, loss {float(arrays['output/loss']):.4f}")


def make_position_resize(out: pathlib.Path) -> None:
    """PyTorch's resizing of a grid of features, as for the positions of Vision Transformers."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(5, 4, 3, generator=generator)
    arrays = {"grid": grid.numpy()}
    for height, width in ((7, 6), (3, 2), (10, 4), (5, 9)):
        given = nn.functional.interpolate(grid.permute(2, 0, 1)[None], size=(height, width), mode="bicubic")
        arrays[f"resized/{height}x{width}"] = np.ascontiguousarray(given[0].permute(1, 2, 0).numpy())
    save_file(arrays, out / "position_resize.safetensors")


def _assignment(text: str) -> tuple[str, object]:
    key, value = text.split("=", 1)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("cases", nargs="*", default=[], help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--set", action="append", type=_assignment, default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--image", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for case in arguments.cases or CASES:
            config, size = CASES[case]
            height, width = arguments.image or ((size, size) if isinstance(size, int) else size)
            make(case, config | dict(arguments.settings), height, width, arguments.out, pathlib.Path(scratch))
    if not arguments.cases:
        make_position_resize(arguments.out)


if __name__ == "__main__":
    main()
