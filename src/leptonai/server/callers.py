"""Who may call Services: what a Site is told of keys, so that its plane decides without asking the server.

A Site gets the SHA-256 of a key, the key's name, and which Services it may call; nothing by which it could call anybody itself.
"""

import hashlib
import json
import threading
import time
from typing import Any, TypedDict

from leptonai.core.nouns import Audit, Key, utcnow
from leptonai.core.ports import Catalog
from leptonai.server.keys import check_of
from leptonai.server.scopes import services
from leptonai.server.stream import Wakes

TOPIC = "keys"
LOOK_SECONDS = 0.4  # how soon a key that another server revoked is seen; a revoked key is to fail within a second
_READ_SECONDS = 5.0  # all keys are read so often also where the audit names no change of them
_ROWS = 8  # of the audit that are compared: by another server's clock the newest need not be what was written last
_PAGE = 500
_NEVER = float("-inf")


class CallerTable(TypedDict):
    """What a Site is told. Each key: ``{"name", "check", "services": ["*"] or names, "expires", "metrics"}``."""

    fingerprint: str
    keys: list[dict[str, Any]]


class Callers:
    """The keys that may call Services. All agents share one look into the catalog. Used by threads.

    A look is at the last rows of the audit, one of which is written with each change of a key: many keys cost no more than few.
    """

    def __init__(self, catalog: Catalog, wakes: Wakes, local_token: str):
        self._catalog = catalog
        self._wakes = wakes
        # Of the programs of this machine's user; no other machine has to do with it.
        self._local = {
            "name": "local",
            "check": check_of(local_token),
            "services": ["*"],
            "manages": True,
            "expires": None,
            "metrics": True,
        }
        self._lock = threading.Lock()
        self._looked = self._read = _NEVER  # when, by the monotonic clock
        self._rows: list[str] = []
        self._found: list[dict[str, Any]] = []

    def of(self, site: str) -> CallerTable:
        """Return the table of a Site."""
        keys = ([self._local] if site == "home" else []) + self._keys()
        text = json.dumps(keys, sort_keys=True).encode()
        return {"fingerprint": hashlib.sha256(text).hexdigest()[:32], "keys": keys}

    def changed(self) -> None:
        """Say that a key was made or revoked: whoever waits for the table hears of it now."""
        with self._lock:
            self._looked = self._read = _NEVER
        self._wakes.notify(TOPIC)

    def _keys(self) -> list[dict[str, Any]]:
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= LOOK_SECONDS / 2:
                where = {"name": ("key.create", "key.revoke")}
                rows = [row.id for row in self._catalog.find(Audit, where, limit=_ROWS)]  # before the keys themselves
                if rows != self._rows or now - self._read >= _READ_SECONDS:
                    self._found, self._rows, self._read = self._all(), rows, now
                self._looked = now
            return self._found

    def _all(self) -> list[dict[str, Any]]:
        found, after, now = [], None, utcnow()
        while after != "":
            page = self._catalog.find(Key, limit=_PAGE, after=after)
            for key in page:
                may = sorted(services(key.scopes))
                metrics = bool({"metrics:read", "*"} & set(key.scopes))
                if (
                    (may or metrics)
                    and key.check
                    and key.revoked is None
                    and (key.expires is None or key.expires > now)
                ):
                    expires = None if key.expires is None else key.expires.isoformat()
                    line = {"name": key.name, "check": key.check, "services": may, "expires": expires}
                    manages = bool({"service:write", "*"} & set(key.scopes))
                    found.append({**line, "metrics": metrics, "manages": manages})
            after = page[-1].id if len(page) == _PAGE else ""
        return found
