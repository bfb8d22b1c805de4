"""A new key-encryption key in place of the old one: data keys are wrapped again, data is never written again.

In two phases, each step of which can be the last before a crash:

1. The key file gets a new key, which wraps from now on; the one before only opens. The catalog says the new key's name, and for
   servers that have a copy of the file also the key, wrapped with the one before.
2. Each record that holds something wrapped is written again, only if it is still as it was read. When a look at all of them finds
   nothing left, and some seconds have passed in which servers take the new key, the old one is forgotten.

Whoever writes a record looks afterwards which key is the right one, and wraps again what came too late: so no pause of a process,
however long, leaves something that only the old key opens.
"""

import contextlib
import threading
import time
from typing import NamedTuple

from leptonai.core.errors import Conflict, NotFound, Stale
from leptonai.core.nouns import Audit, Blob, Receipt, Record, utcnow
from leptonai.core.ports import Catalog
from leptonai.server.keyfile import KeyFile

STATE = "kek"  # the id of the record that says which key wraps
GRACE_SECONDS = 5.0  # in which every server takes a new key
_PAGE = 200


class Progress(NamedTuple):
    """How far a rotation is."""

    key: str  # the name of the key that wraps now
    renewed: int  # how many records were wrapped again in this call
    done: bool  # whether the old key is forgotten


def behind(keyfile: KeyFile) -> str:
    """Return what to tell when this server's key file is a copy from before a rotation that is over."""
    return f"the key file of this server has only the key {keyfile.current}, which was rotated: copy the file of the server that did it"


def state(catalog: Catalog) -> Blob | None:
    """Return the record that says which key wraps; None where none was ever rotated."""
    try:
        return catalog.get(Blob, STATE)
    except NotFound:
        return None


def follow(catalog: Catalog, keyfile: KeyFile) -> bool:
    """Take the key that wraps now, should another server have rotated it; whether it is known here."""
    found = state(catalog)
    if found is None or found.uid == keyfile.current:
        return True
    keyfile.look()
    if found.uid == keyfile.current:
        return True
    if (
        found.uid in keyfile.retiring
    ):  # this file is ahead: the rotation that began here was cut before the catalog knew
        return True
    return bool(found.wrapped) and keyfile.take_over(found.uid, found.wrapped)


def begin(catalog: Catalog, keyfile: KeyFile, by: str) -> None:
    """Begin a rotation, or take up one that was cut."""
    follow(catalog, keyfile)
    keyfile.rotate()
    _tell(catalog, keyfile, Audit.new(name="key.rotate", subject=keyfile.current, by=by))


def _tell(catalog: Catalog, keyfile: KeyFile, *audit: Audit) -> None:
    """Have the catalog name the key that wraps."""
    while True:
        found = state(catalog)
        if found is not None and found.uid not in keyfile.retiring:
            if found.uid != keyfile.current:  # another server rotated at the same time: its key is the one
                keyfile.take_over(found.uid, found.wrapped)
            return
        record = Blob(id=STATE, uid=keyfile.current, wrapped=keyfile.handed_over(), size=0, owner=STATE)
        with contextlib.suppress(Conflict):
            if found is None:
                catalog.add(record, *audit)
            else:
                catalog.change(found.model_copy(update={"uid": record.uid, "wrapped": record.wrapped}), add=audit)


class Rotator:
    """Goes through the records, a piece at a time; where it was is kept in memory only. Used by threads."""

    def __init__(self, catalog: Catalog, keyfile: KeyFile):
        self._catalog = catalog
        self._keyfile = keyfile
        self._lock = threading.Lock()
        self._anew()

    def _anew(self) -> None:
        self._left: list[type[Record]] = [Blob, Receipt]
        self._after: str | None = None
        self._found = 0  # in this look at all records

    def go_on(self, seconds: float) -> Progress:
        """Go on with a rotation that was begun, for about so long; nothing is done where none was."""
        with self._lock:
            if not follow(self._catalog, self._keyfile) or not self._keyfile.retiring:
                self._hush()
                return Progress(self._keyfile.current, 0, True)
            _tell(self._catalog, self._keyfile)
            until, renewed = time.monotonic() + seconds, 0
            while self._left and time.monotonic() < until:
                found = self._page()
                renewed, self._found = renewed + found, self._found + found
            if self._left:
                return Progress(self._keyfile.current, renewed, False)
            clean = self._found == 0
            self._anew()
            return Progress(self._keyfile.current, renewed, clean and self._retire())

    def _page(self) -> int:
        """Wrap again what a page of records holds; return how many were not wrapped with the key that wraps now."""
        page = self._catalog.find(self._left[0], limit=_PAGE, after=self._after)
        if not page:
            self._left.pop(0)
            self._after = None
            return 0
        self._after = page[-1].id
        fresh = [again for again in (_again(record, self._keyfile) for record in page) if again is not None]
        try:
            if fresh:
                self._catalog.change(*fresh)
        except Stale:
            for one in fresh:
                with contextlib.suppress(Stale):  # it is gone, or the next look sees it
                    self._catalog.change(one)
        return len(fresh)

    def _retire(self) -> bool:
        told = state(self._catalog)
        if told is None or (utcnow() - told.updated).total_seconds() < GRACE_SECONDS:
            return False
        self._keyfile.retire()
        self._hush()
        return True

    def _hush(self) -> None:
        """Forget the new key as the one before wrapped it: who has stolen that must not find it. A crash may have left it."""
        told = state(self._catalog)
        if told is None or not told.wrapped or told.uid != self._keyfile.current:
            return
        if (utcnow() - told.updated).total_seconds() >= GRACE_SECONDS:
            with contextlib.suppress(Stale):  # somebody else does it
                self._catalog.change(told.model_copy(update={"wrapped": ""}))


def _again(record: Record, keyfile: KeyFile) -> Record | None:
    """Return the record with what it holds wrapped again; None where that is so already, or nothing is wrapped."""
    if isinstance(record, Blob) and record.id != STATE and not keyfile.is_current(record.wrapped):
        return record.model_copy(update={"wrapped": keyfile.wrap(keyfile.unwrap(record.uid, record.wrapped))})
    if isinstance(record, Receipt) and "sealed" in record.answer and not keyfile.is_current(record.answer["sealed"]):
        sealed = keyfile.wrap(keyfile.unwrap(record.id, record.answer["sealed"]))
        return record.model_copy(update={"answer": {**record.answer, "sealed": sealed}})
    return None
