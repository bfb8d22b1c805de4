"""Archives that nobody should trust: each with what has to be said of it, or None where it can be read after all."""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator

CSV = b"a,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(50))
OUT = "leads out of it"

Case = tuple[str, bytes, str | None]


def zipped(*members: "tuple[str | zipfile.ZipInfo, bytes]", how: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of these members, whatever their names are."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in members:
            archive.writestr(name, data, how)
    return out.getvalue()


def special(name: str, mode: int, data: bytes = b"/etc/passwd") -> tuple[zipfile.ZipInfo, bytes]:
    """Return a member of a mode of its own: a link, a device."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info, data


def nested(levels: int) -> bytes:
    """Return an archive in an archive, so many deep."""
    data = CSV
    for level in range(levels):
        data = zipped((f"level{level}.zip" if level else "t.csv", data), how=zipfile.ZIP_DEFLATED)
    return data


def _directory(count: int, entry: bytes, before: bytes = b"") -> bytes:
    """Return an archive that is hardly more than a directory of so many times one entry."""
    length = count * len(entry)
    if count < 0xFFFF:
        return before + entry * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, len(before), 0)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, len(before))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(before) + length, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return before + entry * count + end64 + locator + end


def _entry(name: bytes, *, size: int = 0, offset: int = 0, flags: int = 0, extra: bytes = b"") -> bytes:
    head = (b"PK\1\2", 20, 20, flags, 0, 0, 0, 0, size, size, len(name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", *head) + name + extra


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def _overlapping() -> bytes:
    """Return an archive whose first member holds the second one, header and all (Fifield 2019)."""
    inner = zipped(("b.csv", CSV))
    local = inner[: inner.index(b"PK\1\2")]
    whole = zipped(("a.csv", local), ("b.csv", CSV))
    at = whole.index(local)
    return _patched(whole, struct.pack("<L", whole.rindex(b"PK\3\4")) + b"b.csv", struct.pack("<L", at) + b"b.csv")


def _encrypted() -> bytes:
    data = bytearray(zipped(("t.csv", CSV)))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def archives() -> Iterator[Case]:
    """Yield the archives: what they are, their bytes, and words of what has to be said."""
    for what, name in (
        ("absolute", "/etc/cron.d/t.csv"), ("parent", "../t.csv"), ("parent inside", "a/../../t.csv"), ("backslash", "..\\t.csv"),
        ("backslash inside", "a\\..\\t.csv"), ("drive", "C:/t.csv"), ("drive and backslash", "C:\\t.csv"),
        ("host", "//host/share/t.csv"), ("a path that is too long for a system", "../" * 2000 + "t.csv"),
        ("home", "~/../../t.csv"),
    ):  # fmt: skip
        yield what, zipped((name, CSV)), OUT
    for what, mode in (
        ("link to a file", stat.S_IFLNK | 0o777), ("device", stat.S_IFBLK | 0o600), ("terminal", stat.S_IFCHR | 0o600),
        ("pipe", stat.S_IFIFO | 0o600), ("socket", stat.S_IFSOCK | 0o600),
    ):  # fmt: skip
        yield what, zipped(special("t.csv", mode)), "a link or a device"
    yield (
        "link to a folder and a file through it",
        zipped(special("d", stat.S_IFLNK | 0o777, b"/tmp"), ("d/t.csv", CSV)),
        "a link or",
    )
    yield "setuid", zipped(special("t.csv", stat.S_IFREG | 0o4755, CSV)), None
    yield "two equal names", zipped(("t.csv", CSV), ("t.csv", CSV)), "'t.csv' twice"
    yield "two names that differ in case", zipped(("t.csv", CSV), ("T.csv", CSV)), None
    yield "a name with a zero byte", _patched(zipped(("t.csv_evil", CSV)), b"t.csv_evil", b"t.csv\0evil"), None
    yield "a name that is no text", _directory(1, _entry(b"\xff\xfe.csv", flags=0x800)), "not a zip archive"
    yield "a name of 5,000 characters", zipped(("x" * 5000 + ".csv", CSV)), "5,004 characters"
    yield "an extra field that ends early", _directory(1, _entry(b"t.csv", extra=b"\1\0\xff\xff")), "not a zip archive"
    forged = zipped(("t.csv", b"0,1\n" * 500_000), how=zipfile.ZIP_DEFLATED)
    size = struct.pack("<L", 2_000_000)
    yield "smaller than it says", _patched(forged, size, struct.pack("<L", 9_000_000)), "cannot be unpacked"
    yield "larger than it says", _patched(forged, size, struct.pack("<L", 10)), "cannot be unpacked"
    yield "a wrong sum", zipped(("t.csv", CSV)).replace(b"49,1\n", b"49,0\n", 1), "Bad CRC-32"
    yield "damaged in the middle", forged[:200] + b"\xff" * 40 + forged[240:], "cannot be unpacked"
    wrong = zipped(("t.csv", CSV))
    yield "two names for one file", wrong.replace(b"t.csv", b"s.csv", 1), "cannot be unpacked"
    yield (
        "a method that nobody knows",
        _patched(wrong, b"PK\1\2\x14\3\x14\0\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x61\0"),
        "cannot be",
    )
    yield "files that overlap", _overlapping(), "share the same bytes"
    yield "encrypted", _encrypted(), "encrypted with a password"
    yield "ten deep", nested(10), "no tables"
    yield "7z", b"7z\xbc\xaf\x27\x1c" + bytes(200), "not a zip archive"
    yield "xz", b"\xfd7zXZ\0" + bytes(200), "not a zip archive"
    yield "empty", b"", "not a zip archive"
    yield "without files", zipped(), "no tables"
    yield "only hidden files", zipped((".t.csv", CSV), ("__MACOSX/t.csv", CSV)), "no tables"
    claim = struct.pack("<L", 0xFFFFFFF0)
    huge = _patched(zipped(("t.csv", CSV)), struct.pack("<2L", len(CSV), len(CSV)), struct.pack("<L", len(CSV)) + claim)
    yield "four gigabytes, as it says", huge, "more than 200 times its size"
    yield "a million files and one", _directory(1_000_001, _entry(b"t.csv")), "more than 1,000,000 files"
    yield (
        "an end that points nowhere",
        struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 500, 9999, 0),
        "not a zip archive",
    )
