"""Archives that nobody should trust are refused in a sentence, or read as they are meant; nothing is written anywhere."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.bad_zips import CSV, archives, zipped

from leptonai.core.errors import Invalid, LeptonError
from leptonai.sdk.sources import sources


def read(path: Path) -> list[bytes]:
    """Return all that an archive is meant to give, as an upload reads it."""
    found = []
    with ExitStack() as keep:
        for source in sources(str(path), keep):
            with source.open() as file:
                data = b""
                while part := file.read(1 << 20):
                    data += part
                found.append(data)
    return found


def test_what_is_said_of_each_archive(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    bad, cases = [], list(archives())
    for what, data, words in cases:
        path = tmp_path / "t.zip"
        path.write_bytes(data)
        try:
            found = read(path)
            if words is not None or any(one != CSV for one in found) or not found:
                bad.append(f"{what}: it was read")
        except LeptonError as error:
            if words is None or words not in error.message or not good(error.message, path):
                bad.append(f"{what}: {error.message[:300]}")
        except Exception as error:  # a traceback, which no user should see
            bad.append(f"{what}: {type(error).__name__}: {error}")
        if list(tmp_path.iterdir()) != [path]:
            bad.append(f"{what}: something was written")
    record_property("bad/N", f"{len(bad)}/{len(cases)}")
    assert len(cases) >= 40
    assert bad == []


def good(message: str, path: Path) -> bool:
    """Whether it is one sentence that names the archive."""
    return "\n" not in message and str(path) in message and len(message) < 700


def test_an_archive_that_is_cut_anywhere(tmp_path: Path) -> None:
    whole = zipped(("t.csv", CSV))
    path = tmp_path / "t.zip"
    bad = []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            read(path)
            bad.append(f"{length}: it was read")
        except Invalid as error:
            if not good(error.message, path):
                bad.append(f"{length}: {error.message}")
    assert bad == [], f"{len(bad)} of {len(whole)}"


def test_an_archive_with_any_byte_changed(tmp_path: Path) -> None:
    whole = zipped(("t.csv", CSV))
    path = tmp_path / "t.zip"
    bad = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            if any(one not in (CSV, b"") for one in read(path)):
                bad.append(f"{at}: other bytes were read")
        except LeptonError as error:
            if not good(error.message, path):
                bad.append(f"{at}: {error.message}")
    assert bad == [], f"{len(bad)} of {len(whole)}"
