"""Idempotency-Key: a POST that is repeated has one effect, and the same answer."""

import contextlib
import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel

from leptonai.core.errors import Conflict, FieldError, Invalid, NotFound, Stale
from leptonai.core.nouns import Receipt, utcnow
from leptonai.core.ports import Catalog

T = TypeVar("T")
Make = Callable[[dict[str, Any]], Receipt]


class Receipts:
    """The receipt of one request: looked up before it is served, added in the transaction of its effect."""

    def __init__(self, catalog: Catalog, owner: str, action: str, key: str | None, body: BaseModel | str):
        if key is not None and not re.fullmatch(r"[!-~]{1,200}", key):
            right = "1 to 200 visible ASCII characters"
            raise Invalid(f"an Idempotency-Key has {right}", errors=[FieldError("Idempotency-Key", right)])
        self._catalog = catalog
        self._id = None if key is None else f"receipt_{_digest(f'{owner}|{action}|{key}')}"
        self._request = _digest(body if isinstance(body, str) else body.model_dump_json())

    @property
    def id(self) -> str | None:
        """The id of the receipt; None where the caller sent no key."""
        return self._id

    def known(self) -> dict[str, Any] | None:
        """Return what the same request was answered with before. Raises `Conflict` when the key came with another one."""
        if self._id is None:
            return None
        try:
            found = self._catalog.get(Receipt, self._id)
        except NotFound:
            return None
        if found.request != self._request:
            raise Conflict("this Idempotency-Key was used for another request: send a new one")
        return found.answer

    def once(self, effect: Callable[[Make | None], T], again: Callable[[dict[str, Any]], T]) -> T:
        """Have the effect, with a receipt to add in its transaction; when a twin was faster, return what that one made."""
        if self._id is None:
            return effect(None)
        try:
            return effect(self._make)
        except Conflict:
            answer = self.known()
            if answer is None:
                raise
            return again(answer)

    def _make(self, answer: dict[str, Any]) -> Receipt:
        return Receipt(id=self._id or "", request=self._request, answer=answer)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def forget_old(catalog: Catalog, older_than: timedelta = timedelta(hours=24)) -> int:
    """Drop receipts that nobody will ask for again; return how many."""
    limit, count, after = utcnow() - older_than, 0, None
    while page := catalog.find(Receipt, limit=500, after=after):
        for receipt in page:
            if receipt.created < limit:
                with contextlib.suppress(Stale):  # another server was faster
                    catalog.change(drop=(receipt,))
                    count += 1
        after = page[-1].id
    return count
