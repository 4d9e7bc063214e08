"""Imports run downhill: no module imports a higher layer, and there are no circular imports.

Imports inside functions and behind a TYPE_CHECKING guard count too.
"""

import ast
import graphlib
import importlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent

LAYERS = (
    # foundations
    ("research.console", "research.listing", "research.whole_files"),
    ("research.errors",),
    ("research.faces",),
    ("research.parallel.clusters", "research.parallel.watch"),
    ("research.parallel.link",),
    ("research.parallel.meeting",),
    ("research.parallel.hosts",),  # so that every part may ask it, and nothing else knows of several processes
    ("research.config", "research.paths"),
    ("research.locations",),
    # parts of models, and data
    ("research.losses",),
    ("research.schedules", "research.layers", "research.metrics"),
    ("research.detection",),
    ("research.optimizers", "research.data", "research.decoding"),
    ("research.generated_code",),
    ("research.models",),
    ("research.tasks.randomness",),
    ("research.diffusion",),
    # tasks, and published weights
    ("research.evaluation.exhibits",),
    ("research.tasks", "research.pretrained"),
    ("research.evaluation.evaluations",),
    # experiments and their other parts, as values
    ("research.training.state", "research.training.records", "research.training.accumulation"),
    ("research.training.checkpoint_records",),
    ("research.parallel", "research.training.checkpoints", "research.training.early_stopping"),
    ("research.parameters",),
    ("research.experiment",),
    ("research.sweep", "research.training.folder"),
    # the step, which knows no device; its programs; scores of a split by them
    ("research.training.step",),
    ("research.training.programs",),
    ("research.evaluation",),
    # runs: using them, making them, reporting on them
    ("research.inference",),
    ("research.training",),
    ("research.report",),
    ("research.running",),
    ("research",),
    ("experiments",),
    ("experiments.analysis", "experiments.speed"),
    ("launch",),
)
"""From the lowest layer to the highest.  A module belongs to the longest of these names that its own name starts with.
It may import modules of the same name, and those in earlier rows.
"""


class Import(NamedTuple):
    """One module imports another."""

    importer: str
    imported: str


def modules() -> dict[str, pathlib.Path]:
    """{name of a module or package: its file}."""
    found = {}
    for top in ("research", "experiments", "launch"):
        for path in (ROOT / top).glob("**/*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports() -> Iterator[Import]:
    """Every import between our modules; a name on a face counts as an import of the module that defines it."""
    for importer, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            yield from (Import(importer, imported) for imported in _imported(node) if imported != importer)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
        for alias in node.names:
            below = f"{node.module}.{alias.name}"
            if below in MODULES:
                yield below
            elif MODULES[node.module].stem == "__init__":
                named = getattr(importlib.import_module(node.module), alias.name)
                yield getattr(named, "__module__", node.module)
            else:
                yield node.module


def owner(module: str) -> tuple[int, str]:
    """(row number, layer name) that a module belongs to."""
    found = [(len(name), row, name) for row, names in enumerate(LAYERS) for name in names if _is_in(module, name)]
    _, row, name = max(found)
    return row, name


def _is_in(module: str, name: str) -> bool:
    return f"{module}.".startswith(f"{name}.")


def uphill(entry: Import) -> bool:
    """True if a module imports a higher layer, or another layer of its own row."""
    (own_row, own), (row, name) = owner(entry.importer), owner(entry.imported)
    return own != name and row >= own_row


KNOWN = {Import("experiments.analysis.decoding", "launch.evaluate")}
"""Known violations, to be removed."""


def test_every_module_has_a_place():
    assert all(owner(module) for module in MODULES)
    assert owner("research.training.step") > owner("research.experiment") > owner("research.training.checkpoints")


def test_imports_run_downhill():
    against = {entry for entry in imports() if uphill(entry)}
    assert not against - KNOWN, "a module imports what stands above it, or beside it in another package"
    assert not KNOWN - against, "these are gone: take them from KNOWN"


def test_no_modules_import_one_another_in_a_circle():
    graph = {module: set() for module in MODULES}
    for entry in imports():
        graph[entry.importer].add(entry.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None
