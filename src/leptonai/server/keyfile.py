"""The key file: the key-encryption keys of a server, what is derived for other purposes, and the lock of the file.

One key-encryption key wraps data keys; while it is being rotated the file holds the one before as well (see `rotation.py`).
Keys for other purposes, such as digests of API secrets, are derived by HKDF, one for each purpose, so that none tells anything of
another; they outlive a rotation, for what was made with them cannot be made again.

::

    leptonai-kek-2 <lock> <base64 of JSON> <CRC>     the lock is "-", or what opens the JSON, such as "passphrase"
    leptonai-kek-1 <hex> <CRC>                       one key, as files were before they could be rotated
"""

import base64
import binascii
import contextlib
import errno
import fcntl
import hmac
import json
import os
import re
import secrets
import stat
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leptonai.core import plugins
from leptonai.core.errors import Corrupt, DiskFull, Invalid, NotFound, Unavailable
from leptonai.core.ports import DataKey

_NONCE = 12
_OLD_PURPOSES = (
    "api-key",
    "plain",
    "prediction",
)  # what was derived from the key-encryption key itself, before rotations
_NO_LOCK, _NONE = "-", "none"  # in the file, and in the setting


class _Ring(NamedTuple):
    """What a key file holds."""

    keks: tuple[bytes, ...]  # the first wraps; the others, which are being retired, only open
    seed: bytes  # what keys for other purposes are derived from
    derived: Mapping[str, bytes]  # those of a file that was made before it had a seed


class _Held(NamedTuple):
    """A ring that is ready to be used."""

    ring: _Ring
    names: tuple[str, ...]
    wrapping: Mapping[str, AESGCM]  # by name


