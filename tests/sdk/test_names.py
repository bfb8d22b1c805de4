"""The public names: each resolves, each says why it exists, and asking for them loads nothing heavy."""

import ast
import inspect
from pathlib import Path

import pytest

import leptonai


@pytest.mark.parametrize("name", leptonai.__all__)
def test_each_public_name_resolves_and_explains_itself(name: str) -> None:
    found = getattr(leptonai, name)
    if inspect.isclass(found) or inspect.isroutine(found) or inspect.ismodule(found):
        assert found.__doc__, f"{name} has no docstring"
    else:  # a setting or the version: its docstring is the string below it
        assert found is None or isinstance(found, str)


def test_the_list_is_complete() -> None:
    tree = ast.parse(Path(leptonai.__file__).read_text("utf-8"))
    imported = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert imported | {"__version__", "api_key", "host"} == set(leptonai.__all__)
    assert dir(leptonai) == sorted(leptonai.__all__)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Modell'"):
        _ = leptonai.Modell


PUBLIC = [getattr(leptonai, name) for name in leptonai.__all__ if inspect.isclass(getattr(leptonai, name))]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_public_method_explains_itself(kind: type) -> None:
    silent = [
        name
        for name, member in vars(kind).items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (property, classmethod)))
        and not inspect.getdoc(member)
    ]
    assert not silent
