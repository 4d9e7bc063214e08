"""The inputs of wrong requests: valid and invalid modules of experiments, arrays, tables and image folders."""

import numpy as np
import pytest
from command_line import launch, write_module

FINE = "import toys\n\n\ndef experiment():\n    return toys.experiment()\n"

MODULES = {
    "fine": FINE
    + """
from research.sweep import Sweep, ablation, grid, product, zipped


def sweeps():
    return {
        "rates": grid("optimizer.learning_rate", 1e-3, 1e-2),
        "bad_path": grid("optimizer.learnin_rate", 1e-3, 1e-2),
        "bad_type": grid("model.widths", (8,), 9),
        "bad_value": ablation({}, {"wide": {"model.widths": (32,)}, "none": {"model.widths": (-1,)}}),
        "bad_name": grid("model.activation", "relu", "rellu"),
        "beyond": grid("batch_size", 24, 1000),
        "misfit": grid("task.classes", 3, 4),
        "empty": Sweep(()),
        "same": grid("model.widths", (8,), (8,)),
        "rounded": grid("optimizer.learning_rate", 1e-3, 1e-3 + 1e-12),
        "a_list": [{"model.widths": (8,)}],
        "lengths": grid("steps", 10, 20),
    }
""",
    "syntax": "def experiment(:\n",
    "needs": "import no_such_package\n",
    "breaks": "numbers = [1, 2]\nthird = numbers[2]\n",
    "empty": "",
    "nothing": "def experiments():\n    return 1\n",
    "constant": "experiment = 3\n",
    "a_dict": "def experiment():\n    return {'steps': 3}\n",
    "raises": "import toys\n\n\ndef experiment():\n    return toys.experiment(model=toys.MLP(widths=(8,)))\n",
    "sweeps_raise": FINE + "\n\ndef sweeps():\n    return {'a': missing}\n",
    "sweeps_list": FINE + "\n\ndef sweeps():\n    return ['a']\n",
    "no_sweeps": FINE,
    "zipped": FINE
    + "\nfrom research.sweep import grid, zipped\n\n\ndef sweeps():\n"
    + "    return {'a': zipped(grid('steps', 10, 20), grid('seed', 1))}\n",
    "texts": "import toys\n\n\ndef experiment():\n    return toys.experiment(steps='600')\n",
    "one_width": "import toys\n\n\ndef experiment():\n    return toys.experiment(model=toys.MLP(64, 3))\n",
    "no_model": "import toys\n\n\ndef experiment():\n    return toys.experiment(model='MLP')\n",
    "no_task": "import toys\n\n\ndef experiment():\n    return toys.experiment(task=None)\n",
    "function": "import toys\n\n\ndef experiment():\n    return toys.experiment(data=lambda: 3)\n",
    "heads": """
        import toys
        from research.models.gpt import GPT


        def experiment():
            return toys.experiment(model=GPT(vocab_size=5, width=16, num_heads=3))
        """,
    "attribute": """
        import toys
        from flax import linen as nn


        class Model(nn.Module):
            @nn.compact
            def __call__(self, x, *, train=False):
                return nn.Dense(self.widht)(x)


        def experiment():
            return toys.experiment(model=Model())
        """,
    "our_function": """
        import toys
        from research.models.resnet import resnet


        def experiment():
            return toys.experiment(
                model=resnet(18, clases=3),
            )
        """,
    "divides": """
        import toys
        from flax import linen as nn


        def experiment():
            return toys.experiment(model=Model())


        class Model(nn.Module):
            groups: int = 0

            @nn.compact
            def __call__(self, x, *, train=False):
                return nn.Dense(3)(x.reshape(len(x), -1, self.width(x)))

            def width(self, x):
                return x.shape[-1] // self.groups
        """,
    "divides_when_set": """
        import dataclasses

        import toys
        from research.tasks.classification import Classification


        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Shared(Classification):
            shares: int = 2

            def __post_init__(self):
                self.classes // self.shares


        def experiment():
            return toys.experiment(task=Shared(classes=3))
        """,
    "only_when_scored": """
        import toys
        from research.tasks.classification import Classification


        class Task(Classification):
            def eval_outputs(self, apply, batch):
                return {"rank": apply(**self.inputs(batch), train=False) + batch["labels"]}


        def experiment():
            return toys.experiment(task=Task(classes=3))
        """,
    "data_raises": """
        import toys


        class Mine(toys.Blobs):
            def read(self):
                return {}["train"]


        def experiment():
            return toys.experiment(data=Mine())
        """,
    "arrays": """
        import dataclasses

        import toys
        from research.data.sources.arrays import Arrays


        def experiment():
            return toys.experiment(data=Arrays("labels.npz"), batch_size=8)
        """,
    "folder": """
        import toys
        from research.data.sources.folders import ImageFolder


        def experiment():
            return toys.experiment(data=ImageFolder("images", size=(4, 4)), batch_size=8)
        """,
    "table": """
        import toys
        from research.data.sources.tables import Table
        from research.tasks.regression import Regression


        def experiment():
            model = toys.MLP(widths=(8,), classes=1)
            return toys.experiment(data=Table("good.csv", target="y"), task=Regression(), model=model, batch_size=8)
        """,
    "prepared": """
        import toys
        from research.data.sources.tfds import TFDS


        def experiment():
            return toys.experiment(data=TFDS("fashion_mnist", data_dir="nothing_here"))
        """,
    "in_memory": """
        import numpy as np
        import toys
        from research.data.sources.arrays import InMemory


        def experiment():
            image, label = np.zeros((50, 4)), np.arange(50) % 3
            image[7] = np.nan
            return toys.experiment(data=InMemory(train={"image": image, "label": label}))
        """,
}


