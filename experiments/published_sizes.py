"""Every family at a published size, to compile for hardware that you do not have; there are no data to train on.

    python -m launch compile published_sizes --sweep llama2-7b --topology v5e:16x16
    python -m launch compile published_sizes --sweep resnet50 --topology h100:8

Each sweep is one model with the shapes of its data, computed in bfloat16.  The batch is small enough for the memory of
a v5e-16 where the model is; `--set batch_size=...` changes it.  `python -m launch.compile_table` compiles all of them
for several topologies.  Results are in docs/scale.md.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.parallel import Parallel
from research.sweep import Sweep, Variant

BF16 = {"dtype": "bfloat16"}
DEEP = BF16 | {"scan_layers": True}


def experiment() -> Experiment:
    return Experiment(**_text(models.gpt2("gpt2", **DEEP), 8 * 16), steps=100_000)


def sweeps() -> dict[str, Sweep]:
    llama = {"remat": True} | DEEP
    photo = {"image": ((224, 224, 3), "uint8"), "label": ((), "int32")}
    return {
        "mlp": _size(_classes(models.MLP(widths=(4096, 4096, 4096), classes=1000, **BF16), photo, 256 * 16)),
        "resnet50": _size(_classes(models.resnet(50, **BF16), photo, 64 * 16)),
        "convnext-base": _size(_classes(models.convnext("base", **BF16), photo, 32 * 16)),
        "efficientnet-b4": _size(_classes(models.efficientnet("b4", **BF16), _sized(photo, 380), 16 * 16)),
        "vit-b16": _size(_classes(models.vit("b", 16, **DEEP), photo, 64 * 16)),
        "lstm-1500": _size(_text(models.RNNLanguageModel(10_000, "lstm", width=1500, depth=2, **BF16), 64 * 16, 35)),
        "gpt2": _size(_text(models.gpt2("gpt2", **DEEP), 8 * 16)),
        "gpt2-xl": _size(_text(models.gpt2("gpt2-xl", **llama), 4 * 16, shard=True)),
        "llama3.2-1b": _size(_text(models.llama("llama3.2-1b", **llama), 1 * 16, 4096, shard=True)),
        "llama2-7b": _size(_text(models.llama("llama2-7b", **llama), 1 * 16, 4096, shard=True)),
        "transformer-big": _size(_translation(models.translation("big", **DEEP), 32 * 16)),
        "unet-ddpm256": _size(_images(models.unet("ddpm256", **BF16), 256, None, 2 * 16)),
        "dit-xl2": _size(
            _images(
                models.dit("xl", 2, image_size=32, channels=4, classes=1000, **llama), 32, 1000, 16 * 16, channels=4
            )
        ),
        "yolox-s": _size(_detection(models.yolox("s", **BF16), tasks.DenseDetection(classes=80), 8 * 16)),
        "detr-r50": _size(_detection(models.detr(50, **BF16), tasks.SetDetection(classes=91), 2 * 16)),
        "whisper-small": _size(_speech(models.whisper("small", **DEEP), 8 * 16)),
    }


def sizes() -> dict[str, dict]:
    """{name: the parts of an experiment}."""
    return {name: dict(variant.overrides) for name, (variant,) in sweeps().items()}


def _size(parts: dict) -> Sweep:
    return Sweep((Variant("published", parts),))


def _parts(model, task, columns: dict, batch_size: int, shard: bool = False, preprocess: tuple = ()) -> dict:
    return {
        "model": model,
        "task": task,
        "data": data.Shapes(tuple((name, shape, dtype) for name, (shape, dtype) in columns.items())),
        "optimizer": optimizers.AdamW(learning_rate=3e-4, schedule=schedules.Cosine(), weight_decay=0.1),
        "batch_size": batch_size,
        "preprocess": preprocess,
        "parallel": Parallel(shard="fsdp" if shard else None),
    }


def _classes(model, columns: dict, batch_size: int) -> dict:
    scaled = (data.Scale("image", 1 / 255),)
    return _parts(model, tasks.Classification(classes=1000), columns, batch_size, preprocess=scaled)


def _sized(columns: dict, side: int) -> dict:
    return columns | {"image": ((side, side, 3), "uint8")}


def _text(model, batch_size: int, length: int = 1024, shard: bool = False) -> dict:
    columns = {name: ((length,), "int32") for name in ("tokens", "targets")}
    return _parts(model, tasks.LanguageModeling(vocab_size=model.vocab_size), columns, batch_size, shard)


def _translation(model, batch_size: int, length: int = 128) -> dict:
    tokens = {name: ((length,), "int32") for name in ("source", "target")}
    masks = {f"{name}_mask": ((length,), "bool") for name in tokens}
    return _parts(model, tasks.Translation(), tokens | masks, batch_size)


def _images(model, side: int, classes: int | None, batch_size: int, channels: int = 3) -> dict:
    columns = {"image": ((side, side, channels), "float32")} | ({"label": ((), "int32")} if classes else {})
    return _parts(model, tasks.Denoising(classes=classes), columns, batch_size)


def _detection(model, task, batch_size: int, side: int = 640, boxes: int = 100) -> dict:
    columns = {
        "image": ((side, side, 3), "uint8"),
        "boxes": ((boxes, 4), "float32"),
        "labels": ((boxes,), "int32"),
    }
    return _parts(model, task, columns, batch_size, preprocess=(data.Scale("image", 1 / 255),))


def _speech(model, batch_size: int, seconds: int = 30, tokens: int = 128) -> dict:
    columns = {
        "features": ((100 * seconds, model.mels), "float32"),
        "features_mask": ((100 * seconds,), "bool"),
        "target": ((tokens,), "int32"),
        "target_mask": ((tokens,), "bool"),
    }
    return _parts(model, tasks.Transcription(), columns, batch_size)
