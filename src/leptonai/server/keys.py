"""The server's secrets: the key-encryption key of this home folder, what is derived from it, and the form of API keys.

Envelope encryption: each blob has a data key of its own (`core/ports.py` DataKey); the catalog keeps it wrapped, that is
encrypted with the key-encryption key, which lies in one file and never leaves the server. Keys for other purposes, such as
digests of API secrets, are derived from it by HKDF, one for each purpose, so that none tells anything of another.
"""

import base64
import contextlib
import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leptonai.core.errors import Conflict, Corrupt, DiskFull, Invalid, NotFound, Unauthenticated, Unavailable
from leptonai.core.nouns import Blob
from leptonai.core.ports import Catalog, DataKey

_FORMAT = "leptonai-kek-1"
_NONCE = 12
_PAGE = 500  # names asked for at once


# -------------------------------------------------------------------------------------------------- key file


class KeyFile:
    """The key-encryption key. Nothing that was sealed can be read without it: back it up, apart from the blobs."""

    def __init__(self, secret: bytes):
        if len(secret) != 32:
            raise ValueError(f"a key-encryption key has 32 bytes, not {len(secret)}")
        self._secret = secret
        self._wrapping = AESGCM(self._derive("wrap"))

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> "KeyFile":
        """Read the key file, or make one where there is none.

        Give `create=False` where sealed blobs exist already: a new key would not open them. Raises `Invalid` when others
        may read the file, `Corrupt` when it is damaged, `NotFound` when it is missing and not to be made.
        """
        if not path.exists():
            if not create:
                raise NotFound(
                    f"the key file {path} is missing, and what is stored cannot be read without it: put it back"
                )
            _make(path)
        return cls(_read(path))

    def _derive(self, purpose: str) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"leptonai/{purpose}/1".encode()).derive(
            self._secret
        )

    def wrap(self, key: DataKey) -> str:
        """Return the data key encrypted, bound to its identity, as base64."""
        nonce = secrets.token_bytes(_NONCE)
        return base64.b64encode(nonce + self._wrapping.encrypt(nonce, key.secret, _bound(key.uid))).decode()

    def unwrap(self, uid: str, wrapped: str) -> DataKey:
        """Return the data key that `wrap` encrypted. Raises `Corrupt` when it is not that of `uid`, or this is not its key file."""
        try:
            data = base64.b64decode(wrapped, validate=True)
            return DataKey(uid, self._wrapping.decrypt(data[:_NONCE], data[_NONCE:], _bound(uid)))
        except (InvalidTag, ValueError):
            raise Corrupt(
                f"the data key {uid} cannot be opened: it was altered, or the key file is not the one it was made with"
            ) from None

    def digest(self, purpose: str, text: str) -> str:
        """Return a keyed digest (HMAC-SHA256, hex) of `text`; who has not the key file can neither make nor guess it."""
        return hmac.digest(self._derive(purpose), text.encode(), "sha256").hex()

    def matches(self, purpose: str, text: str, digest: str) -> bool:
        """Whether `digest` is that of `text`, in a time that tells nothing."""
        return hmac.compare_digest(self.digest(purpose, text), digest)


def _bound(uid: str) -> bytes:
    return b"leptonai/wrap/1/" + uid.encode()


def _make(path: Path) -> None:
    """Write a new key file: complete and durable before it has its name, and never over one that is there."""
    body = secrets.token_hex(32)
    line = f"{_FORMAT} {body} {_checksum(body)}\n".encode()
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(line)
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):  # another process was faster: its key is the one
            os.link(temp, path)
        temp.unlink()
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


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _read(path: Path) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise Invalid(f"others may read the key file {path} (mode {mode:03o}): run  chmod 600 {path}")
        text = path.read_bytes().decode("ascii", "replace")
    except OSError as error:
        raise Unavailable(
            f"the key file {path} cannot be read: {error.strerror}; give this user the right to"
        ) from error
    found = re.fullmatch(rf"{_FORMAT} ([0-9a-f]{{64}}) ([0-9a-f]{{8}})\n?", text)
    if found is None or _checksum(found[1]) != found[2]:
        raise Corrupt(
            f"the key file {path} is damaged: restore it from a backup, for nothing stored can be read without it"
        )
    return bytes.fromhex(found[1])


