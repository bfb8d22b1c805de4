"""Idempotency-Key: a POST that is repeated has one effect, and the same answer."""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from leptonai.core.errors import Conflict, FieldError, Invalid, NotFound
from leptonai.core.nouns import Receipt
from leptonai.core.ports import Catalog

T = TypeVar("T")
Make = Callable[[dict[str, Any]], Receipt]


class Receipts:
    """The receipt of one request: looked up before it is served, added in the transaction of its effect."""

    def __init__(self, catalog: Catalog, owner: str, action: str, key: str | None, body: BaseModel):
        if key is not None and not 1 <= len(key) <= 200:
            raise Invalid(
                "an Idempotency-Key has 1 to 200 characters", errors=[FieldError("Idempotency-Key", "too long")]
            )
        self._catalog = catalog
        self._id = None if key is None else f"receipt_{_digest(f'{owner}|{action}|{key}')}"
        self._request = _digest(body.model_dump_json())

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
