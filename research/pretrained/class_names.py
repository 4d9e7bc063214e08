"""The names of a classifier's classes, as the config.json beside published weights gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from research.errors import require


def read(config: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """Hugging Face's `id2label`, or timm's `label_names`, described where there are `label_descriptions`.

    None where the config does not name every one of `classes` classes, or by its number only ("LABEL_7").

    Raises:
      RequestError: `id2label` is something else than names by number.
    """
    listed, described = config.get("label_names"), config.get("label_descriptions")
    names = dict(enumerate(listed)) if isinstance(listed, list | tuple) else by_number(config)
    names = {str(number): name for number, name in names.items()}
    if set(names) != {str(i) for i in range(classes)} or names == _made_up(classes):
        return None
    described = described if isinstance(described, Mapping) else {}
    return tuple(str(described.get(names[str(i)], names[str(i)])) for i in range(classes))


def by_number(config: Mapping[str, Any]) -> Mapping[Any, Any]:
    """Hugging Face's `id2label`, {number: name}, which may also be a list; empty where there is none, or null.

    Raises:
      RequestError: it is something else.
    """
    names = config.get("id2label")
    names = {} if names is None else names
    require(
        isinstance(names, Mapping | list | tuple),
        f"id2label={names!r:.80} in the config: expected an object, a name for each class's number",
    )
    return names if isinstance(names, Mapping) else dict(enumerate(names))


def written(names: Sequence[str] | None, classes: int) -> dict[str, Any]:
    """`id2label` and `label2id` of Hugging Face's config.json; without names, those that it makes up.

    Raises:
      RequestError: there are more or fewer names than classes, or something else than text among them.
    """
    if names is None:
        names_by_number = _made_up(classes)
    else:
        fits = not isinstance(names, str) and len(names) == classes and all(isinstance(name, str) for name in names)
        require(fits, f"class_names={names!r:.80}: expected {classes} texts, one for each class")
        names_by_number = {str(i): name for i, name in enumerate(names)}
    return {"id2label": names_by_number, "label2id": {name: int(i) for i, name in names_by_number.items()}}


def _made_up(classes: int) -> dict[str, str]:
    return {str(i): f"LABEL_{i}" for i in range(classes)}
