"""``lepton model``: immutable model versions and the aliases that point at them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, GetOutput, Limit, Output, SpecFile, merge, need
from leptonai.core.errors import Invalid

app = typer.Typer(name="model", help="Publish versions, point aliases at them.", no_args_is_help=True)

Ref = Annotated[str, typer.Argument(metavar="MODEL", help="models:/name/3, models:/name@alias, or name (the newest).")]

COLUMNS: output.Columns = {
    "name": lambda m: m["name"],
    "version": lambda m: m["version"],
    "aliases": lambda m: ", ".join(m.get("aliases", ())),
    "framework": lambda m: m["framework"],
    "task": lambda m: m["signature"]["task"],
    "metrics": lambda m: ", ".join(f"{k} {output.flat(v)}" for k, v in list(m["metrics"].items())[:3]),
    "size": lambda m: output.size(m["bytes"]),
    "made": lambda m: output.ago(m["created"]),
}


def spec_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what publishes this version again."""
    return {
        "name": record["name"],
        "run": record.get("lineage", {}).get("run") or record["run"],
        "aliases": list(record.get("aliases", ())),
        "metrics": record.get("metrics", {}),
    }


@app.command("create")
def create(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A known name gets its next version.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="The training Run whose model is published.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Point this alias at it; repeatable.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="RUN", help="An evaluate Run whose metrics are kept.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WHAT", help="FILE.py:CLASS, a service in Python; or, with --task, a model's folder."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --from: chat (a GGUF file) or embedding (a folder).")] = None,
    files: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="With --from: a file or folder that it loads; repeatable.")
    ] = None,
    requires: Annotated[
        list[str] | None, typer.Option(metavar="LIBRARY", help="With --from: such as 'transformers>=4.40'; repeatable.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="With --from: processes that compute it.")] = None,
    memory_mb: Annotated[int | None, typer.Option(min=64, help="With --from: the most each of them may use.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="With --from: that each of them computes with.")] = None,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Publish what a training Run learnt, as one ONNX file that is checked before it is taken, or a service in Python.

    Example: lepton model create churn --run run_01… --alias champion

    Example: lepton model create toxic --from service.py:Toxic --files weights/ --workers 2

    Example: lepton model create smol --from SmolLM2-135M-Instruct.gguf --task chat
    """
    from leptonai.cli.run import follow_export

    given = {
        "name": name, "run": run, "aliases": alias or None, "evaluation": evaluation, "from": from_, "files": files or None,
        "requirements": requires or None, "workers": workers, "memory_mb": memory_mb, "threads": threads,
        "task": task,
    }  # fmt: skip
    document = merge(file, given, spec_of)
    if document.get("from") is not None and document.get("task") is not None:
        _import(document, as_, dry_run=dry_run)
        return
    if document.get("from") is not None:
        from leptonai.cli.predictor import publish

        need(document, "name")
        made = publish(document, as_, dry_run=dry_run)
        if made is not None:
            _answer(made, as_)
        return
    need(document, "name", "run")
    made = follow_export(document, as_, dry_run=dry_run)
    if made is not None:
        _answer(made, as_)


def _import(document: dict[str, Any], as_: str, *, dry_run: bool) -> None:
    from leptonai.sdk.imports import import_model, model_files

    need(document, "name", "task")
    if document.get("run") or document.get("evaluation"):
        raise typer.BadParameter("give either --from or --run, not both")
    if dry_run:
        files = model_files(document["from"], document["task"])
        output.would(as_, f"import {len(files)} files as model {document['name']}", document)
        return
    made = import_model(
        document["from"], name=document["name"], task=document["task"], aliases=document.get("aliases") or ()
    )
    _answer(made, as_)


def _answer(version: Any, as_: str) -> None:
    from leptonai.sdk import show

    record = {**version.record.model_dump(mode="json"), "aliases": version.aliases}
    if as_ == "toml":
        record = spec_of(record)
    output.emit(as_, record, lambda: show.facts_table(version.summary(), title=f"Model {version.ref}"))


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only versions of this one.")] = None,
    limit: Limit = 50,
    as_: Output = "table",
) -> None:
    """List model versions, newest first, with the aliases that point at them."""
    from leptonai.sdk import client

    http = client.current().http
    found = list(http.pages("/models", params={"name": name}, limit=limit))
    held: dict[str, list[str]] = {}
    for item in http.pages("/aliases", params={"name": name}):
        held.setdefault(item["model"], []).append(item["alias"])
    output.emit_list(as_, [{**m, "aliases": sorted(held.get(m["id"], []))} for m in found], COLUMNS, "model")


@app.command("get")
def get(model: Ref, as_: GetOutput = "table") -> None:
    """Show a version: signature, metrics, lineage, files."""
    from leptonai.sdk.registry import get_model

    _answer(get_model(model), as_)


@app.command("update")
def update(
    model: Ref,
    alias: Annotated[list[str] | None, typer.Option(help="Point this alias at it; repeatable.")] = None,
    drop_alias: Annotated[list[str] | None, typer.Option(help="Take this alias away; repeatable.")] = None,
    override: Annotated[
        str, typer.Option(metavar="WHY", help="Pass it although its gate refuses it; needs model:gate, and is audited.")
    ] = "",
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Move aliases. A version itself never changes.

    Example: lepton model update models:/churn/3 --alias champion
    """
    from leptonai.sdk import client
    from leptonai.sdk.registry import get_model

    document = merge(file, {"aliases": alias or None, "drop_aliases": drop_alias or None})
    if not document.get("aliases") and not document.get("drop_aliases"):
        raise typer.BadParameter("say what to change: --alias NAME or --drop-alias NAME")
    found = get_model(model)
    if dry_run:
        output.would(as_, f"move aliases of {found.ref}", document)
        return
    for word in document.get("aliases", ()):
        found.set_alias(word, override=override)
    for word in document.get("drop_aliases", ()):
        client.current().http.call("DELETE", f"/models/{found.name}/aliases/{word}")
    _answer(found, as_)


@app.command("download")
def download(
    model: Ref,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Which of its files.")] = "model.onnx",
    to: Annotated[Path | None, typer.Option(metavar="PATH", help="Where to write it; default: its name, here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
) -> None:
    """Write a file of a version to this folder, such as its ONNX file."""
    from leptonai.sdk import show
    from leptonai.sdk.registry import get_model

    path = to or Path(Path(file).name)
    if path.exists() and not force:
        raise Invalid(f"{path} exists already: give another name with --to, or --force")
    data = get_model(model).download(file, to=path)
    show.note(f"{path} is written, {show.size(len(data))}")


@app.command("delete")
def delete(model: Ref, dry_run: DryRun = False, as_: Output = "table") -> None:
    """Delete one version; refused while an alias or a service needs it."""
    from leptonai.sdk import show
    from leptonai.sdk.registry import get_model

    found = get_model(model)
    if dry_run:
        output.would(as_, f"delete model {found.ref}")
        return
    found.delete()
    show.note(f"model {found.ref} is deleted")
