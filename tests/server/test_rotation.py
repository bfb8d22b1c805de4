"""R21: a rotation of the key-encryption key that is cut at any point, with others at work meanwhile."""

import contextlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import Place

from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.adapters.stores.local import LocalStore
from leptonai.adapters.stores.sealed import SealedStore
from leptonai.core import plugins
from leptonai.core.errors import Corrupt, Denied, Invalid, NotFound, Unavailable
from leptonai.core.nouns import Blob, Receipt
from leptonai.core.ports import DataKey
from leptonai.server import keyfile as keyfiles
from leptonai.server import rotation
from leptonai.server.context import open_context
from leptonai.server.keyfile import KeyFile
from leptonai.server.keys import CatalogKeyring


class Cut(BaseException):
    """The power is gone."""


class Cutting:
    """A catalog, and the writing of key files, that end at the n-th operation: before it has an effect, or just after."""

    def __init__(self, catalog: Any, at: int, after: bool, meanwhile: Callable[[], None]):
        self.catalog, self.at, self.after, self.meanwhile, self.count = catalog, at, after, meanwhile, 0

    def step(self, effect: Callable[[], Any]) -> Any:
        self.count += 1
        self.meanwhile()
        if self.count == self.at and not self.after:
            raise Cut
        found = effect()
        if self.count == self.at:
            raise Cut
        return found

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.catalog, name)
        return lambda *a, **k: self.step(lambda: method(*a, **k))


