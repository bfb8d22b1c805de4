"""Objects in images, from COCO, Pascal VOC and YOLO: the same boxes from each, and what is said of those that cannot be."""

import json
from typing import Any

import numpy as np
import pytest
from tests.support.imports import Importer, picture

from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.nouns import Dataset
from leptonai.training.columns import pick

# name -> (width, height), and its objects as class, x1, y1, x2, y2 in pixels
SIZES = {"a": (20, 10), "b": (20, 10), "c": (20, 10)}
OBJECTS = {"a": [("tree", 2, 1, 12, 6), ("car", 10, 5, 20, 10)], "b": [("tree", 0, 0, 5, 10)], "c": []}
EXPECTED = {
    "a": [[1, 0.1, 0.1, 0.6, 0.6], [0, 0.5, 0.5, 1, 1]],
    "b": [[1, 0, 0, 0.25, 1]],
    "c": np.zeros((0, 5)),
}


def images() -> dict[str, bytes]:
    return {
        f"images/{name}.png": picture(np.zeros((height, width, 3), np.uint8)) for name, (width, height) in SIZES.items()
    }


def coco(**change: Any) -> dict[str, bytes]:
    document: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(SIZES)],
        "categories": [{"id": 7, "name": "tree"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": n, "category_id": {"tree": 7, "car": 3}[kind], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for n, name in enumerate(SIZES)
            for kind, x1, y1, x2, y2 in OBJECTS[name]
        ],
    }
    return {"annotations.json": json.dumps({**document, **change}).encode()}


def voc() -> dict[str, bytes]:
    def one(name: str) -> str:
        objects = "".join(
            f"<object><name>{kind}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for kind, x1, y1, x2, y2 in OBJECTS[name]
        )
        return f"<annotation><filename>{name}.png</filename>{objects}</annotation>"

    return {f"Annotations/{name}.xml": one(name).encode() for name in SIZES}


def yolo() -> dict[str, bytes]:
    def one(name: str) -> str:
        width, height = SIZES[name]
        return "\n".join(
            f"{['car', 'tree'].index(k)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
            for k, x1, y1, x2, y2 in OBJECTS[name]
        )

    return {f"labels/{name}.txt": one(name).encode() for name in ("a", "b")}


def check(files: Importer, made: Dataset) -> None:
    column = made.columns[1]
    assert (column.name, column.type.value, column.categories) == ("boxes", "boxes", ("car", "tree"))
    assert column.stats["counts"] == [["car", 1], ["tree", 2]]
    rows = files.open(made).read()["boxes"]
    for found, expected in zip(rows, EXPECTED.values(), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "notes",
    [coco(), voc(), yolo() | {"classes.txt": b"car\ntree\n"}, yolo() | {"data.yaml": b"nc: 2\nnames:\n  0: car\n  1: tree\n"},
     yolo() | {"data.yaml": b"names: ['car', \"tree\"]\n"}],
    ids=["coco", "voc", "yolo", "yaml", "inline"],
)  # fmt: skip
def test_the_same_boxes_from_each_format(notes: dict[str, bytes], files: Importer) -> None:
    check(files, files.made(images() | notes, target=""))
    resized = files.made(images() | notes, target="", image_size=(30, 30), name="resized")
    check(files, resized)
    assert resized.columns[0].shape == (30, 30, 3)


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        (coco(annotations=[{"image_id": 0, "category_id": 7, "bbox": [15, 0, 10, 5]}]), "annotation 1: the box .* of a 'tree' lies outside of images/a.png, which has 20 x 10"),
        (coco(annotations=[{"image_id": 0, "category_id": 7, "bbox": [5, 5, 0, 5]}]), "annotation 1: the box .* has no area"),
        (coco(annotations=[{"image_id": 9, "category_id": 7, "bbox": [0, 0, 1, 1]}]), "annotation 1: its image is not listed"),
        (coco(annotations=[{"image_id": 0, "category_id": 7, "bbox": [0, "x", 1, 1]}]), "annotation 1: 'x' is not a number"),
        (coco(annotations=[{"image_id": 0, "category_id": 7, "bbox": [0, 1]}]), "annotations.json is not a file of boxes"),
        (coco(annotations=[]), "no object is named"),
        ({"a.json": b"[1"}, "a.json is not a file of boxes"),
        ({"a.json": b"[]"}, "a.json is not a file of boxes"),
        ({"z.xml": b"<annotation><object><name>t</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object></annotation>"}, "speaks of the image 'z', which is not there"),
        ({"a.xml": b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><annotation>&c;</annotation>'}, "a.xml is not a file of boxes"),
        ({"a.xml": b"<annotation><object/></annotation>"}, "object 1 has no bndbox"),
        ({"a.txt": b"0 0.5 0.5\n"}, "line 1 is not: class"),
        ({"a.txt": b"9 0.5 0.5 0.1 0.1\n", "classes.txt": b"one\n"}, "line 1 has the class 9"),
        ({"a.txt": b"0 0.5 0.5 nan 0.1\n"}, "line 1: 'nan' is not a number"),
    ],
)  # fmt: skip
def test_bad_boxes_are_named_by_their_place(notes: dict[str, bytes], words: str, files: Importer) -> None:
    with pytest.raises(Invalid, match=words):
        files.result(images() | notes, target="")


def test_no_model_learns_from_boxes(files: Importer) -> None:
    made = files.made(images() | coco(), target="")
    with pytest.raises(Unsupported, match="holds boxes"):
        pick(made.columns, "image", ["boxes"], "it")
