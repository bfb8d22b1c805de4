"""Locks the key file with a passphrase: without it, a copied home folder opens nothing."""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from leptonai.core import settings
from leptonai.core.errors import Denied, Invalid

# RFC 7914; the cost that OWASP's password storage guide asks for: 128 MiB and some tenths of a second for each guess.
_COST, _BLOCK, _PARALLEL = 2**17, 8, 1
_MOST = 2**20  # of the cost in a file, which is read before anything proves that it is ours
_NONCE = 12
_LEAST = 8  # characters
_BOUND = b"leptonai/lock/passphrase/1"


class PassphraseLock:
    """A `KeyLock` by a passphrase, which lies in a file, or else in the setting `passphrase`."""

    def __init__(self, file: str = ""):
        self._file = file

    def lock(self, secret: bytes) -> dict[str, Any]:
        """Return the secret, encrypted. Raises `Invalid` where there is no passphrase, or one that is too short."""
        phrase = self._phrase()
        if len(phrase) < _LEAST:
            raise Invalid(f"the passphrase of the key file has {len(phrase)} characters: it needs {_LEAST} at least")
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(_NONCE)
        key = Scrypt(salt=salt, length=32, n=_COST, r=_BLOCK, p=_PARALLEL).derive(phrase)
        body = AESGCM(key).encrypt(nonce, secret, _BOUND)
        return {"salt": salt.hex(), "n": _COST, "body": base64.b64encode(nonce + body).decode()}

    def open(self, locked: Mapping[str, Any]) -> bytes:
        """Return the secret. Raises `Denied` for a wrong passphrase, `Invalid` where there is none."""
        cost = int(locked["n"])
        if not 2 <= cost <= _MOST or cost & (cost - 1):
            raise ValueError(f"a cost of {cost}")
        key = Scrypt(salt=bytes.fromhex(locked["salt"]), length=32, n=cost, r=_BLOCK, p=_PARALLEL)
        data = base64.b64decode(locked["body"], validate=True)
        try:
            return AESGCM(key.derive(self._phrase())).decrypt(data[:_NONCE], data[_NONCE:], _BOUND)
        except InvalidTag:
            raise Denied("the passphrase does not open the key file: give the one that it was locked with") from None

    def _phrase(self) -> bytes:
        if not self._file:
            found = settings.get("passphrase")
            if not found:
                raise Invalid(
                    "the key file is locked with a passphrase: set LEPTONAI_KEY_LOCK to passphrase:FILE, or "
                    "LEPTONAI_PASSPHRASE"
                )
            return found.encode()
        try:
            return Path(self._file).expanduser().read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise Invalid(f"the file {self._file} with the passphrase cannot be read: {error.strerror}") from error
