"""`launch list`: lists experiments and scripts from their source, without importing them or jax."""

from __future__ import annotations

import ast
import dataclasses
import pathlib

from experiments.data_sets import of_experiment
from research.console import say
from research.errors import RequestError, likely, nearest

EXPERIMENTS = pathlib.Path(__file__).resolve().parent.parent / "experiments"
FILE_PREFIX = "file:"


@dataclasses.dataclass(frozen=True)
class Entry:
    """An experiment module: its name, the first line of its docstring, the names of its sweeps."""

    name: str
    summary: str
    sweeps: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Script:
    """A script in a folder of experiments/: its name, the first line of its docstring, and its first command."""

    name: str
    summary: str
    command: str


def list_all() -> int:
    """Prints every experiment with its sweeps and data, those in the working directory, then scripts that analyse
    finished runs, then timings.
    """
    for entry in entries():
        _say_entry(entry)
        data = of_experiment(entry.name)
        if data is not None:
            say(f"{'':24} data: {data.name}{'' if data.is_there else f', not there: {data.how}'}")
    own = pathlib.Path("experiments")
    if own.resolve() != EXPERIMENTS and (mine := entries(own)):
        say(f"\nyour own ({own.resolve()}):")
        for entry in mine:
            _say_entry(dataclasses.replace(entry, name=f"experiments.{entry.name}"))
    for title, folder in (("analysis of finished runs", "analysis"), ("timings", "speed")):
        say(f"\n{title} (experiments/{folder}/):")
        for script in scripts(EXPERIMENTS / folder):
            say(f"{script.name:26} {script.summary}")
            say(f"{'':26} {script.command}")
    return 0


def _say_entry(entry: Entry) -> None:
    say(f"{entry.name:24} {entry.summary}")
    if entry.sweeps:
        say(f"{'':24} --sweep {', '.join(entry.sweeps)}")


def entries(folder: pathlib.Path = EXPERIMENTS) -> list[Entry]:
    """The experiments of a folder, sorted by name: its modules that define `experiment()`."""
    found = []
    for path in _modules(folder):
        tree = _parsed(path)
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "experiment" in functions:
            keys = _literal_keys(functions["sweeps"]) if "sweeps" in functions else ()
            found.append(Entry(path.stem, next(iter(_docstring(tree)), ""), keys))
    return found


def scripts(folder: pathlib.Path) -> list[Script]:
    """The scripts of a folder, sorted by name: its modules whose docstring shows their command."""
    found = []
    for path in _modules(folder):
        lines = _docstring(_parsed(path))
        commands = [line for line in lines if f"python -m experiments.{folder.name}.{path.stem}" in line]
        if commands:
            found.append(Script(path.stem, lines[0], commands[0].partition("  ")[0]))
    return found


def _modules(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("."))


def _parsed(path: pathlib.Path) -> ast.Module:
    """The source of a module; empty if it cannot be read or is no Python, which running it reports."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # ValueError: it has null bytes
        return ast.Module(body=[], type_ignores=[])


def _docstring(tree: ast.Module) -> list[str]:
    return [line.strip() for line in (ast.get_docstring(tree) or "").splitlines()]


def _literal_keys(function: ast.FunctionDef) -> tuple[str, ...]:
    """The keys of the dict that the function returns, if they are literals."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
            return tuple(key for key in keys if isinstance(key, str))
    return ()


def module_name(experiment: str) -> str:
    """The module name, for `load_module`, of an experiment: `digits_mlp`, `experiments.digits_mlp`, or a path to a
    file.  `experiments.mine` is also experiments/mine.py in the working directory.

    Raises:
      RequestError: there is no such experiment or file.
    """
    if experiment.endswith(".py") or "/" in experiment:
        path = pathlib.Path(experiment)
        if not path.is_file():
            raise RequestError(f"{experiment}: no such file")
        return f"{FILE_PREFIX}{path.resolve()}"
    names = [entry.name for entry in entries()]
    short = experiment.removeprefix("experiments.")
    if short in names:
        return f"experiments.{short}"
    if "." in experiment and not experiment.startswith("experiments."):
        return experiment  # a user's own module
    own = pathlib.Path("experiments", *short.split(".")).with_suffix(".py")
    if experiment != short and own.is_file():
        return f"{FILE_PREFIX}{own.resolve()}"
    mine = likely(short, [entry.name for entry in entries(pathlib.Path("experiments"))])
    meant = nearest(short, names) if mine is None or mine in names else f"did you mean 'experiments.{mine}'?"
    raise RequestError(f"no experiment {experiment!r}; {meant}")


def short_name(module: str) -> str:
    """The name of an experiment's folder in runs/: the last word of its module, or the stem of its file."""
    if module.startswith(FILE_PREFIX):
        return pathlib.Path(module.removeprefix(FILE_PREFIX)).stem
    return module.rpartition(".")[2]
