"""``lepton run``: everything slow — training, evaluation, imports, exports — and how it went."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leptonai.cli import flags, output
from leptonai.cli.flags import DryRun, GetOutput, Limit, Output, SpecFile, Wait, merge, need
from leptonai.cli.flags_evaluate import EVALUATE, Curve, Explain, Importance, Noise, Outliers, Robustness
from leptonai.cli.flags_search import (
    Budget,
    Family,
    Goal,
    Horizon,
    Html,
    Kind,
    Metric,
    Parallel,
    Pruner,
    Publish,
    Sampler,
    Space,
    Start,
    Test,
)
from leptonai.cli.flags_train import TRAIN, Inputs, LossWeights, Targets

app = typer.Typer(name="run", help="Train, evaluate, and see how it went.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id: run_…")]
MORE = "The Run itself"

# What a Run is asked with beside its spec; a key of a spec file that is not here belongs to the spec.
AROUND = ("stage", "name", "site", "parent", "limits", "max_attempts")

COLUMNS: output.Columns = {
    "id": lambda r: r["id"],
    "stage": lambda r: r["stage"],
    "state": lambda r: r["state"],
    "name": lambda r: r["name"],
    "made": lambda r: output.ago(r["created"]),
    "took": lambda r: output.took(r["started"], r["ended"]),
    "error": lambda r: (r["error"] or {}).get("message", ""),
}


def spec_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what asks for this Run again."""
    around = {name: record.get(name) for name in AROUND if record.get(name) not in (None, "", {})}
    limits = {name: value for name, value in (record.get("limits") or {}).items() if value is not None}
    spec = {name: value for name, value in record["spec"].items() if value is not None}
    return {**around, "limits": limits or None, "spec": spec}


