"""The key file, wrapped data keys, tokens, and the keyring in a real catalog."""

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core import plugins
from leptonai.core.errors import Conflict, Corrupt, Invalid, NotFound, Unauthenticated, Unavailable
from leptonai.core.ids import new_id
from leptonai.core.nouns import Blob
from leptonai.core.ports import Catalog, DataKey
from leptonai.server.keyfile import KeyFile
from leptonai.server.keys import CatalogKeyring, new_token, parse_token

KEYFILE = KeyFile(bytes(32))
KEY = DataKey("uid_1", bytes(range(32)))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ key file


def test_the_key_file_is_made_once_and_is_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "kek.key"
    wrapped = KeyFile.open(path).wrap(KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["kek.key"]
    assert KeyFile.open(path, create=False).unwrap("uid_1", wrapped) == KEY


def test_many_starts_at_once_make_one_key(tmp_path: Path) -> None:
    code = "import sys, pathlib; from leptonai.server.keys import KeyFile; print(KeyFile.open(pathlib.Path(sys.argv[1])).digest('t', 'x'))"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "kek.key")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


def test_a_missing_key_file_is_not_replaced_where_blobs_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"kek\.key is missing"):
        KeyFile.open(tmp_path / "kek.key", create=False)
    assert not (tmp_path / "kek.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_may_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "kek.key"
    KeyFile.open(path)
    path.chmod(mode)
    with pytest.raises(Invalid, match=f"chmod 600 {path}"):
        KeyFile.open(path)


def test_any_damage_to_the_key_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "kek.key"
    KeyFile.open(path)
    good = path.read_bytes()
    for index in range(len(good) - 1):
        bad = bytearray(good)
        bad[index] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(Corrupt, match=str(path)):
            KeyFile.open(path)
    for bad in (b"", good[:-20], good + good, bytes(32)):
        path.write_bytes(bad)
        with pytest.raises(Corrupt):
            KeyFile.open(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        KeyFile.open(tmp_path / "none" / "kek.key")


def test_a_wrapped_key_is_bound_to_its_identity_and_key_file() -> None:
    wrapped = KEYFILE.wrap(KEY)
    assert wrapped != KEYFILE.wrap(KEY)
    assert KEYFILE.unwrap("uid_1", wrapped) == KEY
    name, _, body = wrapped.rpartition(".")
    raw = bytearray(base64.b64decode(body))
    raw[20] ^= 1
    for keyfile, uid, text in (
        (KEYFILE, "uid_2", wrapped),
        (KeyFile(b"x" * 32), "uid_1", wrapped),
        (KEYFILE, "uid_1", f"{name}.{base64.b64encode(raw).decode()}"),
        (KEYFILE, "uid_1", f"k000000000000.{body}"),
        (KEYFILE, "uid_1", wrapped[:8]),
        (KEYFILE, "uid_1", "not base64!"),
        (KEYFILE, "uid_1", ""),
    ):
        with pytest.raises(Corrupt, match=uid):
            keyfile.unwrap(uid, text)


def test_digests_are_keyed_and_of_one_purpose() -> None:
    digest = KEYFILE.digest("api-key", "secret")
    assert KEYFILE.matches("api-key", "secret", digest)
    assert not KEYFILE.matches("api-key", "secrets", digest)
    assert not KEYFILE.matches("run", "secret", digest)
    assert not KeyFile(b"y" * 32).matches("api-key", "secret", digest)


# -------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("kid", ["key_01kajzk0a8m7v3w9e5r2t4y6q1", "run_01kajzk0a8m7v3w9e5r2t4y6q1", "local"])
def test_a_token_names_its_record(kid: str) -> None:
    token = new_token(kid)
    assert parse_token(token.text) == token
    assert new_token(kid) != token


def test_any_slip_of_the_pen_is_refused() -> None:
    text = new_token(new_id("key")).text
    for index in range(len(text)):
        for other in ("a" if text[index] != "a" else "b", "", "_"):
            if other != text[index]:
                with pytest.raises(Unauthenticated):
                    parse_token(text[:index] + other + text[index + 1 :])


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(Unauthenticated):
        parse_token(text)
    with pytest.raises(Unauthenticated):
        parse_token("lepton_" + text)


@pytest.mark.parametrize("kid", ["", "UPPER", "a__b", "../x", "a b", "_a", "a_", "é"])
def test_what_cannot_name_a_token(kid: str) -> None:
    with pytest.raises(Invalid):
        new_token(kid)


# ------------------------------------------------------------------------------------------------- keyring


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = plugins.catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield catalog
    close = getattr(catalog, "close", None)
    if close is not None:
        close()


def test_the_keyring_keeps_keys_wrapped(catalog: Catalog) -> None:
    keyring = CatalogKeyring(catalog, KEYFILE, "run_1")
    keyring.bind("a" * 64, KEY, 5, sha("hello"))
    record = catalog.get(Blob, "a" * 64)
    assert (record.uid, record.size, record.owner) == ("uid_1", 5, "run_1")
    assert base64.b64encode(KEY.secret).decode() not in record.model_dump_json()
    assert sha("hello") not in record.model_dump_json()
    assert CatalogKeyring(catalog, KEYFILE, "run_2").find("a" * 64) == KEY
    with pytest.raises(NotFound):
        keyring.find("b" * 64)


def test_binding_again(catalog: Catalog) -> None:
    keyring = CatalogKeyring(catalog, KEYFILE, "run_1")
    keyring.bind("a" * 64, KEY, 5, sha("hello"))
    keyring.bind("a" * 64, KEY, 5, sha("hello"))  # a request that was sent twice
    for other in (DataKey("uid_2", KEY.secret), DataKey("uid_1", os.urandom(32))):
        with pytest.raises(Conflict):
            keyring.bind("a" * 64, other, 5, sha("hello"))
    assert keyring.find("a" * 64) == KEY


def test_an_owner_finds_again_only_what_he_uploaded(catalog: Catalog) -> None:
    mine, other = CatalogKeyring(catalog, KEYFILE, "alice"), CatalogKeyring(catalog, KEYFILE, "bob")
    for index in range(1200):
        mine.bind(f"{index:064x}", KEY, 1, sha(str(index % 700)))
    known = mine.known([sha(str(index)) for index in range(1000)])
    assert set(known) == {sha(str(index)) for index in range(700)}
    assert all(int(blob, 16) % 700 == index for index in range(700) for blob in [known[sha(str(index))]])
    assert other.known([sha("1")]) == mine.known([]) == {}


def test_a_sealed_store_over_it(catalog: Catalog, tmp_path: Path) -> None:
    store = plugins.sealed(plugins.store(str(tmp_path / "blobs")), CatalogKeyring(catalog, KEYFILE, "alice"))
    blob = store.write([b"hello"])
    with store.open(blob.id) as file:
        assert file.read() == b"hello"
    assert CatalogKeyring(catalog, KEYFILE, "alice").known([sha("hello")]) == {sha("hello"): blob.id}
