"""Pascal VOC and COCO: what is read, and one clear line for each kind of bad input."""

import io
import json
import os
import pathlib
import pickle
import zipfile

import numpy as np
import PIL.Image
import pytest

from research.data import COCO, VOC
from research.data.source import materialize
from research.errors import RequestError

BCCD = pathlib.Path(os.environ.get("ESPALIER_DATA", "../shared/data")) / "bccd" / "BCCD_Dataset-1.0.zip"


def picture(mode="RGB", size=(20, 10), orientation=None):
    """PNG or, with an orientation, JPEG bytes of a picture, black with a white left half."""
    x = np.zeros((size[1], size[0], 3), np.uint8)
    x[:, : size[0] // 2] = 255
    image, file = PIL.Image.fromarray(x).convert(mode), io.BytesIO()
    if orientation is None:
        image.save(file, "png")
    else:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        image.save(file, "jpeg", exif=exif, quality=95)
    return file.getvalue()


def xml(*objects, size=(20, 10)):
    inside = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, difficult in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{inside}</annotation>".encode()


CAT = ("cat", (1, 1, 10, 10), 0)


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def voc(root, **changes):
    """Two pictures, of which b has none of the objects; `changes` replace or remove (None) files."""
    files = {f"d/JPEGImages/{name}.png": picture() for name in "ab"}
    files |= {"d/Annotations/a.xml": xml(CAT, ("dog", (5.5, 2, 30, 9), 1)), "d/Annotations/b.xml": xml()}
    files |= {"d/ImageSets/Main/train.txt": "a\nb\n", "d/ImageSets/Main/test.txt": "b\n"}
    files |= changes
    return write(root, {name: x for name, x in files.items() if x is not None})


def read(path, **fields):
    """The training columns of a VOC data set."""
    data = VOC(str(path), size=(10, 20), validation=0, **fields)
    data.check()
    return materialize(data.load().train)


@pytest.mark.usefixtures("nothing_misspelled")
@pytest.mark.parametrize("zipped", [False, True])
def test_voc_from_a_folder_or_a_zip(tmp_path, zipped):
    root = voc(tmp_path / "voc")
    path = root
    if zipped:
        path = tmp_path / "voc.zip"
        with zipfile.ZipFile(path, "w") as file:
            for name in root.rglob("*"):
                file.write(name, pathlib.Path("top") / name.relative_to(root))
    data = VOC(str(path), size=(20, 40), validation=0)
    splits = data.load()
    assert data.fit(splits.train).class_names == ("cat", "dog") and len(splits.test) == 1
    train = materialize(pickle.loads(pickle.dumps(splits.train)))  # as worker processes get it
    assert train["image"].shape == (2, 20, 40, 3) and train["scale"].tolist() == [2.0, 2.0]
    assert train["labels"].tolist() == [[0, 1], [-1, -1]] and train["kinds"].tolist() == [[0, 2], [0, 0]]
    np.testing.assert_allclose(train["boxes"][0], [[0, 0, 20, 20], [9, 2, 40, 18]])  # the dog's is clipped to 20
    np.testing.assert_allclose(train["areas"][0], [100, 15.5 * 8])
    assert not train["boxes"][1].any() and train["image"][0, 5, 5, 0] == 255


BAD = {
    "outside": ({"a": xml(("cat", (21, 1, 25, 5), 0))}, r"a.xml: object 1, 'cat': box 20, 0, 25, 5 is outside of"),
    "negative, all of it": (
        {"a": xml(("cat", (-9, 1, -5, 5), 0))},
        "box -10, 0, -5, 5 is outside of the picture, 20×10",
    ),
    "no area": ({"a": xml(CAT, ("cat", (5, 1, 4, 5), 0))}, r"object 2, 'cat': box 4, 0, 4, 5 has no area"),
    "inverted": ({"a": xml(("cat", (9, 1, 4, 5), 0))}, "box 8, 0, 4, 5 has inverted corners"),
    "not a number": ({"a": xml(("cat", ("x", 1, 4, 5), 0))}, r"object 1, 'cat': xmin='x'; expected a number"),
    "NaN": ({"a": xml(("cat", ("nan", 1, 4, 5), 0))}, "expected finite numbers"),
    "without a name": ({"a": xml(("", (1, 1, 4, 5), 0))}, r"a.xml: object 1 has no name"),
    "without corners": ({"a": "<annotation><object><name>cat</name></object></annotation>"}, "'cat', has no bndbox"),
    "malformed": ({"a": "<annotation><object>"}, r"a.xml, line 1: malformed XML \(no element found\)"),
    "empty file": ({"a": ""}, r"a.xml, line 1: malformed XML"),
    "entities": ({"a": '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'}, "a document type"),
    "another size": ({"a": xml(CAT, size=(10, 20))}, r"it says 10×20 pixels, but .*a.png is shown at 20×10"),
    "no annotation": ({"a": None}, "picture a has no annotation; expected Annotations/a.xml"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_annotations_name_file_and_object(tmp_path, name):
    changes, said = BAD[name]
    root = voc(tmp_path, **{f"d/Annotations/{stem}.xml": x for stem, x in changes.items()})
    with pytest.raises(RequestError, match=said) as error:
        read(root)
    assert "\n" not in str(error.value)


def test_bad_boxes_may_be_dropped(tmp_path):
    bad = xml(CAT, ("cat", (21, 1, 25, 5), 0), ("dog", (9, 1, 4, 5), 0))
    root = voc(tmp_path, **{"d/Annotations/a.xml": bad})
    train = VOC(str(root), size=(10, 20), validation=0, bad_boxes="drop").load().train
    assert train.note == "2 boxes left out, which cannot be learned"
    assert materialize(train)["labels"].tolist() == [[0, -1, -1], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"JPEGImages/a.png": None}, r"a.xml: there is no picture a in JPEGImages"),
        ({"JPEGImages/a.png": b"no image"}, r"a.png is not an image that can be read"),
        ({"ImageSets/Main/train.txt": "a\na\n"}, r"train.txt: a is listed twice"),
        ({"ImageSets/Main/train.txt": "a\nc\n"}, r"picture c has no annotation"),
        ({"ImageSets/Main/train.txt": ""}, r"there is no picture to train on"),
        ({"ImageSets/Main/train.txt": None, "Annotations/b.xml": None}, r"b.png has no annotation, nor have 0 others"),
    ],
    ids=str,
)
def test_bad_folders_are_named(tmp_path, changes, said):
    root = voc(tmp_path, **{f"d/{name}": x for name, x in changes.items()})
    with pytest.raises(RequestError, match=said):
        read(root)


