import pytest

from research.errors import RequestError
from research.pretrained import class_names


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"id2label": {0: "cat", 1: "dog"}}, ("cat", "dog")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, None),
        ({"id2label": {"0": "cat"}}, None),
        ({"id2label": ["cat", "dog"]}, ("cat", "dog")),
        ({"id2label": None}, None),
        ({"label_names": ["n02", "n01"]}, ("n02", "n01")),
        ({"label_names": ["n02", "n01"], "label_descriptions": {"n01": "a dog"}}, ("n02", "a dog")),
        ({}, None),
    ],
    ids=str,
)
def test_names_are_kept_where_every_class_has_one(config, names):
    assert class_names.read(config, 2) == names


@pytest.mark.parametrize("given", ["cat", 2])
def test_an_id2label_that_names_nothing(given):
    with pytest.raises(RequestError, match=f"^id2label={given!r} in the config: expected an object, a name for each"):
        class_names.read({"id2label": given}, 2)


def test_what_is_written_is_read():
    written = class_names.written(["crane", "crane"], 2)  # two classes of ImageNet have this name
    assert written["id2label"] == {"0": "crane", "1": "crane"}
    assert class_names.read(written, 2) == ("crane", "crane")
    assert class_names.written(None, 2)["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}


@pytest.mark.parametrize("names", ["ab", ["a"], ["a", 1]])
def test_names_that_do_not_fit(names):
    with pytest.raises(RequestError, match=r"^class_names=.*: expected 2 texts, one for each class$"):
        class_names.written(names, 2)
