"""Faces of packages: complete, lazy, and clear about missing names."""

import ast
import collections
import importlib
import pathlib
import subprocess
import sys

import pytest

from research.config.modules import load_module
from research.errors import RequestError

ROOT = pathlib.Path(__file__).parent.parent.parent
PACKAGES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "research").glob("**/__init__.py"))


def public_classes(folder: pathlib.Path) -> dict[str, str]:
    """{name of a public class: its module} of a package's own modules, without names that several modules define."""
    found = [
        (node.name, path.stem)
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    times = collections.Counter(name for name, _ in found)
    return {name: module for name, module in found if times[name] == 1}


@pytest.mark.parametrize("package", PACKAGES[1:], ids=str)
def test_every_public_class_is_on_the_face_of_its_package(package):
    face = importlib.import_module(".".join(package.parts))
    missing = {
        f"from .{module} import {name} as {name}"
        for name, module in public_classes(ROOT / package).items()
        if name not in face.__all__
    }
    assert not missing, f"{package}/__init__.pyi lacks {missing}"


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_every_name_of_a_face_is_there(package):
    face = importlib.import_module(".".join(package.parts))
    assert face.__doc__ and dir(face) == face.__all__
    for name in face.__all__:
        assert getattr(face, name) is not None


def test_sources_are_on_the_face_of_data_too():
    from research import data

    assert set(public_classes(ROOT / "research" / "data" / "sources")) <= set(data.__all__)
    assert data.Sklearn is data.sources.Sklearn


def test_a_face_imports_nothing_heavy_until_it_is_used():
    light = (
        "import sys, research\nfrom research import config, data, inference, losses, models, report, tasks, training\n"
    )
    heavy = "print(*sorted({'jax', 'flax', 'numpy', 'optax', 'matplotlib'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", light + heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_a_module_and_a_function_may_share_a_name():
    from research import models
    from research.models.resnet import Block, resnet

    assert models.resnet is resnet and Block.__module__ == "research.models.resnet"


def test_a_wrong_name_is_told_with_the_nearest():
    from research import data

    with pytest.raises(AttributeError, match="^research.data has no 'Sklern'; did you mean 'Sklearn'?"):
        data.Sklern  # noqa: B018
    with pytest.raises(ImportError, match="^research.models has no 'MPL'; did you mean 'MLP'?"):
        from research.models import MPL  # noqa: F401
    assert not hasattr(data, "Sklern")


@pytest.mark.parametrize("line", ["from research.models import MPL", "from research import models\nmodels.MPL"])
def test_the_launcher_tells_the_line_of_a_wrong_name(tmp_path, line):
    file = tmp_path / "mine.py"
    file.write_text(f'"""Mine."""\n{line}\n')
    number = 1 + len(line.splitlines())
    with pytest.raises(
        RequestError, match=rf"^{file}, line {number}: \w+: research.models has no 'MPL'; did you mean 'MLP'"
    ):
        load_module(f"file:{file}")