def test_unknown_classes_too_many_boxes_and_other_paths_are_named(tmp_path):
    root = voc(tmp_path)
    with pytest.raises(RequestError, match="object 2, 'dog': no such class; did you mean 'dogs'"):
        read(root, class_names=("cat", "dogs"))
    with pytest.raises(RequestError, match="2 objects; expected at most most_boxes=1"):
        read(root, most_boxes=1)
    with pytest.raises(RequestError, match="does not exist; expected a folder or a .zip"):
        read(tmp_path / "none")
    with pytest.raises(RequestError, match="holds no folder Annotations"):
        read(root / "d" / "JPEGImages")
    write(tmp_path, {"e/Annotations/a.xml": xml()})
    with pytest.raises(RequestError, match="holds several data sets, in d/, e/"):
        read(root)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_other_modes_become_rgb(tmp_path, mode):
    train = read(voc(tmp_path, **{"d/JPEGImages/a.png": picture(mode)}))
    assert train["image"][0, 5, 2].tolist() == [255] * 3 and train["image"][0, 5, 18].tolist() == [0] * 3


def test_boxes_are_of_the_picture_as_it_is_shown(tmp_path):
    """Turned by its EXIF data, a picture of 20×10 pixels is shown at 10×20, with the white half above."""
    turned = {"d/JPEGImages/a.png": None, "d/JPEGImages/a.jpg": picture(orientation=6)}
    box = ("cat", (1, 1, 10, 10), 0)
    train = read(voc(tmp_path, **turned, **{"d/Annotations/a.xml": xml(box, size=(10, 20))}))
    top, bottom = train["image"][0, 2, 2, 0], train["image"][0, 8, 2, 0]
    assert top > 250 and bottom < 5 and train["boxes"][0, 0].tolist() == [0, 0, 5, 5]
    with pytest.raises(RequestError, match="it says 20×10 pixels, but .*a.jpg is shown at 10×20"):
        read(voc(tmp_path, **turned, **{"d/Annotations/a.xml": xml(box, size=(20, 10))}))