# -------------------------------------------------------------------------------------------------- API keys


class Token(NamedTuple):
    """What a bearer holds: `kid` names its record, `text` is the whole of it. The server keeps only a keyed digest of `text`."""

    kid: str
    text: str


_TOKEN = re.compile(r"lepton_([a-z0-9]+(?:_[a-z0-9]+)*)_([a-z2-7]{52})([0-9a-f]{8})")


def new_token(kid: str) -> Token:
    """Make ``lepton_<kid>_<secret><crc>``: 32 random bytes, and a checksum by which a mistyped or cut one is refused early.

    `kid` is the id of a record, such as ``key_01j…``: lower-case letters, digits, single ``_``. Raises `Invalid`.
    """
    secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    text = f"lepton_{kid}_{secret}"
    text += _checksum(text)
    if not _TOKEN.fullmatch(text):
        raise Invalid(f"a token cannot be made for {kid!r}: an id has lower-case letters, digits and single '_'")
    return Token(kid, text)


def parse_token(text: str) -> Token:
    """Read a token. Raises `Unauthenticated` on one that cannot be ours, before anything is looked up."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise Unauthenticated("that is not a key of leptonai: one looks like lepton_key_…, see  lepton key create")
    if _checksum(text[:-8]) != found[3]:
        raise Unauthenticated("the key is not complete or was mistyped: copy it again, or make a new one")
    return Token(found[1], text)


def check_of(token: str) -> str:
    """Return the SHA-256 of a token, in hex: by it a Site knows a key that it was never told."""
    return hashlib.sha256(token.encode()).hexdigest()


# --------------------------------------------------------------------------------------------------- keyring


class CatalogKeyring:
    """A `Keyring` in the catalog: for each blob one record, with its data key wrapped. `owner` is the run or key that writes."""

    def __init__(self, catalog: Catalog, keyfile: KeyFile, owner: str):
        self._catalog = catalog
        self._keyfile = keyfile
        self._owner = owner

    def _name(self, plain: str) -> str:
        """Return the keyed digest under which an owner finds again what he uploaded, and nobody else can ask for it."""
        return self._keyfile.digest("plain", f"{self._owner}\0{plain}")

    def bind(self, blob: str, key: DataKey, size: int, plain: str) -> None:
        """Remember the key of a blob; the same again is no error. Raises `Conflict` when it has another key."""
        record = Blob(
            id=blob,
            name=self._name(plain),
            by=self._owner,
            uid=key.uid,
            wrapped=self._keyfile.wrap(key),
            size=size,
            owner=self._owner,
        )
        try:
            self._catalog.add(record)
        except Conflict:
            if self.find(blob) != key:
                raise

    def find(self, blob: str) -> DataKey:
        """Return the key of a blob. Raises `NotFound`, or `Corrupt` when the record was altered."""
        record = self._catalog.get(Blob, blob)
        return self._keyfile.unwrap(record.uid, record.wrapped)

    def known(self, plain: Sequence[str]) -> dict[str, str]:
        """Return which of these plaintexts (SHA-256, hex) this owner has stored: digest to blob. So uploads resume."""
        names = {self._name(digest): digest for digest in plain}
        found: dict[str, str] = {}
        wanted = tuple(names)
        for start in range(0, len(wanted), _PAGE):
            part = wanted[start : start + _PAGE]
            after = None
            while page := self._catalog.find(Blob, {"name": part}, limit=_PAGE, after=after):
                found |= {names[record.name]: record.id for record in page}
                after = page[-1].id
        return found
