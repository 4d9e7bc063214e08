"""Short labels of variants: `learning_rate=3e-3,weight_decay=0.1` becomes `lr=3e-3,wd=0.1`."""

from __future__ import annotations

import re
from collections.abc import Sequence

LIMIT = 26

_SETTING = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*)(?==)")


def shortened(names: Sequence[str], limit: int = LIMIT) -> tuple[dict[str, str], dict[str, str]]:
    """Returns labels and the abbreviations in them: ({name: label}, {abbreviation: setting}).

    If a name is longer than `limit`, settings of several words are replaced by their initials where these are
    unambiguous. Labels that are still too long are cut in the middle, unless two of them would become equal.

    >>> shortened(["learning_rate=0.003,weight_decay=0.1", "depth=4"])[0]["learning_rate=0.003,weight_decay=0.1"]
    'lr=0.003,wd=0.1'
    """
    if max(map(len, names), default=0) <= limit:
        return {name: name for name in names}, {}
    initials = _initials(list(dict.fromkeys(key for name in names for key in _SETTING.findall(name))))
    labels = {name: _SETTING.sub(lambda match: initials.get(match[1], match[1]), name) for name in names}
    if len(set(labels.values())) < len(labels):
        labels, initials = {name: name for name in names}, {}
    cut = {name: _cut(label, limit) for name, label in labels.items()}
    if len(set(cut.values())) < len(cut):
        cut = labels
    return cut, {short: key for key, short in initials.items()}


def _initials(keys: Sequence[str]) -> dict[str, str]:
    words = {key: [word for word in key.rsplit(".", 1)[-1].split("_") if word] for key in keys}
    short = {key: "".join(word[0] for word in parts) for key, parts in words.items() if len(parts) > 1}
    taken = [*short.values(), *(key for key in keys if key not in short)]
    return {key: initials for key, initials in short.items() if taken.count(initials) == 1}


def _cut(label: str, limit: int) -> str:
    head = (limit - 1) // 2
    return label if len(label) <= limit else f"{label[:head]}…{label[len(label) - (limit - 1 - head) :]}"
