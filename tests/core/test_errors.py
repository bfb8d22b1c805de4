import ast
from pathlib import Path

import pytest

from leptonai.core import errors
from leptonai.core.errors import FieldError, Invalid, LeptonError, from_dict


def tree(kind: type[LeptonError]) -> list[type[LeptonError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in tree(child))]


@pytest.mark.parametrize("kind", [k for k in tree(LeptonError) if k.__module__ == errors.__name__])
def test_an_error_is_the_same_at_the_other_end_of_a_wire(kind: type[LeptonError]) -> None:
    sent = kind("what", errors=[FieldError("a.b", "c")], retry_after=2.0, run="r")
    got = from_dict(sent.to_dict())
    assert (type(got), got.message, got.errors, got.retry_after, got.about) == (
        kind, "what", (FieldError("a.b", "c"),), 2.0, {"run": "r"},
    )  # fmt: skip


def test_an_unknown_code_is_still_an_error() -> None:
    assert type(from_dict({"code": "from the future", "message": "m"})) is LeptonError
    assert "no reason" in str(from_dict({}))


def test_codes_are_unique_and_the_drawing_shows_each_class() -> None:
    kinds = [k for k in tree(LeptonError) if k.__module__ == errors.__name__]
    assert len({kind.code for kind in kinds}) == len(kinds)
    drawing = ast.get_docstring(ast.parse(Path(errors.__file__).read_text())) or ""
    assert [kind.__name__ for kind in kinds if kind.__name__ not in drawing] == []
    assert issubclass(errors.TooLarge, Invalid)
