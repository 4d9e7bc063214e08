"""Python source as documents: skipped files, whole modules held out, and the version of the library."""

import platform
import sysconfig

import numpy as np
import pytest

from research.data.sources.python_source import PythonSource
from research.data.text.tokenizers import BPETokenizer
from research.errors import RequestError

FILES = {f"package/module{i}.py": f"def function{i}():\n    return {i}\n".encode() for i in range(10)} | {
    "package/test/test_module.py": b"import package.module1\n",
    "site-packages/other.py": b"x = 1\n",
    "latin.py": "# -*- coding: latin-1 -*-\n# caf\xe9\n".encode("latin-1"),
    "empty.py": b"",
    "notes.txt": b"no code\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def source(folder, **fields):
    tokenizer = BPETokenizer(300, ("<eos>",), min_frequency=1)
    return PythonSource(
        path=str(folder), length=8, tokenizer=tokenizer, end_of_text="<eos>", validation=2, test=3, **fields
    )


def test_modules_without_tests_and_what_is_no_utf8(folder):
    assert [document.name for document in source(folder).documents()] == [f"package/module{i}.py" for i in range(10)]
    kept = source(folder, skip=()).documents()
    assert {"package/test/test_module.py", "site-packages/other.py"} <= {document.name for document in kept}


def test_a_module_is_in_one_split(folder):
    data = source(folder)
    names = {split: {document.name for document in documents} for split, documents in data.split().items()}
    assert {split: len(own) for split, own in names.items()} == {"train": 5, "validation": 2, "test": 3}
    assert len(set().union(*names.values())) == 10
    splits = data.load()
    text = data.fit(splits.train).tokenizer.decode(splits.train.arrays()["tokens"].values)
    assert "".join(FILES[name].decode() for name in sorted(names["train"])) == text
    tested = sum(len(FILES[name]) for name in names["test"])
    assert 0 <= tested - splits.test.arrays()["bytes"].sum() <= 8  # all but the first token


def test_the_standard_library_of_another_python_is_refused(folder):
    data = PythonSource(length=8, tokenizer=BPETokenizer(300), version="2.7.18")
    with pytest.raises(RequestError, match=f"^version='2.7.18': this is Python {platform.python_version()}"):
        data.documents()
    fitted = source(folder)
    assert fitted.fit(fitted.load().train).version is None
    with pytest.raises(RequestError, match="no such folder"):
        source(folder / "none").documents()


def test_the_standard_library():
    documents = PythonSource(length=8, tokenizer=BPETokenizer(300)).documents()
    names = [document.name for document in documents]
    assert len(names) > 300 and "ast.py" in names and "json/decoder.py" in names
    assert not any(part in ("test", "site-packages") for name in names for part in name.split("/"))
    assert sysconfig.get_path("stdlib") not in "".join(names)
    assert np.mean([document.text.startswith("\ufeff") for document in documents]) < 0.01
