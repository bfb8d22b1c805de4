"""Checks what is asked before it travels: the words and fields are those of the stage's spec."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from leptonai.core.errors import FieldError, Invalid

S = TypeVar("S", bound=BaseModel)


def check(kind: type[S], document: Mapping[str, Any], what: str) -> S:
    """Return the spec that `document` describes. Raises `Invalid` that names each field; `what` is who asks."""
    try:
        return kind.model_validate(dict(document))
    except ValidationError as error:
        fields = [
            FieldError(".".join(map(str, problem["loc"])) or what, _words(problem["type"], problem["msg"]))
            for problem in error.errors(include_url=False, include_context=False)
        ]
    raise Invalid(f"{what}: {fields[0].field}: {fields[0].message}", errors=fields)


def sent(spec: BaseModel) -> dict[str, Any]:
    """Return what was set in a spec, as JSON data: defaults are the server's to fill in."""
    return spec.model_dump(mode="json", exclude_unset=True)


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such field here"
    if (
        kind == "union_tag_invalid"
    ):  # Input tag 'flop' found using 'op' does not match any of the expected tags: 'flip', …
        tag, _, known = message.removeprefix("Input tag ").partition(" found using ")
        return f"{tag} is not known: use one of {known.partition('expected tags: ')[2]}"
    return "must be given" if kind == "missing" else message.removeprefix("Value error, ")