class KeyFile:
    """The key-encryption keys. Nothing that was sealed can be read without them: back the file up, apart from the blobs."""

    def __init__(self, secret: bytes, path: Path | None = None, lock: str = ""):
        if len(secret) != 32:
            raise ValueError(f"a key-encryption key has 32 bytes, not {len(secret)}")
        self._path = path
        self._lock = lock
        self._guard = threading.RLock()
        self._held = _opened(_Ring((secret,), secret, {}))

    @classmethod
    def open(cls, path: Path, *, create: bool = True, lock: str = "") -> "KeyFile":
        """Read the key file, or make one where there is none. `lock` is the setting `key_lock`: a file that has another gets it.

        "" leaves the lock as it is, "none" takes it away, "passphrase:FILE" or the name of a plug-in sets it.

        Give `create=False` where sealed blobs exist already: a new key would not open them. Raises `Invalid` when others
        may read the file, `Corrupt` when it is damaged, `NotFound` when it is missing and not to be made, `Denied` when its
        lock does not open.
        """
        if not path.exists():
            if not create:
                raise NotFound(
                    f"the key file {path} is missing, and what is stored cannot be read without it: put it back"
                )
            ring = _Ring((secrets.token_bytes(32),), secrets.token_bytes(32), {})
            _write(path, _text(ring, "" if lock == _NONE else lock), fresh=True)
        ring, locked = _read(path, lock)
        found = cls(ring.keks[0], path, lock if lock.partition(":")[0] == locked else locked)
        found._held = _opened(ring)
        if lock and locked != ("" if lock == _NONE else lock.partition(":")[0]):
            with found._changing():
                found._lock = "" if lock == _NONE else lock
                found._save(found._held.ring)
        return found

    # ------------------------------------------------------------------------------------------ wrapping

    def wrap(self, key: DataKey) -> str:
        """Return the data key encrypted, bound to its identity: ``<name of the key-encryption key>.<base64>``."""
        held, nonce = self._held, secrets.token_bytes(_NONCE)
        data = nonce + held.wrapping[held.names[0]].encrypt(nonce, key.secret, _bound(key.uid))
        return f"{held.names[0]}.{base64.b64encode(data).decode()}"

    def unwrap(self, uid: str, wrapped: str) -> DataKey:
        """Return the data key that `wrap` encrypted. Raises `Corrupt` when it is not that of `uid`, or this is not its key file."""
        name, _, body = wrapped.rpartition(".")
        if name and name not in self._held.wrapping:
            self.look()  # another server of this home folder may have rotated it
        wrapping = self._held.wrapping
        for one in [wrapping[name]] if name in wrapping else [] if name else wrapping.values():
            with contextlib.suppress(InvalidTag, ValueError):
                data = base64.b64decode(body, validate=True)
                return DataKey(uid, one.decrypt(data[:_NONCE], data[_NONCE:], _bound(uid)))
        raise Corrupt(
            f"the data key {uid} cannot be opened: it was altered, or the key file is not the one it was made with"
        )

    def is_current(self, wrapped: str) -> bool:
        """Whether this was wrapped with the key that wraps now."""
        return wrapped.startswith(f"{self.current}.")

    def knows(self, wrapped: str) -> bool:
        """Whether this was wrapped with a key of this file."""
        name, _, _ = wrapped.rpartition(".")
        return not name or name in self._held.wrapping

    @property
    def current(self) -> str:
        """The public name of the key that wraps now."""
        return self._held.names[0]

    @property
    def retiring(self) -> tuple[str, ...]:
        """The names of the keys that only open, and are to go."""
        return self._held.names[1:]

    # ------------------------------------------------------------------------------------------ rotation

    def rotate(self) -> None:
        """Make a new key; the one before only opens from now on. Where a rotation is under way already, nothing is changed."""
        with self._changing():
            if not self.retiring:
                ring = self._held.ring
                self._save(ring._replace(keks=(secrets.token_bytes(32), *ring.keks)))

    def retire(self) -> None:
        """Forget all keys but the one that wraps now: to be called when nothing is wrapped with them any more."""
        with self._changing():
            ring = self._held.ring
            self._save(ring._replace(keks=ring.keks[:1]))

    def handed_over(self) -> str:
        """Return the key that wraps now, wrapped with the one before it: for servers that have a copy of the file before."""
        held, nonce = self._held, secrets.token_bytes(_NONCE)
        name, before = held.names[:2]
        data = nonce + held.wrapping[before].encrypt(nonce, held.ring.keks[0], _bound(f"kek {name}"))
        return base64.b64encode(data).decode()

    def take_over(self, name: str, wrapped: str) -> bool:
        """Take a key that `handed_over` made as the one that wraps; whether it could be opened."""
        data = base64.b64decode(wrapped)
        with self._changing():
            if name in self._held.names:
                return True
            for one in self._held.wrapping.values():
                with contextlib.suppress(InvalidTag):
                    kek = one.decrypt(data[:_NONCE], data[_NONCE:], _bound(f"kek {name}"))
                    ring = self._held.ring
                    self._save(ring._replace(keks=(kek, *ring.keks)))
                    return True
        return False

    def look(self) -> None:
        """Read the file again: another server of this home folder may have changed it."""
        if self._path is not None:
            with self._guard:
                self._held = _opened(_read(self._path, self._lock)[0])

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the file alone, as it is now."""
        if self._path is None:
            yield
            return
        with self._guard, self._path.with_name(f".{self._path.name}.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.look()
            yield

    def _save(self, ring: _Ring) -> None:
        if (
            ring.seed in ring.keks[1:]
        ):  # a file of the first form: what was derived from its one key is kept, and it may go
            derived = {purpose: _derive(ring.seed, purpose) for purpose in _OLD_PURPOSES}
            ring = ring._replace(seed=secrets.token_bytes(32), derived=derived)
        if self._path is not None:
            _write(self._path, _text(ring, self._lock))
        self._held = _opened(ring)

    # ------------------------------------------------------------------------------------ other purposes

    def derive(self, purpose: str) -> bytes:
        """Return the 32 bytes that are the key of a purpose, the same for ever."""
        ring = self._held.ring
        return ring.derived.get(purpose) or _derive(ring.seed, purpose)

    def digest(self, purpose: str, text: str) -> str:
        """Return a keyed digest (HMAC-SHA256, hex) of `text`; who has not the key file can neither make nor guess it."""
        return hmac.digest(self.derive(purpose), text.encode(), "sha256").hex()

    def matches(self, purpose: str, text: str, digest: str) -> bool:
        """Whether `digest` is that of `text`, in a time that tells nothing."""
        return hmac.compare_digest(self.digest(purpose, text), digest)


def _opened(ring: _Ring) -> _Held:
    names = tuple(_name(kek) for kek in ring.keks)
    ciphers = [AESGCM(_derive(kek, "wrap")) for kek in ring.keks]
    return _Held(ring, names, dict(zip(names, ciphers, strict=True)))


def _derive(secret: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"leptonai/{purpose}/1".encode()).derive(secret)


def _name(kek: bytes) -> str:
    """Return what a key is called in the open: it tells nothing of the key."""
    return f"k{_derive(kek, 'name')[:6].hex()}"


def _bound(uid: str) -> bytes:
    return b"leptonai/wrap/1/" + uid.encode()


def checksum(body: str) -> str:
    """Return the CRC by which a slip of the pen is found."""
    return f"{zlib.crc32(body.encode()):08x}"


# ---------------------------------------------------------------------------------------------- on disk


def _text(ring: _Ring, lock: str) -> bytes:
    plain = {
        "keys": [kek.hex() for kek in ring.keks],
        "seed": ring.seed.hex(),
        "derived": {purpose: key.hex() for purpose, key in ring.derived.items()},
    }
    facts: Mapping[str, Any] = plain
    if lock:
        facts = plugins.lock(lock).lock(json.dumps(plain).encode())
    body = base64.b64encode(json.dumps(facts).encode()).decode()
    line = f"leptonai-kek-2 {lock.partition(':')[0] or _NO_LOCK} {body}"
    return f"{line} {checksum(line)}\n".encode()


def _write(path: Path, text: bytes, *, fresh: bool = False) -> None:
    """Write the key file: complete and durable before it has its name; a fresh one never over one that is there."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        if fresh:
            with contextlib.suppress(FileExistsError):  # another process was faster: its key is the one
                os.link(temp, path)
            temp.unlink()
        else:
            temp.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temp.unlink()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the key file {path} cannot be written: the disk is full; make room and try again"
            ) from error
        raise Unavailable(f"the key file {path} cannot be written: {error.strerror}; see to its folder") from error


