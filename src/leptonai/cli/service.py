"""``lepton service``: names under which models answer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, GetOutput, Limit, Output, SpecFile, Wait, merge, need
from leptonai.core.errors import FieldError, Invalid

app = typer.Typer(name="service", help="Make models answer over HTTP.", no_args_is_help=True)

ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
Public = Annotated[
    bool | None,
    typer.Option("--public/--no-public", help="Whether anybody may call it without a key; default: as it is, else no."),
]
Pin = Annotated[
    bool | None,
    typer.Option(
        "--pin/--no-pin", help="Whether its model stays in memory whatever is called; default: as it is, else no."
    ),
]
Replicas = Annotated[
    str | None,
    typer.Option("--replicas", metavar="MIN..MAX", help="Worker processes, such as 1..4; '': as its version says."),
]
ModelRef = Annotated[str | None, typer.Option(metavar="MODEL", help="models:/name@alias, models:/name/3, or name.")]

COLUMNS: output.Columns = {
    "name": lambda s: s["name"],
    "state": lambda s: s["status"]["state"],
    "url": lambda s: s["status"]["url"],
    "model": lambda s: s["variants"][0]["model"],
    "site": lambda s: s["site"],
    "public": lambda s: "yes" if s.get("public") else "",
    "replicas": lambda s: _counted(s),
    "memory": lambda s: " ".join(filter(None, (s["status"].get("memory"), "pinned" if s["memory"]["pin"] else ""))),
    "message": lambda s: s["status"]["message"],
}


def _counted(record: Mapping[str, Any]) -> str:
    from leptonai.core.nouns import Service
    from leptonai.sdk.replicas import counted

    return counted(Service.model_validate(record))


def spec_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what deploys this service again."""
    found = {"name": record["name"], "model": record["variants"][0]["model"], "site": record["site"]}
    if record.get("replicas"):
        found["replicas"] = record["replicas"]
    return {**found, "public": record.get("public", False), "pin": record.get("memory", {}).get("pin", False)}


@app.command("create")
def create(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Where it answers: /services/NAME/predict.")
    ] = None,
    model: ModelRef = None,
    site: Annotated[str | None, typer.Option(help="Where it runs; default: home.")] = None,
    public: Public = None,
    pin: Pin = None,
    replicas: Replicas = None,
    wait: Wait = True,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Make a model answer under a name; returns when it is loaded, warmed and answers.

    Callers need a key with the scope service:predict, or service:predict:NAME for this one only (see lepton key create).

    Example: lepton service create churn --model models:/churn@champion
    """
    given = {"name": name, "model": model, "site": site, "public": public, "pin": pin, "replicas": _range(replicas)}
    document = merge(file, given, spec_of)
    need(document, "name", "model")
    begin(document, wait=wait, dry_run=dry_run, as_=as_)


@app.command("update")
def update(
    name: ServiceName,
    model: ModelRef = None,
    public: Public = None,
    pin: Pin = None,
    replicas: Replicas = None,
    wait: Wait = True,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Move a service to another model version, or change who may call it, without a failed request.

    Example: lepton service update churn --model models:/churn/4

    Example: lepton service update churn --public
    """
    from leptonai.sdk.services import get_service

    found = get_service(name)
    same = public is None and pin is None and replicas is None
    now = {"site": found.record.site} if same else spec_of(found.record.model_dump(mode="json"))
    given = {"model": model, "public": public, "pin": pin, "replicas": _range(replicas)}
    document = {**now, **merge(file, given, spec_of), "name": name}
    need(document, "model")
    begin(document, wait=wait, dry_run=dry_run, as_=as_)


def _range(text: str | None) -> dict[str, Any] | None:
    from leptonai.sdk.replicas import document

    return document(text) if text else None


def begin(document: dict[str, Any], *, wait: bool, dry_run: bool, as_: str) -> None:
    """Deploy what a document says, and show the service."""
    from leptonai.sdk import client, services, show
    from leptonai.sdk.registry import get_model
    from leptonai.sdk.specs import check
    from leptonai.serving.spec import Deploy

    asked = check(Deploy, document, "service")
    if dry_run:
        if not asked.model.startswith("model_"):
            get_model(asked.model)
        output.would(as_, f"deploy {asked.model} as service {asked.name}", asked.model_dump())
        return
    via = client.current()
    more = asked.model_dump(mode="json", exclude_defaults=True, exclude={"name", "model", "site", "public"})
    made = services.deploy(via, asked.name, asked.model, asked.site, asked.public, **more)
    if wait:
        made.wait_ready()
    if via.private:
        show.note("it stops with this command, which started the server; `lepton up` keeps one")
    answer(made, as_)


def answer(service: Any, as_: str) -> None:
    """Show a service."""
    from leptonai.sdk import show

    record = service.record.model_dump(mode="json")
    if as_ == "toml":
        record = spec_of(record)
    output.emit(as_, record, lambda: show.facts_table(service.summary(), title=f"Service {service.name}"))


@app.command("list")
def list_(limit: Limit = 50, as_: Output = "table") -> None:
    """List services: state, address, model."""
    from leptonai.sdk import client

    found = list(client.current().http.pages("/services", limit=limit))
    output.emit_list(as_, found, COLUMNS, "service")


@app.command("get")
def get(name: ServiceName, as_: GetOutput = "table") -> None:
    """Show a service."""
    from leptonai.sdk.services import get_service

    answer(get_service(name), as_)


@app.command("predict")
def predict(
    name: ServiceName,
    rows: Annotated[
        str,
        typer.Option("--rows", "-r", metavar="ROWS", help="JSON, @file.json, @- for stdin, or an image or sound file."),
    ],
    as_: Output = "table",
) -> None:
    """Ask a service for predictions.

    Example: lepton service predict churn --rows '{"age": 41, "plan": "basic"}'

    Example: lepton service predict digits --rows seven.png
    """
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    data = _rows(rows)
    answers = get_service(name).predict(data)
    lines = answers if isinstance(answers, list) else [answers]
    output.emit(
        as_, answers, lambda: show.table(["row", "prediction"], ([i, output.flat(a)] for i, a in enumerate(lines, 1)))
    )


def _rows(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        source = "--rows"
    elif text.startswith("@"):
        source = text[1:]
        text = _read(source)
    else:
        return text  # an image file, or a mistake that the SDK names
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Invalid(f"{source} is not JSON: {error}", errors=[FieldError(source, str(error))]) from error
    return data["rows"] if isinstance(data, dict) and set(data) == {"rows"} else data


def _read(name: str) -> str:
    import sys

    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Invalid(f"{name} cannot be read: {why}", errors=[FieldError(name, str(why))]) from error


@app.command("delete")
def delete(name: ServiceName, dry_run: DryRun = False, as_: Output = "table") -> None:
    """Take a service away."""
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    found = get_service(name)
    if dry_run:
        output.would(as_, f"delete service {name}")
        return
    found.delete()
    show.note(f"service {name} is deleted")
