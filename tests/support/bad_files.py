"""Files that nobody should trust: each with what has to be said of it, or None where it can be read after all.

Where a number is said of memory, it is what an import of the file may take at most, in MiB.
"""

import bz2
import gzip
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image
from tests.support.bad_zips import zipped

ROWS = "".join(f"{n},{n % 3}.5,w{n % 4},{n % 2}\n" for n in range(60))
CSV = ("a,b,c,y\n" + ROWS).encode()
TABLE = pa.table({"a": list(range(60)), "c": [f"w{n % 4}" for n in range(60)], "y": [n % 2 for n in range(60)]})
LONG = 10 << 20


class Bad(NamedTuple):
    """One import that cannot work, or only just."""

    what: str
    files: dict[str, bytes]  # by name; one with a slash lies in a class folder
    words: tuple[str, ...] | None  # that the error has to hold; None: it is read
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    memory: int = 250  # MiB


def parquet(table: pa.Table, **options: Any) -> bytes:
    """Return a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def arrow(table: pa.Table, *, stream: bool = False) -> bytes:
    """Return an Arrow file."""
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def jsonl(*rows: Any) -> bytes:
    """Return lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def npy(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    """Return an array file with a header of one's own."""
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def npz(**members: bytes) -> bytes:
    """Return an NPZ file of array files."""
    return zipped(*((f"{name}.npy", data) for name, data in members.items()))


def plain_npy(array: np.ndarray) -> bytes:
    """Return an array file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def png(width: int = 8, height: int = 8, kind: str = "PNG") -> bytes:
    """Return an image."""
    out = io.BytesIO()
    Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width)).save(out, kind)
    return out.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed_png(width: int, height: int, more: bytes = b"") -> bytes:
    """Return a small PNG that claims so many pixels."""
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    pixels = _chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + more + pixels + _chunk(b"IEND", b"")


def _shape(shape: str, kind: str = "<f8") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"


def _hungry_xz() -> bytes:
    """Return an xz file that asks for four gigabytes to be unpacked with."""
    data = bytearray(lzma.compress(CSV))
    length = (data[12] + 1) * 4
    assert data[14] == 0x21
    data[16] = 40
    data[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(bytes(data[12 : 12 + length - 4])))
    return bytes(data)


def csv() -> Iterator[Bad]:
    """Yield what goes wrong with CSV."""
    yield Bad("a field of 10 MB", {"t.csv": b"a,y\n1,0\n" + b"x" * LONG + b",1\n2,0\n"}, None)
    yield Bad(
        "a quoted field of 10 MB", {"t.csv": b'a,y\nx,0\n"' + b"x,\n" * (LONG // 3) + b'",1\n2,0\n'}, None, memory=250
    )
    yield Bad("duplicate columns", {"t.csv": b"a,b,a\n1,2,3\n"}, ("t.csv", "two columns named 'a'"))
    yield Bad("a column without a name", {"t.csv": b"a,,y\n1,2,3\n"}, ("t.csv", "column 2", "no name"))
    yield Bad("a zero byte", {"t.csv": CSV + b"1,\0,x,1\n"}, ("t.csv", "binary data"))
    yield Bad("Latin-1 in one row", {"t.csv": CSV + b"7,1.5,caf\xe9,1\n"}, ("t.csv, row 61", "not UTF-8"))
    yield Bad("UTF-16", {"t.csv": CSV.decode().encode("utf-16")}, None)
    begun = CSV.decode().encode("utf-16")[:-1]
    yield Bad("UTF-16 that is cut", {"t.csv": begun}, ("t.csv", "UTF-16"))
    yield Bad("UTF-8 with a mark of byte order", {"t.csv": b"\xef\xbb\xbf" + CSV}, None)
    yield Bad("UTF-8 and then UTF-16", {"t.csv": CSV + "1,2,ü,0\n".encode("utf-16-le")}, ("t.csv", "binary data"))
    yield Bad("ends of lines of three kinds", {"t.csv": b"a,y\r\n1,0\n2,1\r\n3,0\n"}, None)
    yield Bad(
        "100,001 columns",
        {"t.csv": ",".join(f"c{n}" for n in range(100_001)).encode() + b"\n1\n"},
        ("100,001 columns",),
    )
    yield Bad(
        "one line without end", {"t.csv": b"a,y\n" + b"0" * (70 << 20)}, ("t.csv", "longer than 32 MiB"), memory=450
    )
    yield Bad(
        "a quote without end", {"t.csv": CSV + b'1,"2,3,4\n' + ROWS.encode()}, ("t.csv", "row 60", "never closed")
    )
    yield Bad("a row with too many values", {"t.csv": CSV + b"1,2,3,4,5\n"}, ("t.csv, row 61", "5 values", "4"))
    formula = b"a,b,y\n" + b"=cmd|'/c calc'!A0,@SUM(1),0\n+1+1,-2+3,1\n" * 9
    yield Bad("formulas", {"t.csv": formula}, None)
    dates = b"when,y\n2026-01-31,0\n31.01.2026,1\n01/31/2026,0\n" * 1
    yield Bad("dates in three formats", {"t.csv": dates}, None)
    wanted = {"types": {"when": "datetime"}}
    yield Bad(
        "dates in three formats that are to be dates",
        {"t.csv": dates},
        ("t.csv, row 2", "'when'", "31.01.2026", "ISO"),
        wanted,
    )
    late = b"when,y\n" + b"2026-01-31,0\n2026-02-01,1\n" * 60_000 + b"31.01.2026,1\n"
    yield Bad("a date of another format, late", {"t.csv": late}, ("t.csv, row 120,001", "'when'", "31.01.2026"))


def lines() -> Iterator[Bad]:
    """Yield what goes wrong with JSON Lines."""
    for depth in (65, 1000, 100_000, 2_000_000):
        deep = b'{"a": ' + b"[" * depth + b"]" * depth + b', "y": 1}\n'
        yield Bad(f"{depth:,} deep", {"t.jsonl": jsonl({"a": 1, "y": 0}) + deep}, ("t.jsonl, row 2", "nested"))
    objects = b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n"
    yield Bad("5,000 objects deep", {"t.jsonl": objects}, ("t.jsonl, row 1", "nested"))
    nested = [{"v": [[1, 2], [3, 4]], "y": 0}, {"v": [[1, 2], [3, 4]], "y": 1}]
    yield Bad("nested lists", {"t.jsonl": jsonl(*nested)}, ("t.jsonl", "'v'", "lists must be of numbers"))
    yield Bad("a list of objects", {"t.jsonl": jsonl({"v": [{"a": 1}], "y": 0})}, ("t.jsonl", "'v'", "lists must be"))
    yield Bad(
        "lists of two lengths",
        {"t.jsonl": jsonl({"v": [1], "y": 0}, {"v": [1, 2], "y": 0})},
        ("t.jsonl", "'v'", "one length"),
    )
    yield Bad(
        "two types in one field", {"t.jsonl": jsonl({"v": 1, "y": 0}, {"v": "x", "y": 0})}, ("row 2", "'v'", "one type")
    )
    yield Bad("a field twice", {"t.jsonl": b'{"a": 1, "a": 2, "y": 0}\n' * 3}, ("t.jsonl", "'a'", "twice"))
    yield Bad("what JSON has not", {"t.jsonl": b'{"a": NaN, "y": 0}\n{"a": Infinity, "y": 1}\n'}, None)
    yield Bad("1e400", {"t.jsonl": b'{"a": 1, "y": 0}\n{"a": 1e400, "y": 1}\n'}, ("t.jsonl, row 2", "1e400", "64 bits"))
    yield Bad("half a surrogate", {"t.jsonl": b'{"\\ud800": 1, "y": 0}\n'}, ("t.jsonl, row 1",))
    yield Bad("a field of 10 MB", {"t.jsonl": jsonl({"a": "x" * LONG, "y": 0}, {"a": "z", "y": 1})}, None)
    yield Bad(
        "one line without end", {"t.jsonl": b'{"a": "' + b"0" * (70 << 20)}, ("t.jsonl, row 1", "32 MiB"), memory=250
    )
    yield Bad("UTF-16", {"t.jsonl": jsonl({"a": 1, "y": 0}).decode().encode("utf-16")}, ("t.jsonl",))
    yield Bad("Latin-1", {"t.jsonl": b'{"a": "caf\xe9", "y": 0}\n'}, ("t.jsonl, row 1",))
    yield Bad("no object", {"t.jsonl": b'{"a": 1, "y": 0}\n7\n'}, ("t.jsonl, row 2", "no object"))


def packed(slow: bool = False) -> Iterator[Bad]:
    """Yield what goes wrong with packed files; with `slow` also what takes seconds."""
    some, head = b"0,1\n" * (1 << 20), b"a,y\n"
    pack = {"gz": lambda data: gzip.compress(data, 6), "bz2": bz2.compress, "xz": lambda data: lzma.compress(data, preset=0),
            "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}  # fmt: skip
    for ending, how in pack.items():
        name = f"t.csv.{ending}"
        line = how(head) + how(bytes(4 << 20).replace(b"\0", b"0")) * 18
        yield Bad(
            f"{ending}: one line that unpacks without end", {name: line}, (name, "longer than 32 MiB"), memory=450
        )
        if slow:
            rows = how(head) + how(some) * 70
            yield Bad(f"{ending}: rows that unpack without end", {name: rows}, (name, "200 times its size"), memory=900)
        whole = how(CSV)
        yield Bad(f"{ending}: cut", {f"t.csv.{ending}": whole[: len(whole) // 2]}, (f"t.csv.{ending}",))
        yield Bad(f"{ending}: not packed", {f"t.csv.{ending}": CSV}, (f"t.csv.{ending}", "not a compressed file"))
    yield Bad("xz: asks for four gigabytes", {"t.csv.xz": _hungry_xz()}, ("t.csv.xz", "Memory usage limit"))
    yield Bad("xz: two streams", {"t.csv.xz": lzma.compress(CSV[:100]) + lzma.compress(CSV[100:])}, None)
    yield Bad("gz: with rubbish behind", {"t.csv.gz": gzip.compress(CSV) + b"rubbish"}, ("t.csv.gz",))


def _views() -> pa.Table:
    """Return a table whose 5,000 values are one and the same megabyte."""
    view = struct.pack("<i4sii", 1 << 20, b"xxxx", 0, 0)
    buffers = [None, pa.py_buffer(view * 5000), pa.py_buffer(b"x" * (1 << 20))]
    return pa.table({"c": pa.Array.from_buffers(pa.string_view(), 5000, buffers), "y": [n % 2 for n in range(5000)]})


def columnar() -> Iterator[Bad]:
    """Yield what goes wrong with Parquet and Arrow."""
    words = pa.DictionaryArray.from_arrays(
        pa.array([0] * 5000, pa.int32()), pa.array(["x" * (1 << 20)], pa.large_string())
    )
    repeated = pa.table({"c": words, "y": [n % 2 for n in range(5000)]})
    for ending, write in (("parquet", parquet), ("arrow", arrow)):
        name = f"t.{ending}"
        yield Bad(
            f"{ending}: a megabyte that is meant 5,000 times",
            {name: write(repeated)},
            (name, "unpacks to more than 1,0"),
        )
        nested = pa.table({"v": [[[1.0], [2.0]], [[3.0], [4.0]]], "y": [0, 1]})
        yield Bad(f"{ending}: nested lists", {name: write(nested)}, (name, "'v'", "lists must be of numbers"))
        yield Bad(
            f"{ending}: a list of objects",
            {name: write(pa.table({"v": [[{"a": 1}]], "y": [0]}))},
            (name, "'v'", "lists must be"),
        )
        maps = pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "y": [0]})
        yield Bad(f"{ending}: a map", {name: write(maps)}, (name, "'m'"))
        uuids = pa.table(
            {"u": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))), "y": [0]}
        )
        yield Bad(f"{ending}: a type of somebody's own", {name: write(uuids)}, (name, "'u'"))
        twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
        yield Bad(f"{ending}: duplicate columns", {name: write(twice)}, (name, "two columns named 'a'"))
        unnamed = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["", "y"])
        yield Bad(f"{ending}: a column without a name", {name: write(unnamed)}, (name, "without a name"))
        yield Bad(f"{ending}: without columns", {name: write(pa.table({}))}, (name, "there is no data in it"))
        yield Bad(f"{ending}: without rows", {name: write(TABLE.slice(0, 0))}, (name, "no rows"))
        long = pa.table({"c": ["x" * LONG, "z", "z"], "y": [0, 1, 0]})
        yield Bad(f"{ending}: a field of 10 MB", {name: write(long)}, None)
        names = [
            "..",
            "a/../b",
            "a\nb",
            "=1+1",
            "$(id)",
            "{{7*7}}",
            "<script>",
            "\u202egnp",
            "e\u0301",
            "\u00e9",
            "\U0001f600",
            "'; drop table run",
        ]
        odd = pa.table({**{odd: [1, 2] for odd in names}, "y": [0, 1]})
        yield Bad(f"{ending}: names that are no names elsewhere", {name: write(odd)}, None)
        yield Bad(f"{ending}: something else", {name: CSV}, (name, "cannot be read|can be read"))
    many = parquet(pa.table({"n": pa.nulls(60_000_000)}))
    yield Bad(
        "parquet: sixty million values in some bytes", {"t.parquet": many}, ("t.parquet", "claims 60,000,000 values")
    )
    zeros = parquet(
        pa.table({"c": np.zeros(34 << 20)}),
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=34 << 20,
    )
    yield Bad("parquet: 270 MB of zeros", {"t.parquet": zeros}, ("t.parquet", "'c'", "200 times the file"))
    footer = b"PAR1" + bytes(65 << 20) + struct.pack("<I", 65 << 20) + b"PAR1"
    yield Bad(
        "parquet: a description of 65 MB",
        {"t.parquet": footer},
        ("t.parquet", "describes itself in 65 MiB"),
        memory=250,
    )
    yield Bad(
        "arrow: two thousand million rows",
        {"t.arrow": arrow(pa.table({"n": pa.Array.from_buffers(pa.null(), 2 * 10**9, [None])}))},
        ("t.arrow", "claims"),
        memory=50,
    )
    runs = pa.table({"r": pa.RunEndEncodedArray.from_arrays(pa.array([10**6], pa.int32()), ["x"])})
    yield Bad("arrow: runs", {"t.arrow": arrow(runs)}, ("t.arrow", "'r'"))
    yield Bad("arrow: 5,000 views of one megabyte", {"t.arrow": arrow(_views())}, ("t.arrow", "unpacks to more than"))


def arrays() -> Iterator[Bad]:
    """Yield what goes wrong with NPZ and IDX."""
    pickled = b"cos\nsystem\n(S'touch hacked'\ntR."
    yield Bad("objects", {"t.npz": npz(x=npy(_shape("(1,)", "|O"), pickled))}, ("t.npz", "'x'", "Python objects"))
    for what, shape in (
        ("eight terabytes", "(1000000000000,)"),
        ("a shape below nought", "(-5,)"),
        ("a shape of text", "('a',)"),
    ):
        yield Bad(f"npz: {what}", {"t.npz": npz(x=npy(_shape(shape), bytes(80)))}, ("t.npz",), memory=30)
    for what, head in (
        ("rows of nothing", _shape("(1000000000000, 0)")), ("values of nothing", _shape("(1000000000000,)", "|S0")),
        ("a header that is code", "__import__('os').system('touch hacked')\n"), ("a header of brackets", "(" * 9000 + "\n"),
        ("a type that nobody knows", _shape("(2,)", "<z9")), ("a header that ends early", "{'descr': "), ("no header", ""),
        ("complex numbers", _shape("(1,)", "<c8")),
    ):  # fmt: skip
        data = bytes(8) if what == "complex numbers" else b""
        yield Bad(f"npz: {what}", {"t.npz": npz(x=npy(head, data))}, ("t.npz",), memory=30)
    yield Bad("npz: a header of 20 MB", {"t.npz": npz(x=npy(b" " * (20 << 20), version=2))}, ("t.npz",), memory=120)
    yield Bad("npz: something that is no array", {"t.npz": zipped(("x.txt", b"hello"))}, ("t.npz", "'x.txt'"))
    good = plain_npy(np.arange(10))
    yield Bad(
        "npz: an array twice", {"t.npz": zipped(("x.npy", good), ("x.npy", good))}, ("t.npz", "two columns named 'x'")
    )
    yield Bad("npz: arrays of two lengths", {"t.npz": npz(x=good, y=plain_npy(np.arange(9)))}, ("t.npz", "x 10, y 9"))
    claim = struct.pack("<2L", len(good), len(good))
    huge = npz(x=good).replace(claim, struct.pack("<2L", len(good), 0xFFFFFFF0))
    yield Bad("npz: four gigabytes, as it says", {"t.npz": huge}, ("t.npz", "unpacks to more than"), memory=30)
    yield Bad("npz: something else", {"t.npz": CSV}, ("t.npz", "not an NPZ file"))
    zeros = zipped(("x.npy", npy(_shape("(100000, 1000)", "|u1"), bytes(100_000_000))), how=zipfile.ZIP_DEFLATED)
    yield Bad("npz: 100 MB of zeros in 100 KB", {"t.npz": zeros}, None, {"target": ""}, memory=400)
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 60_000, 28, 28)
    yield Bad("idx: ends early", {"x-images-ubyte": idx + bytes(100)}, ("x-images-ubyte",), memory=30)
    wide = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 2**31 - 1, 9)
    yield Bad("idx: rows of 19 GB", {"x-images-ubyte": wide + bytes(100)}, ("x-images-ubyte",), memory=30)
    yield Bad(
        "idx: rows of 19 GB, packed",
        {"x-images-ubyte.gz": gzip.compress(wide + bytes(100))},
        ("x-images-ubyte.gz",),
        memory=30,
    )


def media() -> Iterator[Bad]:
    """Yield what goes wrong with images, sounds and texts."""
    good = png()
    for what, data in (
        ("4,295 million pixels", claimed_png(65_535, 65_535)), ("more pixels than there are", claimed_png(2**31 - 1, 2**31 - 1)),
        ("text", b"this is no image"), ("nothing but a beginning", good[:20]), ("cut", png(64, 64)[:150]), ("a page of PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("a drawing", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("words that unpack to 100 MB", claimed_png(8, 8, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20))))),
        ("a table of colours that unpacks to 100 MB", claimed_png(8, 8, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 << 20))))),
        ("a JPEG that is cut", png(64, 64, "JPEG")[:-200]), ("a GIF that is cut", png(64, 64, "GIF")[:200]),
        ("a TIFF whose table leads to itself", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
        ("a bitmap of minus one pixel", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, -1, -1, 1, 24, 0, 0, 0, 0, 0, 0)),
    ):  # fmt: skip
        yield Bad(f"image: {what}", {"a/1.png": good, "b/2.png": data}, ("b/2.png",), memory=120)
    yield Bad(
        "image: another size",
        {"a/1.png": good, "b/2.png": png(9, 8)},
        ("b/2.png", "9 x 8", "a/1.png", "image_size=(8, 8)"),
    )
    size = {"image_size": (100_000, 100_000)}
    yield Bad(
        "image: a wish for ten thousand million pixels",
        {"a/1.png": good, "b/2.png": good},
        ("image_size", "8192"),
        size,
    )
    out = io.BytesIO()
    soundfile.write(out, np.zeros(800, np.float32), 8000, format="WAV")
    wav = out.getvalue()
    claim = wav.replace(struct.pack("<I", 1600), struct.pack("<I", 0xFFFFFFF0))
    yield Bad("sound: four gigabytes, as it says", {"a/1.wav": wav, "b/2.wav": claim}, None, memory=60)
    out = io.BytesIO()
    soundfile.write(out, np.zeros(800, np.float32), 8000, format="FLAC")
    flac = bytearray(out.getvalue())
    flac[21] |= 0x0F
    flac[22:26] = b"\xff\xff\xff\xff"
    yield Bad(
        "sound: a FLAC of 68,719 million samples",
        {"a/1.wav": wav, "b/2.flac": bytes(flac)},
        ("b/2.flac", "samples"),
        memory=60,
    )
    yield Bad("sound: text", {"a/1.wav": wav, "b/2.wav": b"this is no sound"}, ("b/2.wav", "is not a sound"))
    yield Bad("sound: cut", {"a/1.wav": wav, "b/2.wav": wav[:30]}, ("b/2.wav",))
    yield Bad("text: Latin-1", {"a/1.txt": b"hello", "b/2.txt": b"caf\xe9"}, ("b/2.txt", "not UTF-8"))
    yield Bad("text: 11 MB", {"a/1.txt": b"hello", "b/2.txt": b"x" * (11 << 20)}, ("b/2.txt", "10 MiB"))
    yield Bad("images and sounds", {"a/1.png": good, "b/2.wav": wav}, ("b/2.wav", "not an image that can be read"))


def _coco(*boxes: Any) -> bytes:
    found = [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes]
    images, kinds = [{"id": 1, "file_name": "1.png"}], [{"id": 1, "name": "cat"}]
    return json.dumps({"images": images, "categories": kinds, "annotations": found}).encode()


def boxes() -> Iterator[Bad]:
    """Yield what goes wrong with what is said of objects in images."""
    good = png()
    for what, note, words in (
        (
            "outside the image",
            _coco([2, 2, 3, 3], [6, 6, 5, 5]),
            ("c.json, annotation 2", "lies outside of 1.png", "8 x 8"),
        ),
        ("wholly outside", _coco([20, 20, 3, 3]), ("c.json, annotation 1", "lies outside of 1.png")),
        ("before its beginning", _coco([-5, 2, 3, 3]), ("c.json, annotation 1", "lies outside")),
        ("without an area", _coco([2, 2, 0, 3]), ("c.json, annotation 1", "no area")),
        ("turned inside out", _coco([5, 5, -3, -3]), ("c.json, annotation 1",)),
        ("no numbers", _coco(["a", 1, 2, 3]), ("c.json, annotation 1", "not a number")),
        ("three numbers", _coco([1, 2, 3]), ("c.json",)),
        ("not finite", _coco([1, 1, 1e400, 2]), ("c.json, annotation 1", "not a number")),
        ("no annotation", _coco(), ("c.json", "no object")),
        ("deep", b"[" * 100_000, ("c.json", "not a file of boxes")),
        ("no UTF-8", b"\xff\xfe\xff", ("c.json",)),
    ):
        yield Bad(f"COCO: {what}", {"1.png": good, "c.json": note}, words)
    entity = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    laughs = f'<!DOCTYPE a [<!ENTITY a0 "ha">{entity}]><annotation><filename>&a9;</filename></annotation>'.encode()
    file = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'
    corners = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>90</xmax><ymax>4</ymax></bndbox>"
    outside = f"<annotation><filename>1.png</filename><object><name>cat</name>{corners}</object></annotation>".encode()
    for what, note, words in (
        ("a thousand million laughs", laughs, ("1.xml", "not a file of boxes")), ("a file of the system", file, ("1.xml", "not a file of boxes")),
        ("outside the image", outside, ("1.xml, object 1", "lies outside of 1.png")), ("cut", outside[:80], ("1.xml",)),
        ("100,000 deep", b"<a>" * 100_000, ("1.xml",)),
    ):  # fmt: skip
        yield Bad(f"VOC: {what}", {"1.png": good, "1.xml": note}, words, memory=200)
    yield Bad(
        "YOLO: outside the image",
        {"1.png": good, "1.txt": b"0 0.5 0.5 0.1 0.1\n0 0.9 0.5 0.9 0.1\n"},
        ("1.txt, line 2", "lies outside of 1.png"),
    )
    yield Bad("YOLO: no numbers", {"1.png": good, "1.txt": b"0 a b c d\n"}, ("1.txt, line 1", "not a number"))
    yield Bad(
        "YOLO: an image that is not there",
        {"1.png": good, "2.json": b"{}", "9.xml": outside.replace(b"1.png", b"9.png")},
        ("9.xml|2.json",),
    )


FAMILIES = {
    "csv": csv,
    "lines": lines,
    "packed": packed,
    "columnar": columnar,
    "arrays": arrays,
    "media": media,
    "boxes": boxes,
}


def whole_files() -> dict[str, bytes]:
    """Return a small good file of each kind, to be cut and damaged."""
    found = {
        "t.csv": CSV, "t.jsonl": jsonl(*({"a": n, "v": [n, 1.5], "y": n % 2} for n in range(30))), "t.parquet": parquet(TABLE), "t.arrow": arrow(TABLE),
        "s.arrow": arrow(TABLE, stream=True), "t.npz": npz(x=plain_npy(np.arange(40.0).reshape(10, 4)), y=plain_npy(np.arange(10))),
        "x-images-ubyte": bytes([0, 0, 8, 3]) + struct.pack(">3I", 20, 4, 4) + bytes(range(64)) * 5, "t.csv.gz": gzip.compress(CSV),
        "t.csv.bz2": bz2.compress(CSV), "t.csv.xz": lzma.compress(CSV), "t.csv.zst": pa.compress(CSV, "zstd", asbytes=True),
        "a/1.png": png(), "a/1.jpg": png(16, 16, "JPEG"),
    }  # fmt: skip
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(200)), 8000, format="FLAC")
    return {**found, "a/1.flac": out.getvalue()}
