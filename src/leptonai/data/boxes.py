"""Objects in images: what COCO, Pascal VOC and YOLO files say, in one form.

A box is (class, x1, y1, x2, y2), float32, in shares of the image's width and height, so that it stays right when images are
resized. Classes are numbered in the order of their names.

Formats: COCO (https://cocodataset.org/#format-data), Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC/), YOLO (a line for each
object: class, centre x, centre y, width, height, in shares; names in ``classes.txt`` or ``data.yaml``).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Store
from leptonai.data.parts import contents
from leptonai.data.spec import SourceFile

_SLACK = 0.01  # by which a box may reach beyond its image: rounding, which is cut off
_CLASSES = ("classes.txt", "data.yaml")


class _Object(NamedTuple):
    """One object, in pixels of its image or, where `shares`, in shares of it."""

    name: str  # of its class
    corners: tuple[float, float, float, float]
    shares: bool
    place: str  # where it is written, for messages


class Notes:
    """What the files beside images say of them."""

    def __init__(self, notes: Sequence[SourceFile], images: Sequence[SourceFile], blobs: Store):
        self._by_stem: dict[str, list[_Object]] = {}
        self._read(list(contents(notes, blobs)))
        self.classes = sorted({it.name for found in self._by_stem.values() for it in found})
        if not self.classes:
            raise Invalid(
                f"{notes[0].name}: no object is named in it, nor in the files beside it",
                errors=[FieldError(notes[0].name, "at least one object")],
            )
        known = {_stem(file.name) for file in images}
        for stem, found in self._by_stem.items():
            if stem not in known:
                raise Invalid(
                    f"{found[0].place} speaks of the image {stem!r}, which is not there: add it, or take the note out",
                    errors=[FieldError(found[0].place, "an image that is there")],
                )

    def of(self, files: Sequence[SourceFile], sizes: Mapping[str, tuple[int, int]]) -> tuple[pa.Field, pa.Array]:
        """Return the boxes of images as a column. `sizes`: (height, width) of each as it was. Raises `Invalid` for a box outside."""
        rows = [self._boxes(file.name, sizes[file.name]).tobytes() for file in files]
        about = {"boxes": json.dumps(self.classes)}
        return pa.field("boxes", pa.large_binary(), metadata=about), pa.array(rows, pa.large_binary())

    def _boxes(self, name: str, size: tuple[int, int]) -> np.ndarray:
        found = self._by_stem.get(_stem(name), [])
        boxes = np.zeros((len(found), 5), np.float32)
        height, width = size
        for row, it in zip(boxes, found, strict=True):
            scale = (1.0, 1.0, 1.0, 1.0) if it.shares else (width, height, width, height)
            shares = [value / by for value, by in zip(it.corners, scale, strict=True)]
            x1, y1, x2, y2 = shares
            inside = all(-_SLACK <= value <= 1 + _SLACK for value in shares)
            if not (inside and x1 < x2 and y1 < y2):
                words = "lies outside of" if not inside else "has no area in"
                numbers = ", ".join(f"{value:g}" for value in it.corners)
                raise Invalid(
                    f"{it.place}: the box ({numbers}) of a {it.name!r} {words} {name}, which has {width} x {height} pixels",
                    errors=[FieldError(it.place, "a box inside the image")],
                )
            row[:] = (self.classes.index(it.name), *np.clip(shares, 0.0, 1.0))
        return boxes

    def _read(self, notes: list[tuple[SourceFile, bytes]]) -> None:
        names = _class_names(notes)
        for file, data in notes:
            low = file.name.lower()
            if PurePosixPath(low).name in _CLASSES:
                continue
            read = _coco if low.endswith(".json") else _voc if low.endswith(".xml") else _yolo
            try:
                for stem, it in read(file.name, data, names):
                    self._by_stem.setdefault(stem, []).append(it)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
                raise Invalid(
                    f"{file.name} is not a file of boxes that can be read: {error}",
                    errors=[FieldError(file.name, "COCO JSON, Pascal VOC XML or YOLO text")],
                ) from error


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _coco(name: str, data: bytes, _: Sequence[str]) -> Iterator[tuple[str, _Object]]:
    found = json.loads(data)
    images = {image["id"]: _stem(str(image["file_name"])) for image in found["images"]}
    classes = {kind["id"]: str(kind["name"]) for kind in found["categories"]}
    for number, it in enumerate(found["annotations"]):
        place = f"{name}, annotation {number + 1:,}"
        if it["image_id"] not in images or it["category_id"] not in classes:
            what = "image" if it["image_id"] not in images else "category"
            raise Invalid(
                f"{place}: its {what} is not listed in the file",
                errors=[FieldError(place, f"an {what} that is listed")],
            )
        x, y, width, height = (_number(place, value) for value in it["bbox"])
        yield images[it["image_id"]], _Object(classes[it["category_id"]], (x, y, x + width, y + height), False, place)


def _voc(name: str, data: bytes, _: Sequence[str]) -> Iterator[tuple[str, _Object]]:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(data)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(str(error) or "it is not XML that is read") from error
    stem = _stem(root.findtext("filename") or name)
    for number, it in enumerate(root.iter("object")):
        place = f"{name}, object {number + 1:,}"
        box = it.find("bndbox")
        if box is None:
            raise ValueError(f"object {number + 1} has no bndbox")
        x1, y1, x2, y2 = (_number(place, box.findtext(edge)) for edge in ("xmin", "ymin", "xmax", "ymax"))
        yield stem, _Object(it.findtext("name") or "object", (x1, y1, x2, y2), False, place)


def _yolo(name: str, data: bytes, names: Sequence[str]) -> Iterator[tuple[str, _Object]]:
    for number, line in enumerate(data.decode().splitlines()):
        place = f"{name}, line {number + 1:,}"
        words = line.split()
        if not words:
            continue
        if len(words) < 5 or not words[0].isdigit():
            raise ValueError(f"line {number + 1} is not: class centre-x centre-y width height")
        kind = int(words[0])
        if names and kind >= len(names):
            raise ValueError(f"line {number + 1} has the class {kind}, and {len(names)} are named")
        x, y, width, height = (_number(place, word) for word in words[1:5])
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        yield _stem(name), _Object(names[kind] if names else str(kind), corners, True, place)


def _class_names(notes: Sequence[tuple[SourceFile, bytes]]) -> list[str]:
    """Return the names of YOLO's classes, from ``classes.txt``, else from the list of names in ``data.yaml``."""
    for file, data in notes:
        last = PurePosixPath(file.name).name.lower()
        if last == "classes.txt":
            return [line.strip() for line in data.decode().splitlines() if line.strip()]
    for file, data in notes:
        if PurePosixPath(file.name).name.lower() == "data.yaml":
            return _yaml_names(file.name, data.decode())
    return []


def _yaml_names(name: str, text: str) -> list[str]:
    """Read the names out of a file of YAML: ``names: [a, b]``, or a name on each line below, with a number or a dash before it."""
    inline = re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    if inline:
        return [word.strip().strip("'\"") for word in inline.group(1).split(",") if word.strip()]
    below = re.search(r"^names:\s*\n((?:[ \t]+\d+:.*\n?|[ \t]*-.*\n?)+)", text, re.MULTILINE)
    if below is None:
        raise Invalid(f"{name} lists no names: write  names: [first, second]", errors=[FieldError(name, "names: […]")])
    return [
        re.sub(r"^\s*(\d+:|-)\s*", "", line).strip().strip("'\"")
        for line in below.group(1).splitlines()
        if line.strip()
    ]


def _number(place: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise Invalid(f"{place}: {value!r} is not a number", errors=[FieldError(place, "a number")])
    return number
