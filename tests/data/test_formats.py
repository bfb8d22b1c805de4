"""Parquet, NPZ and images: what is read, and what is said of those that cannot be."""

import io
import itertools
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.imports import Importer, npz, picture

from leptonai.core.errors import Corrupt, Invalid, TooLarge
from leptonai.core.signature import FeatureType
from leptonai.data import bounds, images, npz_file
from leptonai.data.spec import SourceFile


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_parquet_keeps_what_its_types_say(files: Importer) -> None:
    made = files.made(
        {
            "t.parquet": parquet(
                whole=pa.array([1, None, 3], pa.int32()),
                small=pa.array([1, 2, 3], pa.uint8()),
                part=pa.array([0.5, None, float("nan")], pa.float32()),
                exact=pa.array(["1.50", "2.25", None]).cast(pa.decimal128(5, 2)),
                yes=pa.array([True, None, False]),
                word=pa.array(["a", "b", None]).dictionary_encode(),
                view=pa.array(["p", "q", "p"], pa.string_view()),
                day=pa.array([0, 1, None], pa.date32()),
                when=pa.array([0, 1_000, None], pa.timestamp("ns", tz="Europe/Paris")),
                vector=pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float64())),
                none=pa.nulls(3),
                label=pa.array([0, 1, 1]),
            )
        }
    )
    kinds = {c.name: (c.type.value, c.dtype, c.nullable) for c in made.columns}
    assert kinds == {
        "whole": ("integer", "float64", True), "small": ("integer", "int64", False), "part": ("number", "float64", True),
        "exact": ("number", "float64", True), "yes": ("boolean", "bool", True), "word": ("category", "str", True),
        "view": ("category", "str", False), "day": ("datetime", "int64", True), "when": ("datetime", "int64", True),
        "vector": ("tensor", "float32", False), "none": ("number", "float64", True), "label": ("category", "int64", False),
    }  # fmt: skip
    rows = files.open(made).read()
    np.testing.assert_array_equal(rows["whole"], [1, np.nan, 3])
    np.testing.assert_array_equal(rows["part"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(rows["exact"], [1.5, 2.25, np.nan])
    assert rows["yes"].tolist() == [True, None, False]
    assert rows["word"].tolist() == ["a", "b", None]
    assert rows["day"].tolist() == [0, 86_400_000_000, np.iinfo(np.int64).min]
    assert rows["when"].tolist()[:2] == [0, 1]
    np.testing.assert_array_equal(rows["vector"], np.array([[1, 2], [3, 4], [5, 6]], np.float32), strict=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a,b\n1,2\n", ["t.parquet", "not a Parquet file"]),
        (b"PAR1" + b"x" * 100 + b"PAR1", ["t.parquet", "not a Parquet file"]),
        (parquet(a=pa.array([], pa.int64())), ["t.parquet", "no rows"]),
        (parquet(a=pa.array([b"\xff"]), b=[1]), ["t.parquet", "'a'", "binary"]),
        (parquet(a=pa.array([[{"x": 1}]]), b=[1]), ["t.parquet", "'a'", "struct"]),
        (parquet(a=pa.array([[1], [1, 2]]), b=[1, 2]), ["t.parquet", "'a'", "one length"]),
        (parquet(a=pa.array([["x"], ["y"]]), b=[1, 2]), ["t.parquet", "'a'", "numbers"]),
        (parquet(a=pa.array([1], pa.time64("us")), b=[1]), ["t.parquet", "'a'", "time"]),
        (parquet(a=pa.array([2**63], pa.uint64()), b=[1]), ["t.parquet, row 1", "'a'", "9223372036854775808"]),
    ],
    ids=itertools.count(),
)
def test_bad_parquet(data: bytes, words: list[str], files: Importer) -> None:
    with pytest.raises(Invalid) as caught:
        files.result({"t.parquet": data})
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_parquet_that_claims_too_much(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_CELLS", 10)
    with pytest.raises(TooLarge, match="claims 20 values"):
        files.result({"t.parquet": parquet(a=range(10), b=range(10))})


def test_categories_from_types_that_are_none(files: Importer) -> None:
    data = parquet(
        f=[1.0, None, float("nan"), 2.0],
        g=[0.5, float("nan"), 1.0, 1.0],
        b=[True, None, False, True],
        s=list("1213"),
        y=[0, 1, 0, 1],
    )
    rows = files.read({"t.parquet": data}, types=dict.fromkeys("fgbs", "category"))
    assert rows["f"].tolist() == [1, None, None, 2]
    assert rows["g"].tolist() == ["0.5", None, "1", "1"]
    assert rows["b"].tolist() == ["true", None, "false", "true"]
    assert rows["s"].tolist() == ["1", "2", "1", "3"]


def test_npz_arrays_are_columns(files: Importer) -> None:
    pixels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    vectors = np.linspace(0, 1, 12).reshape(4, 3)
    made = files.made(
        {"a.npz": npz(x=pixels, v=vectors, y=np.array([0, 1, 2, 1], np.int32), word=np.array(list("abca")))}
    )
    assert [(c.name, c.type.value, c.shape, c.dtype) for c in made.columns] == [
        ("x", "image", (5, 6, 1), "uint8"), ("v", "tensor", (3,), "float32"), ("y", "category", (), "int64"), ("word", "category", (), "str"),
    ]  # fmt: skip
    assert made.target == "y"
    rows = files.open(made).read()
    np.testing.assert_array_equal(rows["x"], pixels[..., None], strict=True)
    np.testing.assert_array_equal(rows["v"], vectors.astype(np.float32), strict=True)
    swapped = npz(
        x=np.asfortranarray(pixels),
        v=vectors.astype(">f8"),
        y=np.array([0, 1, 2, 1], ">i4"),
        word=np.array(list("abca")),
    )
    assert files.made({"a.npz": swapped}, name="other").digest == made.digest
    flat = files.made({"a.npz": npz(x=pixels, y=[0, 1, 2, 1])}, types={"x": "tensor"}, name="flat")
    assert (flat.columns[0].type, flat.columns[0].dtype) == (FeatureType.TENSOR, "float32")
    joined = files.made({"a.npz": npz(x=pixels, y=[0, 1, 2, 1]), "b.npz": npz(x=pixels[:1], y=[0])}, name="two")
    np.testing.assert_array_equal(files.open(joined).read()["x"][4], pixels[0][..., None])


def lying(shape: tuple[int, ...]) -> bytes:
    """Return an NPZ file whose array claims a shape that its bytes do not have."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
    return out.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        raise AssertionError("unpickled")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not a zip", ["a.npz", "not an NPZ file"]),
        (npz(), ["a.npz", "no array"]),
        (npz(x=[1, 2], y=[1, 2, 3]), ["a.npz", "different numbers of rows", "x 2", "y 3"]),
        (npz(x=1.5), ["a.npz", "'x'", "single value"]),
        (npz(x=np.array([{}, []], object)), ["a.npz", "'x'", "Python objects"]),
        (npz(x=np.array([1j]), y=[1]), ["a.npz", "'x'", "complex"]),
        (npz(x=np.empty((3, 0)), y=[1, 2, 3]), ["a.npz", "'x'", "hold nothing"]),
        (npz(x=np.empty((0, 2))), ["a.npz", "no rows"]),
        (lying((10**12,)), ["a.npz", "'x'", "not as long as its shape"]),
        (zipped("../../x.txt", b"hello"), ["a.npz", "x.txt", "no array"]),
        (npz(x=np.zeros(9))[:-30], ["a.npz", "not an NPZ file"]),
    ],
    ids=itertools.count(),
)
def test_bad_npz(data: bytes, words: list[str], files: Importer) -> None:
    with pytest.raises(Invalid) as caught:
        files.result({"a.npz": data})
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_npz_that_unpacks_to_too_much(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_file, "MAX_SMALL", 1 << 20)
    monkeypatch.setattr(npz_file, "MAX_RATIO", 10)
    with pytest.raises(TooLarge, match=r"a\.npz unpacks to more"):
        files.result({"a.npz": zipped("x.npy", bytes(2 << 20))})


def test_blocks_of_other_shapes_do_not_join(files: Importer) -> None:
    with pytest.raises(
        Invalid, match=r"b\.npz: column 'x' holds arrays of shape 3, and in a\.npz it holds arrays of shape 2"
    ):
        files.result({"a.npz": npz(x=np.ones((2, 2)), y=[0, 1]), "b.npz": npz(x=np.ones((2, 3)), y=[0, 1])})
    with pytest.raises(Invalid, match=r"'x' holds arrays of shape 2, which cannot be category"):
        files.result({"a.npz": npz(x=np.ones((2, 2)), y=[0, 1])}, types={"x": "category"})


# ------------------------------------------------------------------------------------------------------- images

RED = np.full((4, 6, 3), (255, 0, 0), np.uint8)
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)


def folder(files: Importer, **pictures: bytes) -> list[SourceFile]:
    """Make files of ``class__name=bytes``; all lie in one part, as the SDK sends them."""
    blob = files.handle.write(b"".join(pictures.values()))
    found, at = [], 0
    for word, data in pictures.items():
        label, _, name = word.partition("__")
        found.append(SourceFile(name=f"{label}/{name}", size=len(data), parts=(blob,), offset=at, label=label))
        at += len(data)
    return found


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG"])
def test_grey_images_by_class_stay_grey(kind: str, files: Importer) -> None:
    grey = {} if kind == "WEBP" else {"mode": "L"}
    made = files.made(folder(files, cat__1=picture(GREY, kind, **grey), dog__1=picture(GREY + 9, kind, **grey)))
    image, label = made.columns
    channels = 3 if kind in ("WEBP", "GIF") and image.shape[2] == 3 else 1
    assert (image.type, image.shape, image.dtype) == (FeatureType.IMAGE, (4, 6, channels), "uint8")
    assert (made.target, label.categories) == ("label", ("cat", "dog"))
    rows = files.open(made).read()
    tolerance = 12 if kind in ("JPEG", "WEBP") else 0
    assert np.abs(rows["image"][1, :, :, 0].astype(int) - (GREY + 9)).max() <= tolerance
    assert rows["label"].tolist() == ["cat", "dog"]


def test_one_colour_image_makes_all_rgb(files: Importer) -> None:
    made = files.made(
        folder(
            files, a__1=picture(GREY), b__1=picture(RED), b__2=picture(RED, mode="RGBA"), b__3=picture(RED, mode="P")
        )
    )
    rows = files.open(made).read()
    assert rows["image"].shape == (4, 4, 6, 3)
    np.testing.assert_array_equal(rows["image"][0], np.repeat(GREY[..., None], 3, axis=2))
    for row in (1, 2, 3):
        np.testing.assert_array_equal(rows["image"][row], RED)


def test_images_of_other_sizes_are_resized_when_asked(files: Importer) -> None:
    pictures = {"a__1": picture(GREY), "b__1": picture(np.zeros((8, 8), np.uint8))}
    with pytest.raises(Invalid, match=r"b/1 has 8 x 8 pixels, and a/1 has 6 x 4: .*image_size=\(4, 6\)"):
        files.result(folder(files, **pictures))
    made = files.made(folder(files, **pictures), image_size=(5, 7))
    assert made.columns[0].shape == (5, 7, 1)
    assert made.source["image_size"] == [5, 7]


@pytest.mark.parametrize(
    "data",
    [
        b"this is no image",
        picture(GREY)[:-25],
        b"GIF89a",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xff\xd8\xff\xe0",
    ],
    ids=itertools.count(),
)
def test_what_is_no_image_is_named(data: bytes, files: Importer) -> None:
    with pytest.raises(Invalid, match=r"dog/2 is not an image that can be read: take it out of the folder") as caught:
        files.result(folder(files, cat__1=picture(GREY), dog__1=picture(GREY), dog__2=data))
    assert caught.value.errors[0].field == "dog/2"


def test_an_image_of_too_many_pixels_is_not_unpacked(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLarge, match=r"a/1 has 9,000 x 9,000 pixels"):
        files.result(folder(files, a__1=bomb(9_000)))
    with pytest.raises(Invalid, match=r"a/1"):
        files.result(folder(files, a__1=bomb(30_000)))
    monkeypatch.setattr(images, "MAX_PIXELS", 23)
    with pytest.raises(TooLarge, match=r"a/1 has 6 x 4 pixels"):
        files.result(folder(files, a__1=picture(GREY)))


def bomb(side: int) -> bytes:
    """Return a small file that claims a large picture."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = (header, b"IDAT", b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def test_files_of_several_kinds(files: Importer) -> None:
    cat = folder(files, cat__1=picture(GREY))
    table = files.source("t.csv", b"a,b\n1,2\n")
    with pytest.raises(Invalid, match=r"t\.csv is a table and cat/1 is an image: make one dataset of each kind"):
        files.result([*cat, table])
    with pytest.raises(Invalid, match=r"alone\.png lies in no class folder"):
        files.result([files.source("alone.png", picture(GREY))])
    with pytest.raises(Invalid, match=r"cat/t\.csv is not an image"):
        files.result([*cat, files.source("cat/t.csv", b"a,b\n1,2\n", label="cat")])


def test_an_upload_that_is_not_whole(files: Importer) -> None:
    whole = files.source("t.csv", b"a,b\n1,2\n")
    with pytest.raises(Corrupt, match=r"t\.csv: 8 of its 9 bytes"):
        files.result([whole.model_copy(update={"size": 9})])