class Home:
    """A home folder with sealed blobs in it, as one server sees it."""

    def __init__(self, folder: Path, catalog: Any = None):
        self.folder = folder
        self.catalog = catalog or SqlCatalog(f"sqlite:///{folder / 'catalog.sqlite'}")
        self.keyfile = KeyFile.open(folder / "kek.key")
        self.raw = LocalStore(folder / "blobs")

    def store(self) -> SealedStore:
        return SealedStore(self.raw, CatalogKeyring(self.catalog, self.keyfile, "ann"))

    def write(self, data: bytes) -> str:
        return self.store().write([data]).id

    def unreadable(self, known: dict[str, bytes]) -> list[str]:
        bad = []
        for blob, data in known.items():
            try:
                with self.store().open(blob) as file:
                    if file.read() != data:
                        bad.append(blob)
            except (Corrupt, NotFound, Unavailable):
                bad.append(blob)
        return bad

    def finish(self) -> None:
        rotator = rotation.Rotator(self.catalog, self.keyfile)
        while not rotator.go_on(10.0).done:
            pass

    def old_wraps(self, old: KeyFile) -> int:
        """Count the records that a key file of before the rotation still opens."""
        count = 0
        for blob in self.catalog.find(Blob, limit=1000):
            with contextlib.suppress(Corrupt):
                if blob.id != rotation.STATE:
                    old.unwrap(blob.uid, blob.wrapped)
                    count += 1
        for receipt in self.catalog.find(Receipt, limit=1000):
            with contextlib.suppress(Corrupt):
                old.unwrap(receipt.id, receipt.answer["sealed"])
                count += 1
        return count


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A home with five blobs and a receipt, before the rotation; copied for each trial."""
    folder = tmp_path_factory.mktemp("before")
    home = Home(folder)
    known = {home.write(f"blob {n}".encode()): f"blob {n}".encode() for n in range(5)}
    sealed = home.keyfile.wrap(DataKey("receipt_1", b"the secret of a key".ljust(32)))
    home.catalog.add(Receipt(id="receipt_1", request="r", answer={"sealed": sealed}))
    home.catalog.close()
    return folder, known


def copied(before: Path, folder: Path) -> Path:
    """Make a home of its own, which shares only the folder of the blobs."""
    folder.mkdir()
    for name in ("kek.key", "catalog.sqlite"):
        shutil.copy(before / name, folder / name)
    (folder / "blobs").symlink_to(before / "blobs")
    return folder


def old_of(folder: Path) -> KeyFile:
    """Return the key file of before, for whoever has stolen it."""
    return KeyFile.open(folder / "kek.key", create=False)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_PAGE", 3)
    monkeypatch.setattr(rotation, "GRACE_SECONDS", 0.0)


def trial(
    before: tuple[Path, dict[str, bytes]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    after: bool,
    apart: bool,
) -> tuple[bool, int, int]:
    """Cut a rotation at one operation, while another server writes and reads; return whether it was cut, unreadable, old."""
    copied(before[0], folder)
    known = dict(before[1])
    other_folder = folder
    if apart:  # a server on another machine: the same database and store, and a copy of the key file
        other_folder = copied(before[0], folder / "apart")
    other = Home(other_folder, SqlCatalog(f"sqlite:///{folder / 'catalog.sqlite'}"))
    chosen = random.Random(at)
    bad: list[str] = []
    turn = iter(range(10**6))

    def meanwhile() -> None:
        """Another server writes a blob now and then, and reads all there is."""
        if next(turn) % 3 == 0:
            data = chosen.randbytes(9)
            known[other.write(data)] = data
        bad.extend(other.unreadable(dict(chosen.sample(sorted(known.items()), 2))))

    home = Home(folder)
    cutting = Cutting(home.catalog, at, after, meanwhile)
    write = keyfiles._write
    other_file = other.keyfile._path

    def written(path: Path, *given: Any, **more: Any) -> None:
        if busy and path == home.keyfile._path and (apart or path != other_file):
            cutting.step(lambda: write(path, *given, **more))
        else:
            write(path, *given, **more)

    busy = True
    cut = False
    with monkeypatch.context() as patched:
        patched.setattr(keyfiles, "_write", written)
        try:
            rotation.begin(cutting, home.keyfile, "ann")
            rotator = rotation.Rotator(cutting, home.keyfile)
            while not rotator.go_on(10.0).done:
                pass
        except Cut:
            cut = True
        busy = False
    home.catalog.close()
    again = Home(folder)  # the next start
    bad += again.unreadable(known)
    rotation.begin(again.catalog, again.keyfile, "ann")
    rotation.Rotator(other.catalog, other.keyfile).go_on(10.0)  # as each server does each second
    again.finish()
    other.finish()
    bad += again.unreadable(known) + other.unreadable(known)
    again.finish()
    told = rotation.state(again.catalog)
    left = again.old_wraps(old_of(before[0])) + len(again.keyfile.retiring)
    left += told is None or told.wrapped != ""  # by which the old key would open the new one
    again.catalog.close()
    other.catalog.close()
    return cut, len(bad), left


@pytest.mark.parametrize("apart", [False, True], ids=["one home", "a copy of the key file"])
def test_a_rotation_that_is_cut_anywhere(
    before: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    unreadable = old = trials = 0
    for after in (False, True):
        at, cut = 0, True
        while cut:
            at += 1
            folder = tmp_path / f"{at}-{after}"
            cut, bad, left = trial(before, folder, monkeypatch, at, after, apart)
            unreadable, old, trials = unreadable + bad, old + left, trials + 1
            shutil.rmtree(folder)
    print(f"R21: unreadable {unreadable}/{trials}, old wraps {old}/{trials}")
    assert trials > 20
    assert (unreadable, old) == (0, 0)


def test_two_servers_that_rotate_at_once(before: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    one = Home(copied(before[0], tmp_path / "one"))
    two = Home(copied(before[0], tmp_path / "two"), SqlCatalog(f"sqlite:///{tmp_path / 'one' / 'catalog.sqlite'}"))
    one.keyfile.rotate()
    two.keyfile.rotate()
    known = dict(before[1]) | {one.write(b"1"): b"1"}
    rotation.begin(two.catalog, two.keyfile, "ann")
    rotation.begin(one.catalog, one.keyfile, "bob")
    known |= {one.write(b"2"): b"2", two.write(b"3"): b"3"}
    one.finish()
    two.finish()
    assert one.keyfile.current == two.keyfile.current
    assert one.unreadable(known) + two.unreadable(known) == []
    assert one.old_wraps(old_of(before[0])) == 0
    one.catalog.close()
    two.catalog.close()


def test_a_server_that_slept_through_a_rotation_is_told(before: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    one = Home(copied(before[0], tmp_path / "one"))
    two = Home(copied(before[0], tmp_path / "two"), one.catalog)
    rotation.begin(one.catalog, one.keyfile, "ann")
    one.finish()
    count = len(one.catalog.find(Blob, limit=1000))
    with pytest.raises(Unavailable, match="was rotated: copy the file"):
        two.write(b"late")
    assert len(one.catalog.find(Blob, limit=1000)) == count, "what nobody could open is not kept"
    with pytest.raises(NotFound, match="was rotated: copy the file"):
        open_context(tmp_path / "two", f"sqlite:///{tmp_path / 'one' / 'catalog.sqlite'}", None, 30.0)
    one.catalog.close()


def test_a_file_of_before_rotations_keeps_what_was_made_with_it(tmp_path: Path) -> None:
    path = tmp_path / "kek.key"
    secret = bytes(range(32))
    path.write_text(f"leptonai-kek-1 {secret.hex()} {keyfiles.checksum(secret.hex())}\n")
    path.chmod(0o600)
    found = KeyFile.open(path, create=False)
    old = KeyFile(secret)
    plain = old.wrap(DataKey("u", bytes(32))).partition(".")[2]  # wraps had no name then
    assert found.unwrap("u", plain) == DataKey("u", bytes(32))
    found.rotate()
    assert KeyFile.open(path).unwrap("u", plain) == DataKey("u", bytes(32))
    found.retire()
    again = KeyFile.open(path)
    assert secret.hex() not in path.read_text()
    with pytest.raises(Corrupt):
        again.unwrap("u", plain)
    for purpose in ("api-key", "plain", "prediction"):
        assert again.digest(purpose, "text") == old.digest(purpose, "text"), "keys for API stay valid"
    assert again.derive("wrap") != old.derive("wrap"), "the old key cannot be derived from what is kept"


def test_rotation_by_http_is_in_the_audit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = place.upload(b"data")
    first = place.context.keyfile.current
    done = place.ask("POST", "/keys/rotation", json={}).json()
    while not done["done"]:
        done = place.ask("POST", "/keys/rotation", json={"begin": False}).json()
    assert done["key"] == place.context.keyfile.current != first
    assert place.context.keyfile.retiring == ()
    assert place.ask("GET", f"/blobs/{blob}").content == b"data"
    row = place.ask("GET", "/audit", params={"name": "key.rotate"}).json()["items"]
    assert [one["subject"] for one in row] == [done["key"]]
    key = place.key("dataset:write")
    assert place.ask("POST", "/keys/rotation", key, json={}).status_code == 403


# ------------------------------------------------------------------------------------------------- locks


@pytest.fixture
def passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from leptonai.adapters.locks import passphrase

    monkeypatch.setattr(passphrase, "_COST", 2**10)
    path = tmp_path / "passphrase"
    path.write_text("correct horse battery staple\n")
    return path


def test_a_passphrase_locks_the_key_file(tmp_path: Path, passphrase: Path) -> None:
    path = tmp_path / "kek.key"
    wrapped = KeyFile.open(path).wrap(DataKey("u", b"k" * 32))
    lock = f"passphrase:{passphrase}"
    found = KeyFile.open(path, lock=lock)
    assert found.unwrap("u", wrapped).secret == b"k" * 32
    assert path.read_text().startswith("leptonai-kek-2 passphrase ")
    found.rotate()
    assert path.read_text().startswith("leptonai-kek-2 passphrase "), "a rotation leaves the lock"
    (tmp_path / "wrong").write_text("incorrect horse")
    with pytest.raises(Denied, match="does not open the key file"):
        KeyFile.open(path, lock=f"passphrase:{tmp_path / 'wrong'}")
    with pytest.raises(Invalid, match="LEPTONAI_KEY_LOCK"):
        KeyFile.open(path)
    with pytest.raises(Invalid, match="cannot be read"):
        KeyFile.open(path, lock=f"passphrase:{tmp_path / 'none'}")
    with pytest.raises(Invalid):  # nobody can take the lock away who does not know it
        KeyFile.open(path, lock="none")
    assert KeyFile.open(path, lock=lock).unwrap("u", wrapped).secret == b"k" * 32


def test_a_passphrase_that_is_too_short(tmp_path: Path, passphrase: Path) -> None:
    passphrase.write_text("short\n")
    with pytest.raises(Invalid, match="needs 8 at least"):
        KeyFile.open(tmp_path / "kek.key", lock=f"passphrase:{passphrase}")
    assert not (tmp_path / "kek.key").exists()


def test_the_passphrase_comes_from_the_environment(
    tmp_path: Path, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kek.key"
    monkeypatch.setenv("LEPTONAI_PASSPHRASE", "correct horse battery staple")
    wrapped = KeyFile.open(path, lock="passphrase").wrap(DataKey("u", b"k" * 32))
    assert KeyFile.open(path).unwrap("u", wrapped).secret == b"k" * 32, "the file says what it is locked with"
    assert path.read_text().startswith("leptonai-kek-2 passphrase "), "what is not asked for stays"
    KeyFile.open(path, lock="none")
    monkeypatch.delenv("LEPTONAI_PASSPHRASE")
    assert KeyFile.open(path).unwrap("u", wrapped).secret == b"k" * 32


PLUG_IN = '''
import json
from pathlib import Path

class Lock:
    """A service that keeps a key of its own in a file, and counts its calls."""
    def __init__(self, key):
        self.key = key
    def _service(self, data, key):
        folder = Path(__file__).parent
        secret = (folder / f"{key}.secret").read_bytes()
        with (folder / "calls").open("a") as calls:
            calls.write("x")
        return bytes(a ^ secret[n % len(secret)] for n, a in enumerate(data))
    def lock(self, secret):
        return {"key": self.key, "body": self._service(secret, self.key).hex()}
    def open(self, locked):
        return self._service(bytes.fromhex(locked["body"]), locked["key"])
'''


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Path]:
    """A plug-in in a distribution of its own, as pip would install it."""
    folder = tmp_path / "site"
    (folder / "mykms-1.0.dist-info").mkdir(parents=True)
    (folder / "mykms.py").write_text(PLUG_IN)
    (folder / "main.secret").write_bytes(b"the key that never leaves")
    (folder / "mykms-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mykms\nVersion: 1.0\n")
    (folder / "mykms-1.0.dist-info" / "entry_points.txt").write_text("[leptonai.locks]\nmykms = mykms:Lock\n")
    plugins._load.cache_clear()
    plugins.names.cache_clear()
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("mykms", None)
    plugins._load.cache_clear()
    plugins.names.cache_clear()


def test_a_key_management_service_locks_the_key_file(tmp_path: Path, service: Path) -> None:
    with contextlib.closing(open_context(tmp_path / "home", None, None, 30.0)) as context:
        blob = context.sealed("ann").write([b"data"]).id
    found = KeyFile.open(tmp_path / "home" / "kek.key", lock="mykms:main")
    assert (service / "calls").read_text()
    assert json.dumps(found.current) not in (tmp_path / "home" / "kek.key").read_text()
    with contextlib.closing(open_context(tmp_path / "home", None, None, 30.0)) as context:
        assert context.sealed("ann").open(blob).read() == b"data"
    (service / "main.secret").unlink()
    with pytest.raises(FileNotFoundError):
        open_context(tmp_path / "home", None, None, 30.0)
