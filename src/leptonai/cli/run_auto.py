"""``lepton run create train --budget 5min``: a model is found within a budget of time, and shown with the leaderboard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from leptonai.cli import output

_OWN = (
    "data",
    "test",
    "target",
    "features",
    "kind",
    "budget",
    "metric",
    "folds",
    "by",
    "column",
    "horizon",
    "families",
    "candidates",
    "seed",
    "train",
)
_OF_TRAIN = ("checks", "augment")


def start(
    spec: dict[str, Any],
    asked: Mapping[str, Any],
    unfit: Sequence[str],
    around: dict[str, Any],
    *,
    wait: bool,
    dry_run: bool,
    as_: str,
) -> None:
    """Start it; what is given by flags comes before what a file says."""
    from leptonai.core.errors import Invalid
    from leptonai.sdk import auto, client, runs, show
    from leptonai.sdk.specs import check, sent
    from leptonai.tuning.auto.spec import Auto

    if strange := [*unfit, *(name for name in spec if name not in (*_OWN, *_OF_TRAIN))]:
        raise typer.BadParameter(
            f"--{strange[0].replace('_', '-')} is not for finding a model: leave it out, or --budget"
        )
    if asked["budget"] and len(asked["budget"]) > 1:
        raise typer.BadParameter("give one --budget, a time such as 5min")
    given = {name: asked[name] for name in ("test", "families", "kind", "horizon", "metric") if asked[name]}
    train = {**spec.get("train", {}), **{name: spec[name] for name in _OF_TRAIN if spec.get(name) is not None}}
    document = {
        **{name: value for name, value in spec.items() if name in _OWN},
        **given,
        **({"train": train} if train else {}),
    }
    if asked["budget"]:
        document["budget"] = auto.seconds_of(asked["budget"][0])
    if "data" not in document:
        raise Invalid("auto: data: must be given")
    checked = sent(check(Auto, document, "auto"))
    if dry_run:
        output.would(as_, "start a Run: auto", {**around, "stage": "auto", "spec": checked})
        return
    via = client.current()
    record = runs.submit(via.http, "auto", checked, **{k: v for k, v in around.items() if k != "stage"})
    if not wait:
        output.left(via.private)
        if asked["publish"]:
            show.note(f"nothing is published without waiting: then  lepton model create {asked['publish']} --run RUN")
        output.begun(as_, record)
        return
    show.note(f"run {record.id} is {record.state}")
    found = auto.made(runs.follow(via.http, record.id, title="auto"), via)
    if asked["publish"]:
        version = found.publish(asked["publish"])
        show.note(f"model {version.record.name}/{version.record.version} is published")
    output.emit(as_, {"run": found.run.id, "best_run": found.best_run.id, **found.to_dict()}, found.__rich__)


def shown(record: Any, table: Any) -> Any:
    """Return a Run's table, and what it found, or has found so far."""
    from rich.console import Group

    from leptonai.sdk import auto, client, runs

    via = client.current()
    if record.result is not None:
        return Group(table, auto.made(record, via).__rich__())
    return Group(table, auto.table(auto.so_far(runs.Run(record, via))))


def show_found(run: Any, html: Path | None, card: Path | None, as_: str) -> None:
    """Print the leaderboard of an auto Run; as JSON what it found."""
    from leptonai.sdk import auto

    if html is not None or card is not None:
        raise typer.BadParameter(
            "--html and --card are of an evaluation: see  lepton run show RUN  of one of its train Run"
        )
    if run.refresh().record.result is None:
        lines = auto.so_far(run)
        output.emit(as_, {"leaderboard": auto.rows_of(lines)}, lambda: auto.table(lines))
        return
    found = auto.get_auto(run.id)
    output.emit(as_, {"run": run.id, "best_run": found.best_run.id, **found.to_dict()}, found.__rich__)
