"""Fashion-MNIST: convolution, pooling and depth at equal parameters, and robustness to shifted images.

Xiao et al. (2017): 60,000 + 10,000 grey images of 28×28 pixels, ten kinds of clothing.  A stratified tenth of the
training split is the validation split; the test split is scored once, at the end of training.

    python -m research.data.sources.tfds prepare fashion_mnist     once; --manual-dir FOLDER takes files you have
    python -m launch run fashion_mnist_cnn                              two convolutions, 83,562 parameters
    python -m launch run fashion_mnist_cnn --sweep mlp --seeds 3        a perceptron, 85,942
    python -m launch run fashion_mnist_cnn --sweep resnet               a small ResNet, 616,746
    python -m launch run fashion_mnist_cnn --sweep models --seeds 3     all three at 78 to 86 thousand, one recipe
    python -m launch run fashion_mnist_cnn --sweep pooling --seeds 3    maximum, mean, stride or none, equal parameters
    python -m launch run fashion_mnist_cnn --sweep shift --seeds 3      test images shifted by 0 to 4 pixels

`shift` trains on images in place and evaluates on shifted ones: test/accuracy_shift_2 is the accuracy after a shift of
two pixels.  Evaluations average an image and its mirror image, except in `shift`; those of `resnet` also average copies
of both shifted by one pixel each way.

Expect the following test accuracies:

    (none)   0.9345 (n = 1), 33 minutes on one CPU core
    mlp      0.8984 ± 0.0015 (n = 3), 50 seconds per seed
    resnet   0.9416 (n = 1), 39 minutes on two cores; 0.9378 after 17 epochs; 0.9463 and 0.9462 on validation
    models   two epochs each: 0.8955 ± 0.0004, 0.8706 ± 0.0010 and 0.8914 ± 0.0027 (n = 3)
    pooling  two epochs: 0.813 ± 0.005 with maxima, 0.7976 ± 0.0029 with means, 0.8136 ± 0.0015 with strides, and 0.7760
    ±
             0.0001 without pooling (n = 3)
    shift    0.541 ± 0.003 with a shift of four pixels, 0.895 ± 0.001 without (n = 3); RESULTS.md has the others
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, Variant, ablation

EPOCH = 54_000 // 128  # steps


def experiment() -> Experiment:
    return Experiment(
        model=models.SimpleCNN(channels=(32, 64), kernel_size=5, hidden=(), norm="batch", dropout=0.3),
        task=tasks.Classification(classes=10, mirrored=True),
        data=data.TFDS("fashion_mnist"),
        augment=(data.augment.HorizontalFlip(),),
        preprocess=(data.Scale("image", 1 / 255),),
        optimizer=optimizers.AdamW(learning_rate=3e-3, schedule=schedules.OneCycle(pct_start=0.2), weight_decay=0.05),
        steps=28 * EPOCH,
        batch_size=128,
        ema_decay=0.998,
        eval_every=4 * EPOCH,
    )


def sweeps() -> dict[str, Sweep]:
    mlp = {
        "model": models.MLP(widths=(100, 64), classes=10, norm="batch"),
        "steps": 40 * EPOCH,
        "eval_every": 10 * EPOCH,
    }
    resnet = {
        "model": models.ResNet(
            depths=(2, 2, 1),
            widths=(40, 80, 160),
            strides=(2, 2, 2),
            stem="cifar",
            stem_width=16,
            zero_init=True,
            classes=10,
        ),
        "augment": (data.augment.HorizontalFlip(), data.augment.Cutout(8)),
        "steps": 24 * EPOCH,
        "eval_every": None,
        "task.label_smoothing": 0.1,
        "task.moved": 1,
        "optimizer": optimizers.SGD(
            0.1, schedule=schedules.OneCycle(pct_start=0.2), momentum=0.9, nesterov=True, weight_decay=1e-3
        ),
    }
    short = {"steps": 2 * EPOCH, "eval_every": None}
    small_resnet = models.ResNet(
        depths=(1, 1, 1), widths=(16, 32, 64), strides=(1, 2, 2), stem="cifar", stem_width=16, classes=10
    )
    averaged = short | {"model.readout": "average"}
    shifted = short | {"task": tasks.ShiftedClassification(classes=10)}
    return {
        "mlp": Sweep((Variant("mlp", mlp),)),
        "resnet": Sweep((Variant("resnet", resnet),)),
        "models": ablation(
            baseline=short,
            variants={"mlp": {"model": mlp["model"]}, "resnet": {"model": small_resnet}},
            name="cnn",
        ),
        "pooling": ablation(
            baseline=averaged,
            variants={
                "average pooling": {"model.pool": "average"},
                "stride": {"model.pool": "stride"},
                "none": {"model.pool": "none"},
            },
            name="max pooling",
        ),
        "shift": ablation(
            baseline=shifted,
            variants={
                "average pooling": {"model.pool": "average"},
                "stride": {"model.pool": "stride"},
                "each channel's mean": {"model.readout": "average"},
                "trained on moved images": {"augment": (data.augment.RandomCrop(4), data.augment.HorizontalFlip())},
                "mlp": {"model": mlp["model"]},
            },
            name="cnn",
        ),
    }