def image(path, size=(4, 4), mode="RGB"):
    import PIL.Image

    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.effect_noise(size, 50).convert(mode).save(path)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with all inputs of the requests."""
    root = tmp_path_factory.mktemp("world")
    for name, text in MODULES.items():
        write_module(root / f"{name}.py", text)

    data = root / "data"
    data.mkdir()
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 4)), np.arange(60) % 3
    np.savez(data / "labels.npz", image=x, label=np.where(y == 2, 7, y))
    np.savez(data / "negative.npz", image=x, label=y - 1)
    np.savez(data / "nan.npz", image=np.where(x > x.max() - 1e-9, np.nan, x), label=y)
    np.savez(data / "lengths.npz", image=x, label=y[:-1])
    np.savez(data / "objects.npz", image=np.array([{}] * 60), label=y)

    rows = [f"{a:.3f},{b:.3f},{a + b:.3f}\n" for a, b in generator.normal(size=(60, 2))]
    tables = {
        "good": rows,
        "words": [*rows[:30], "1.0,about two,3.0\n", *rows[31:]],
        "infinite": [*rows[:30], "1.0,inf,3.0\n", *rows[31:]],
        "gap": [*rows[:30], "1.0,2.0,\n", *rows[31:]],
        "ragged": [*rows[:30], "1.0,2.0\n", *rows[31:]],
        "header": [],
        "classes": [f"1.0,2.0,{'ab'[i % 2]}\n" for i in range(60)],
    }
    for name, lines in tables.items():
        (data / f"{name}.csv").write_text("a,b,y\n" + "".join(lines))

    (root / "hollow").mkdir()
    for name in ("images", "corrupt", "cut", "grey", "half"):
        for i in range(6):
            image(root / name / "cat" / f"{i}.png")
            image(root / name / "dog" / f"{i}.png")
    (root / "half" / "owl").mkdir()
    (root / "corrupt" / "dog" / "3.png").write_bytes(b"no image")
    whole = (root / "cut" / "dog" / "3.png").read_bytes()
    (root / "cut" / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    image(root / "grey" / "dog" / "3.png", mode="L")
    return root


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory):
    """The folder of a finished run of eight steps."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert launch("run", world / "fine.py", "--set", "steps=8", "--set", "data.validation=0", "--out", run).status == 0
    return run
