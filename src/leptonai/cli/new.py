"""``lepton new``: a small project that runs as it is written: data, training, tests, a service, a README."""

import csv
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Literal, NamedTuple

import typer

from leptonai.core.errors import Conflict, FieldError, Invalid
from leptonai.core.refs import check_name

_HERE = files("leptonai.cli") / "projects"
_ENDING = ".txt"  # of every template, so that no tool takes them for code of ours


class Kind(NamedTuple):
    """A kind of problem: what its project installs, how its service is called, and what writes its data into a folder."""

    extras: str
    call: str
    data: Callable[[Path], object]
    common: tuple[str, ...]


def _patients(folder: Path) -> None:
    from leptonai.cli.demo import write_table

    path = folder / "data" / "patients.csv"
    write_table(path)
    with path.open(newline="") as file:
        row = next(csv.DictReader(file))
    asked = {name: float(value) for name, value in row.items() if name != "diagnosis"}
    (folder / "data" / "row.json").write_text(json.dumps({"rows": [asked]}))


def _digits(folder: Path) -> None:
    from leptonai.cli.demo import write_images

    write_images(folder / "data")


def _words(folder: Path) -> None:
    (folder / "words").mkdir()
    (folder / "words" / "watched.txt").write_text((_HERE / "service" / "watched.txt").read_text("utf-8"))


_JSON = "-H 'Content-Type: application/json' -d"
_PICTURE = "-H 'Content-Type: image/png' --data-binary @data/7/0007.png"
_ALL = ("gitignore", "requirements.txt")
KINDS = {
    "table": Kind("platform", f"{_JSON} @data/row.json", _patients, (*_ALL, "serve.py")),
    "image": Kind("platform,torch", _PICTURE, _digits, (*_ALL, "serve.py")),
    "service": Kind("platform", f'{_JSON} \'{{"rows": [{{"text": "an urgent word"}}]}}\'', _words, _ALL),
}


def new(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where it is written; its name is the project's.")],
    kind: Annotated[
        Literal["table", "image", "service"],
        typer.Option(help="What it is about: rows, pictures, or a class of yours."),
    ] = "table",
) -> None:
    """Write a small project that runs: data, training, tests, a service, a README.

    Example: lepton new churn --kind table
    """
    write(folder, kind)
    typer.echo(f"{folder} is a small project ({kind}): begin with  cd {folder} && python -m pytest", err=True)
    for path in sorted(path for path in folder.iterdir()):
        typer.echo(path)


def write(folder: Path, kind: str) -> None:
    """Write a project. Raises `Conflict` where the folder has something in it, `Invalid` for a name that no model may have."""
    name = folder.resolve().name
    try:
        check_name(name)
    except Invalid as error:
        raise Invalid(
            f"the folder's name is that of the project's model, and {name!r} cannot be one: {error.message}",
            errors=[FieldError("folder", "lower-case letters, digits, '-', '_' and '.'")],
        ) from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already and has something in it: choose another name")
    chosen = KINDS[kind]
    words = {"name": name, "extras": chosen.extras, "call": chosen.call}
    folder.mkdir(parents=True, exist_ok=True)
    chosen.data(folder)
    templates = [(_HERE / "common" / f"{item}{_ENDING}") for item in chosen.common]
    templates += [item for item in (_HERE / kind).iterdir() if item.name.count(".") > 1]
    for template in templates:
        written = template.name.removesuffix(_ENDING)
        path = folder / (".gitignore" if written == "gitignore" else written)
        path.write_text(Template(template.read_text("utf-8")).safe_substitute(words), "utf-8")
