"""Files that systems leave in folders and archives of data, which no reader takes for data."""

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import save_file
from scipy.io import wavfile

from launch.list import entries
from research.data.sources import ImageFolder, JSONLines, LabeledText, ParallelText, PythonSource, Speech, TextFiles
from research.errors import RequestError
from research.inference import text as inference
from research.pretrained.files import is_checkpoint, open_checkpoint

LEFT = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")


@pytest.fixture
def left_in():
    """Puts what systems leave beside the files of a folder: also a damaged ._copy of each of them, as macOS does."""

    def put(folder):
        for path in [p for p in folder.rglob("*") if p.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xff")
        for inside in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
            for name in LEFT[:-1]:
                (inside / name).write_bytes(b"\x00\xff")
        (folder / "__MACOSX").mkdir()
        for path in [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]:
            (folder / "__MACOSX" / path.name).write_bytes(b"\x00\x05\x16\x07\xff")

    return put


def tone(number):
    file = io.BytesIO()
    wavfile.write(file, 8000, np.full(800, number, np.int16))
    return file.getvalue()


def fill(folder):
    """A folder with files of every kind; returns a data set of each."""
    for i in range(20):
        for kind in ("cat", "dog"):
            (folder / "images" / kind).mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (4, 4), (i, i, i)).save(folder / "images" / kind / f"{i}.png")
        lines = [json.dumps({"text": f"hello {i} {j}", "label": "ab"[j]}) for j in range(2)]
        for name, data in (("lines", "\n".join(lines).encode()), ("texts", f"some text {i}".encode())):
            (folder / name).mkdir(exist_ok=True)
            suffix = {"lines": ".jsonl", "texts": ".txt"}[name]
            path = folder / name / f"{i}{suffix}{'.gz' * (i % 2)}"
            path.write_bytes(gzip.compress(data) if i % 2 else data)
        for name, data in (("code", f"x = {i}\n".encode()), ("speech", tone(i))):
            (folder / name).mkdir(exist_ok=True)
            suffix = {"code": ".py", "speech": ".wav"}[name]
            (folder / name / f"{'ab'[i % 2]}_{i}{suffix}").write_bytes(data)
    return {
        "images": ImageFolder(str(folder / "images"), size=(4, 4)),
        "lines": JSONLines(path=str(folder / "lines"), length=4),
        "labels": LabeledText(path=str(folder / "lines"), length=4),
        "texts": TextFiles(path=str(folder / "texts"), length=4),
        "code": PythonSource(path=str(folder / "code"), length=4),
        "speech": Speech(path=str(folder / "speech"), pattern="{text}_{n}", sample_rate=8000),
    }


def test_every_reader_of_a_folder_leaves_them_out(tmp_path, left_in):
    data = fill(tmp_path)
    before = {name: [len(split) for split in own.load() if split is not None] for name, own in data.items()}
    for folder in list(tmp_path.iterdir()):
        left_in(folder)
    after = {name: [len(split) for split in own.load() if split is not None] for name, own in data.items()}
    assert after == before


def test_every_reader_of_an_archive_leaves_them_out(tmp_path, left_in):
    fill(tmp_path)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "deu.txt").write_text("".join(f"word {i}\tWort {i}\n" for i in range(20)))
    for name in ("speech", "pairs"):
        left_in(tmp_path / name)
    with tarfile.open(tmp_path / "speech.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "speech", ".")
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
        for path in sorted((tmp_path / "pairs").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    speech = Speech(path=str(tmp_path / "speech.tar.gz"), pattern="{text}_{n}", sample_rate=8000)
    assert len(speech.read().train) == 20
    assert len(ParallelText(path=(str(tmp_path / "pairs.zip"),)).read().train) == 20


def test_published_weights_and_experiments_are_found_beside_them(tmp_path):
    (tmp_path / "._model.safetensors").write_bytes(b"\x00\x05")
    assert not is_checkpoint(str(tmp_path))
    with pytest.raises(RequestError, match="no run there"):
        inference.load_text_model(tmp_path)
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert is_checkpoint(str(tmp_path)) and open_checkpoint(tmp_path).source.name == "model.safetensors"
    (tmp_path / "mine.py").write_text("def experiment():\n    pass\n")
    (tmp_path / "._mine.py").write_bytes(b"\x00\x05\xff")
    assert [entry.name for entry in entries(tmp_path)] == ["mine"]


def test_a_wrong_name_is_not_answered_with_one_of_them(tmp_path):
    for name in (*LEFT[:-1], "train.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(RequestError, match="one of: train.jsonl|did you mean 'train.jsonl'") as error:
        JSONLines(path=str(tmp_path / "tran.jsonl"), length=4).load()
    assert "DS_Store" not in str(error.value)
