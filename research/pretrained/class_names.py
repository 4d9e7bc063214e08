"""Class names of classifiers, as given in the config.json of published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from research.errors import require


def read(config: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """Reads Hugging Face's `id2label`, or timm's `label_names` with their `label_descriptions` if there are any.

    Returns None if the config does not name all of `classes` classes, or only numbers them ("LABEL_7").

    Raises:
      RequestError: `id2label` does not map numbers to names.
    """
    listed, described = config.get("label_names"), config.get("label_descriptions")
    names = dict(enumerate(listed)) if isinstance(listed, list | tuple) else by_number(config)
    names = {str(number): name for number, name in names.items()}
    if set(names) != {str(i) for i in range(classes)} or names == _made_up(classes):
        return None
    described = described if isinstance(described, Mapping) else {}
    return tuple(str(described.get(names[str(i)], names[str(i)])) for i in range(classes))


def by_number(config: Mapping[str, Any]) -> Mapping[Any, Any]:
    """Hugging Face's `id2label`, {number: name} or a list; empty if it is missing or null.

    Raises:
      RequestError: it is neither.
    """
    names = config.get("id2label")
    names = {} if names is None else names
    require(
        isinstance(names, Mapping | list | tuple),
        f"id2label={names!r:.80} in the config: expected an object, a name for each class's number",
    )
    return names if isinstance(names, Mapping) else dict(enumerate(names))


def written(names: Sequence[str] | None, classes: int) -> dict[str, Any]:
    """Hugging Face's `id2label` and `label2id`; without names, Hugging Face's defaults ("LABEL_0", ...).

    Raises:
      RequestError: the number of names is not the number of classes, or a name is not a string.
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
