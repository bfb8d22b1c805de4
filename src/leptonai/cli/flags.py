"""The flags that commands share, and how they meet a spec file: a flag comes before what the file says."""

import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from leptonai.core.errors import FieldError, Invalid

Output = Annotated[Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="How to print the answer.")]
GetOutput = Annotated[
    Literal["table", "json", "yaml", "toml"],
    typer.Option("--output", "-o", help="How to print the answer; toml is what `create -f` takes."),
]
SpecFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="SPEC", help="TOML or JSON file with any of these flags; '-' reads stdin."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and show what would be done; change nothing.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the Run until it ends, or return at once.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many, newest first.")]


def read_spec(path: Path) -> dict[str, Any]:
    """Read a spec file. Raises `Invalid` that says what is wrong with it."""
    name = "stdin" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if name == "stdin" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Invalid(f"the spec file {name} cannot be read: {why}", errors=[FieldError(name, str(why))]) from error
    if path.suffix in (".yaml", ".yml"):
        raise Invalid(f"the spec file {name} is YAML; write it as TOML or JSON")
    try:
        data = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:
        raise Invalid(
            f"the spec file {name} is neither TOML nor JSON: {error}", errors=[FieldError(name, str(error))]
        ) from error
    if not isinstance(data, dict):
        raise Invalid(f"the spec file {name} must hold a table of names and values")
    return data


def merge(
    file: Path | None, given: Mapping[str, Any], spec: Callable[[Any], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return what the file says with the flags that were given on top.

    A file that holds a whole record (what ``get -o json`` printed) is brought to its spec first, by `spec`.
    """
    document = read_spec(file) if file is not None else {}
    if spec is not None and {"id", "rev", "created"} <= set(document):
        document = spec(document)
    return document | {name: value for name, value in given.items() if value is not None}


def step(text: str) -> dict[str, Any]:
    """Read ``rotate:degrees=10,fill=zero``, or a JSON object, as an object with an `op`. Values are JSON, else text."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text[:80]!r} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise typer.BadParameter(f"{text[:80]!r} is no JSON object")
        return found
    op, _, options = text.partition(":")
    found = {"op": op}
    for option in filter(None, options.split(",")):
        name, equals, value = option.partition("=")
        if not equals:
            raise typer.BadParameter(f"--augment takes STEP:NAME=VALUE,…, such as rotate:degrees=10, not {text!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def rules(words: list[str] | None) -> list[dict[str, Any]] | None:
    """Read ``range:age=0..120`` and its like as rules; None where there are none."""
    from leptonai.sdk.checks import rules_of

    return rules_of(words) if words else None


def numbers(flag: str, words: list[str] | None) -> dict[str, float] | None:
    """Read ``fp=1`` and its like as numbers by name; None where there are none."""
    found = {}
    for word in words or ():
        name, _, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{flag} takes NAME=NUMBER, not {word!r}") from None
    return found or None


def columns(flag: str, words: list[str] | None) -> dict[str, list[str]] | None:
    """Read ``table=price,area`` and its like as names of columns by name; None where there are none."""
    found = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise typer.BadParameter(f"{flag} takes INPUT=COLUMN,…, not {word!r}")
        found[name] = value.split(",")
    return found or None


def settings(flag: str, words: list[str] | None) -> dict[str, Any] | None:
    """Read ``ema=0.999`` and its like; values are JSON, else text. None where there are none."""
    found: dict[str, Any] = {}
    for text in words or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{flag} takes NAME=VALUE, such as schedule=cosine, not {text!r}")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found or None


def need(document: Mapping[str, Any], *names: str) -> None:
    """Refuse, as a mistake of usage, a document that lacks one of these."""
    for name in names:
        if document.get(name) in (None, "", [], ()):
            raise typer.BadParameter(
                f"say {name}: as an argument or flag, or as `{name} = …` in the file given with -f"
            )