def coco(root, **changes):
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 4, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 4, "bbox": [2.5, 1, 4, 5], "area": 11.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [-3, 0, 8, 8], "iscrowd": 1},
        ],
    }
    files = {f"images/{name}.png": picture() for name in "ab"}
    return write(root, files | {"annotations.json": json.dumps(content | changes)})


ANNOTATION = {"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]}


@pytest.mark.usefixtures("nothing_misspelled")
def test_coco(tmp_path):
    data = COCO(str(coco(tmp_path)), size=(10, 20), validation=0, test=0)
    splits = data.load()
    assert data.fit(splits.train).class_names == ("cat", "dog")
    train = materialize(splits.train)
    assert train["labels"].tolist() == [[1, 0], [-1, -1]] and train["kinds"].tolist() == [[0, 1], [0, 0]]
    np.testing.assert_allclose(train["boxes"][0], [[2.5, 1, 6.5, 6], [0, 0, 5, 8]])
    np.testing.assert_allclose(train["areas"][0], [11.5, 40])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": [{"id": 7, "file_name": "a.png"}] * 2}, "image id 7 is given twice, for a.png"),
        ({"images": [{"id": 7, "file_name": "c.png"}]}, "annotation.*|image c.png: .*images/c.png does not exist"),
        ({"images": [{"id": 7}]}, "image 1: expected an object with id, file_name"),
        ({"images": 3}, "expected an object with the lists images, annotations, categories"),
        ({"categories": [{"id": 2, "name": "cat"}]}, "annotation 1: there is no category with id 4"),
        ({"categories": [{"id": 2, "name": "cat"}, {"id": 2, "name": "dog"}]}, "category id 2 is given twice"),
        ({"annotations": [ANNOTATION | {"image_id": 1}]}, "annotation 5: there is no image with id 1"),
        ({"annotations": [ANNOTATION | {"bbox": [0, 0, 1]}]}, r"annotation 5: bbox=\[0, 0, 1\]"),
        ({"annotations": [ANNOTATION | {"bbox": [0, 0, 0, 1]}]}, "object 1, 'cat': box 0, 0, 0, 1 has no area"),
        ({"annotations": ["x"]}, "annotation 1: expected an object"),
    ],
    ids=lambda x: str(x)[:60],
)
def test_bad_coco_files_are_named(tmp_path, changes, said):
    with pytest.raises(RequestError, match=said):
        COCO(str(coco(tmp_path, **changes)), size=(10, 20), validation=0, test=0).load()
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(RequestError, match=r"annotations.json: malformed JSON"):
        COCO(str(tmp_path), size=(10, 20)).load()


def test_pictures_for_prediction(tmp_path):
    data = VOC("none", size=(10, 20))
    (tmp_path / "a.png").write_bytes(picture(size=(40, 40)))
    columns = data.encode([tmp_path / "a.png", np.zeros((5, 10), np.uint8)])
    assert columns["image"].shape == (2, 10, 20, 3) and columns["scale"].tolist() == [0.25, 2.0]
    assert columns["content"].tolist() == [[10, 10], [10, 20]]


@pytest.mark.skipif(not BCCD.exists(), reason=f"{BCCD} is not there")
def test_blood_cells():
    splits = VOC(str(BCCD), size=(48, 64)).load()
    assert [len(split) for split in splits] == [205, 87, 72]
    sources = [split for split in splits]
    counts = {name: 0 for name in ("Platelets", "RBC", "WBC")}
    for source in sources:
        for objects in source.objects:
            for one in objects:
                counts[one.name] += 1
    assert counts == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert splits.train[0]["image"].shape == (48, 64, 3)