def split(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what stands around the spec, and the spec: a file may write its fields in ``[spec]`` or at the top."""
    around = {name: value for name, value in document.items() if name in AROUND and value is not None}
    at_top = {name: value for name, value in document.items() if name not in (*AROUND, "spec")}
    return around, {**document.get("spec", {}), **at_top}


@app.command("create")
def create(
    stage: Annotated[
        str | None, typer.Argument(metavar="STAGE", help="train, tune, auto, evaluate, predict, import or export.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATASET", help="The dataset: name, name@v2, or a part of a split.")
    ] = None,
    target: Targets = None,
    loss_weight: LossWeights = None,
    model_input: Inputs = None,
    validation: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Measure after each epoch on this.", rich_help_panel=TRAIN)
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="Use only these columns; repeatable.", rich_help_panel=TRAIN)
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A Python file with a `model`, and if need be optimizer, loss and metrics, of your own.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.", rich_help_panel=TRAIN)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows at once.")] = None,
    smaller_batches: Annotated[
        bool | None,
        typer.Option("--smaller-batches", help="Take smaller ones where memory is too small.", rich_help_panel=TRAIN),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that learn together (PyTorch).", rich_help_panel=TRAIN)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model.", rich_help_panel=TRAIN)] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP",
            help="Change training rows on their way: flip, or rotate:degrees=10,fill=zero; repeatable.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            metavar="RULE",
            help="The rows must keep it, else the Run fails: range:age=0..120; repeatable.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    learn: Annotated[
        list[str] | None,
        typer.Option(
            "--learn",
            metavar="NAME=VALUE",
            help="How it learns: schedule=cosine:warmup=2, clip_norm=1, accumulate=4, weight_decay=0.01, dropout=0.2, label_smoothing=0.1, "
            "ema=0.999, class_weights=balanced, balanced_sampling=true, learning_rate=0.001, adversarial=fgsm, mitigate=sex, device=cuda, precision=bf16, "
            "'freeze=all but head', unfreeze_after=2, unfreeze_layers=1, layer_decay=0.7, lora=8; repeatable.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|FILE|FOLDER",
            help="Begin with the weights of a version, of a safetensors file, or of a folder as Hugging Face writes it.",
            rich_help_panel=TRAIN,
        ),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without progress.", rich_help_panel=TRAIN)
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="The training Run whose model is used.", rich_help_panel=EVALUATE)
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Or a version: models:/name@alias.", rich_help_panel=EVALUATE)
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="fp=1|fn=5",
            help="Of a false alarm, or a miss: a threshold is chosen; repeatable.",
            rich_help_panel=EVALUATE,
        ),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Which of two classes is looked for.", rich_help_panel=EVALUATE)
    ] = None,
    sensitive: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Are its groups treated alike? Repeatable.", rich_help_panel=EVALUATE),
    ] = None,
    importance: Importance = None,
    explain: Explain = None,
    outliers: Outliers = None,
    robustness: Robustness = None,
    folds: Annotated[int | None, typer.Option(help="Of cross_validate.", rich_help_panel=EVALUATE)] = None,
    curve: Curve = None,
    noise: Noise = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="How folds are made: rows, class, group or time, the last two with --column.", rich_help_panel=EVALUATE
        ),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of the groups, or of the time.", rich_help_panel=EVALUATE)] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Is it better than this version, on the same rows?", rich_help_panel=EVALUATE
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A label, to find it again.", rich_help_panel=MORE)] = None,
    site: Annotated[str | None, typer.Option(help="Where it runs; default: home.", rich_help_panel=MORE)] = None,
    space: Space = None,
    goal: Goal = None,
    budget: Budget = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    parallel: Parallel = None,
    start: Start = None,
    html: Html = None,
    test: Test = None,
    family: Family = None,
    kind: Kind = None,
    horizon: Horizon = None,
    metric: Metric = None,
    publish: Publish = None,
    max_attempts: Annotated[
        int | None, typer.Option(help="How often a lost attempt is taken up again.", rich_help_panel=MORE)
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory it may use.", rich_help_panel=MORE)] = None,
    wall_seconds: Annotated[float | None, typer.Option(help="Time it may take.", rich_help_panel=MORE)] = None,
    wait: Wait = True,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Start a Run, and follow it to its end. Training needs no Python: a model is picked from the columns.

    Example: lepton run create train --data churn --target churned --epochs 20

    Example: lepton run create train --data churn --target churned --budget 5min --publish churn

    Example: lepton run create tune --data churn --target churned --space max_depth=2..12 --goal val_accuracy --budget 50

    Example: lepton run create evaluate --run run_01… --data churn --cost fp=1 --cost fn=5
    """
    given = {
        "data": data, "code": code, "target": target[0] if target and len(target) == 1 else target or None, "loss_weights": flags.numbers("--loss-weight", loss_weight), "inputs": flags.columns("--input", model_input), "validation": validation, "features": feature or None,
        "epochs": epochs, "batch_size": batch_size, "smaller_batches": smaller_batches, "workers": workers, "seed": seed, "run": run, "model": model,
        "augment": [flags.step(text) for text in augment] if augment else None,
        "checks": flags.rules(check),
        "learning": flags.settings("--learn", learn),
        "early_stopping": None if patience is None else {"patience": patience},
        "costs": flags.numbers("--cost", cost), "positive": positive, "sensitive": sensitive or None, "importance": importance, "explain": explain, "outliers": outliers, "robustness": robustness, "against": against, "folds": folds, "curve": curve, "noise": noise, "by": by, "column": column,
        "stage": stage, "name": name, "site": site, "max_attempts": max_attempts,
    }  # fmt: skip
    limits = {"memory_mb": memory_mb, "wall_seconds": wall_seconds}
    if pretrained is not None:
        from leptonai.cli.pretrained import sent

        given["pretrained"] = sent(pretrained, dry_run=dry_run)
    document = merge(file, given, spec_of)
    document["limits"] = {
        **(document.get("limits") or {}),
        **{k: v for k, v in limits.items() if v is not None},
    } or None
    need(document, "stage")
    around, spec = split(document)
    asked = {
        "space": space,
        "goal": goal,
        "budget": budget,
        "sampler": sampler,
        "pruner": pruner,
        "parallel": parallel,
        "start": start,
    }
    if around["stage"] == "tune":
        from leptonai.cli import run_tune

        run_tune.start(spec, asked, around, html, wait=wait, dry_run=dry_run, as_=as_)
        return
    found = {"test": test, "families": family, "kind": kind, "horizon": horizon, "metric": metric, "publish": publish}
    if around["stage"] == "auto" or (around["stage"] == "train" and budget and "code" not in spec):
        from leptonai.cli import run_auto

        unfit = [name for name, value in {**asked, "html": html}.items() if value and name != "budget"]
        run_auto.start(spec, {**found, "budget": budget}, unfit, around, wait=wait, dry_run=dry_run, as_=as_)
        return
    if unfit := [name for name, value in found.items() if value]:
        raise typer.BadParameter(f"--{unfit[0].replace('families', 'family')} is for the stage auto")
    if around["stage"] == "cross_validate" and space:
        from leptonai.cli import run_tune

        spec["tune"], asked = run_tune.within(asked), {}
    if unfit := [name for name, value in {**asked, "html": html}.items() if value]:
        raise typer.BadParameter(f"--{unfit[0]} is for the stage tune")
    _start(around.pop("stage"), spec, around, wait=wait, dry_run=dry_run, as_=as_)


def _start(stage: str, spec: dict[str, Any], around: dict[str, Any], *, wait: bool, dry_run: bool, as_: str) -> None:
    from leptonai.core import stages
    from leptonai.sdk import client, runs, show
    from leptonai.sdk.specs import check, sent

    if str(spec.get("code", "")).endswith(".py") and not dry_run:
        from leptonai.cli import run_code

        spec = {**spec, **run_code.fields(Path(str(spec["code"])))}
    checked = sent(check(stages.load(stages.stage(stage).spec), spec, stage))
    if dry_run:
        output.would(as_, f"start a Run: {stage}", {**around, "spec": checked})
        return
    via = client.current()
    record = runs.submit(via.http, stage, checked, **around)
    if wait:
        show.note(f"run {record.id} is {record.state}")
        record = runs.follow(via.http, record.id, title=stage)
        if stage == "train" and "code" not in checked and "pretrained" not in checked:
            show.note("one model that suits the columns was trained: --budget 5min tries many, and keeps the best")
    else:
        output.left(via.private)
    answer(record, as_)


def answer(record: Any, as_: str) -> None:
    """Print a Run's record; of a training its last metrics, of an evaluation its report, of a search what it found."""
    data = record.model_dump(mode="json")
    if record.stage == "auto":
        from leptonai.cli import run_auto

        output.emit(as_, data, lambda: run_auto.shown(record, _table(data)))
        return
    output.emit(as_, data, lambda: _table(data))


def _table(run: Mapping[str, Any]) -> Any:
    from leptonai.sdk import show

    result = run["result"] or {}
    history = {name: values[-1] for name, values in (result.get("history") or {}).items() if values}
    facts = {
        "stage": run["stage"],
        "state": run["state"],
        "name": run["name"],
        "site": run["site"],
        "made": f"{output.ago(run['created'])} by {run['by'] or 'nobody known'}",
        "took": output.took(run["started"], run["ended"]),
        "attempt": f"{run['attempt']} of {run['max_attempts']}",
        "spec": output.flat(
            {name: value for name, value in run["spec"].items() if name not in ("code", "facts", "files")}
        ),
        "error": (run["error"] or {}).get("message"),
        **history,
        **{name: value for name, value in (result.get("metrics") or {}).items() if isinstance(value, float)},
    }
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    return show.facts_table(shown, title=f"Run {run['id']}")


@app.command("list")
def list_(
    stage: Annotated[str | None, typer.Option(help="Only of this stage, such as train.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Only queued, running, stopping, succeeded, failed or cancelled ones.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only with this label.")] = None,
    site: Annotated[str | None, typer.Option(help="Only at this Site.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="RUN", help="Only children of this one.")] = None,
    limit: Limit = 20,
    as_: Output = "table",
) -> None:
    """List Runs, newest first."""
    from leptonai.sdk import client

    asked = {"stage": stage, "state": state, "name": name, "site": site, "parent": parent}
    found = list(client.current().http.pages("/runs", params=asked, limit=limit))
    output.emit_list(as_, found, COLUMNS, "run")


@app.command("get")
def get(run: RunId, as_: GetOutput = "table") -> None:
    """Show a Run: its spec, state, and what it came to."""
    from leptonai.sdk.runs import get_run

    held = get_run(run)
    found = held.record
    if as_ == "toml":
        output.emit(as_, spec_of(found.model_dump(mode="json")), lambda: "")
    elif found.stage == "tune":
        from leptonai.cli import run_tune

        run_tune.show(held, as_, _table)
    else:
        answer(found, as_)


@app.command("watch")
def watch(run: RunId, as_: Output = "table") -> None:
    """Follow a Run to its end, with what it measures, or its trials; it goes on where you stop to watch.

    Example: lepton run watch run_01…
    """
    from leptonai.sdk.runs import get_run

    answer(get_run(run).watch().record, as_)


@app.command("logs")
def logs(
    run: RunId, follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False
) -> None:
    """Print what a Run said, line by line."""
    from leptonai.sdk.runs import get_run

    for line in get_run(run).logs(follow=follow):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


@app.command("cancel")
def cancel(run: RunId, dry_run: DryRun = False, as_: Output = "table") -> None:
    """Stop a Run and its children."""
    from leptonai.sdk.runs import get_run

    found = get_run(run)
    if dry_run:
        output.would(as_, f"cancel run {run}, which is {found.record.state}")
        return
    answer(found.cancel().record, as_)


@app.command("retry")
def retry(run: RunId, wait: Wait = True, dry_run: DryRun = False, as_: Output = "table") -> None:
    """Start a new Run with the same spec."""
    from leptonai.sdk.runs import get_run

    found = get_run(run)
    if dry_run:
        output.would(as_, f"start a Run with the spec of {run}", spec_of(found.record.model_dump(mode="json")))
        return
    made = found.retry()
    answer((made.wait() if wait else made).record, as_)


def follow_export(spec: dict[str, Any], as_: str, *, dry_run: bool) -> Any:
    """Start an export Run and return the version it made; None for a dry run."""
    from leptonai.sdk import client, registry, runs
    from leptonai.sdk.specs import check, sent
    from leptonai.training.spec import Export

    checked = sent(check(Export, spec, "model"))
    if dry_run:
        output.would(as_, f"publish model {spec['name']}", checked)
        return None
    via = client.current()
    record = runs.follow(via.http, runs.submit(via.http, "export", checked).id, title="publish")
    return registry.made_by(record, via)
