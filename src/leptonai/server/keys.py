"""The form of API keys, and the keyring in which the server keeps the data keys of blobs.

Envelope encryption: each blob has a data key of its own (`core/ports.py` DataKey); the catalog keeps it wrapped, that is
encrypted with the key-encryption key of the key file (`keyfile.py`), which never leaves the server.
"""

import base64
import contextlib
import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from leptonai.core.errors import Conflict, Corrupt, Invalid, Stale, Unauthenticated, Unavailable
from leptonai.core.nouns import Blob, utcnow
from leptonai.core.ports import Catalog, DataKey
from leptonai.server import rotation
from leptonai.server.keyfile import KeyFile, checksum

_PAGE = 500  # names asked for at once
_FRESH = timedelta(hours=6)  # a blob that is younger is far from being swept


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
    text += checksum(text)
    if not _TOKEN.fullmatch(text):
        raise Invalid(f"a token cannot be made for {kid!r}: an id has lower-case letters, digits and single '_'")
    return Token(kid, text)


def parse_token(text: str) -> Token:
    """Read a token. Raises `Unauthenticated` on one that cannot be ours, before anything is looked up."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise Unauthenticated("that is not a key of leptonai: one looks like lepton_key_…, see  lepton key create")
    if checksum(text[:-8]) != found[3]:
        raise Unauthenticated("the key is not complete or was mistyped: copy it again, or make a new one")
    return Token(found[1], text)


def check_of(token: str) -> str:
    """Return the SHA-256 of a token, in hex: by it a Site knows a key that it was never told."""
    return hashlib.sha256(token.encode()).hexdigest()


# --------------------------------------------------------------------------------------------------- keyring


class CatalogKeyring:
    """A `Keyring` in the catalog: for each blob one record, with its data key wrapped. `owner` is the run or key that writes."""

    def __init__(self, catalog: Catalog, keyfile: KeyFile, owner: str, scope: str = ""):
        self._scope = scope
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
            scope=self._scope,
        )
        try:
            self._catalog.add(record)
        except Conflict:
            if self.find(blob) != key:
                raise
        if not rotation.follow(self._catalog, self._keyfile) or not self._keyfile.is_current(record.wrapped):
            self._renew(blob, key)

    def _renew(self, blob: str, key: DataKey) -> None:
        """Wrap a key again that was wrapped while the key-encryption key changed. Raises `Unavailable` when that cannot be done.

        Whoever rotates may have looked at all records before this one was there.
        """
        known = rotation.follow(self._catalog, self._keyfile)
        while True:
            record = self._catalog.get(Blob, blob)
            if known and self._keyfile.is_current(record.wrapped):
                return
            with contextlib.suppress(Stale):  # whoever rotates was faster
                if known:
                    self._catalog.change(record.model_copy(update={"wrapped": self._keyfile.wrap(key)}))
                    return
                self._catalog.change(drop=(record,))  # it was not acknowledged, and nobody could open it
                raise Unavailable(rotation.behind(self._keyfile))

    def find(self, blob: str) -> DataKey:
        """Return the key of a blob. Raises `NotFound`, or `Corrupt` when the record was altered."""
        record = self._catalog.get(Blob, blob)
        try:
            return self._keyfile.unwrap(record.uid, record.wrapped)
        except Corrupt:
            if self._keyfile.knows(record.wrapped):
                raise
        if not rotation.follow(self._catalog, self._keyfile):  # it was wrapped by a server that knows a newer key
            raise Unavailable(rotation.behind(self._keyfile))
        record = self._catalog.get(Blob, blob)
        return self._keyfile.unwrap(record.uid, record.wrapped)

    def _renewed(self, record: Blob) -> bool:
        """Have a blob wait for another lease, since somebody is about to name it; whether it is still there."""
        if utcnow() - record.updated < _FRESH:
            return True
        try:
            self._catalog.change(record)
        except Stale:  # it was swept, or somebody else renewed it: sending it again is right in either case
            return False
        return True

    def known(self, plain: Sequence[str]) -> dict[str, str]:
        """Return which of these plaintexts (SHA-256, hex) this owner has stored: digest to blob. So uploads resume."""
        names = {self._name(digest): digest for digest in plain}
        found: dict[str, str] = {}
        wanted = tuple(names)
        for start in range(0, len(wanted), _PAGE):
            part = wanted[start : start + _PAGE]
            after = None
            while page := self._catalog.find(Blob, {"name": part}, limit=_PAGE, after=after):
                found |= {names[record.name]: record.id for record in page if self._renewed(record)}
                after = page[-1].id
        return found