def _read(path: Path, lock: str) -> tuple[_Ring, str]:
    """Return what the file holds, and the name of its lock."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise Invalid(f"others may read the key file {path} (mode {mode:03o}): run  chmod 600 {path}")
        text = path.read_bytes().decode("ascii", "replace")
    except OSError as error:
        raise Unavailable(
            f"the key file {path} cannot be read: {error.strerror}; give this user the right to"
        ) from error
    if found := re.fullmatch(r"leptonai-kek-1 ([0-9a-f]{64}) ([0-9a-f]{8})\n?", text):
        if checksum(found[1]) != found[2]:
            raise _damaged(path)
        secret = bytes.fromhex(found[1])
        return _Ring((secret,), secret, {}), ""
    found = re.fullmatch(r"(leptonai-kek-2 ([a-z0-9-]+) ([A-Za-z0-9+/=]+)) ([0-9a-f]{8})\n?", text)
    if found is None or checksum(found[1]) != found[4]:
        raise _damaged(path)
    try:
        facts = json.loads(base64.b64decode(found[3], validate=True))
        name = "" if found[2] == _NO_LOCK else found[2]
        if name:
            how = lock if lock.partition(":")[0] == name else name
            facts = json.loads(plugins.lock(how).open(facts))
        keks = tuple(bytes.fromhex(kek) for kek in facts["keys"])
        derived = {purpose: bytes.fromhex(key) for purpose, key in facts["derived"].items()}
        return _Ring(keks, bytes.fromhex(facts["seed"]), derived), name
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> Corrupt:
    return Corrupt(
        f"the key file {path} is damaged: restore it from a backup, for nothing stored can be read without it"
    )
