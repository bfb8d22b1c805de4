"""``lepton run create tune``: a study from flags or a spec file, followed with a table of its best trials."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leptonai.cli import output

_TRAIN = (
    "epochs",
    "batch_size",
    "seed",
    "features",
    "augment",
    "early_stopping",
    "checks",
    "learning",
)  # flags of a training


def within(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a cross-validation tunes in each fold."""
    from leptonai.sdk.crossing import study_of
    from leptonai.tuning import words

    given = {name: value for name, value in asked.items() if value}
    return study_of({**given, "space": dict(words.setting(text) for text in given["space"])})


def start(
    spec: dict[str, Any],
    asked: Mapping[str, Any],
    around: dict[str, Any],
    html: Path | None,
    *,
    wait: bool,
    dry_run: bool,
    as_: str,
) -> None:
    """Start it; what is given by flags comes before what a file says."""
    from leptonai.core.errors import Invalid
    from leptonai.sdk import client, show, tuning
    from leptonai.sdk.specs import check, sent
    from leptonai.tuning import words
    from leptonai.tuning.spec import Tune

    found = {name: value for name, value in spec.items() if name not in _TRAIN}
    train = {**found.pop("train", {}), **{name: spec[name] for name in _TRAIN if spec.get(name) is not None}}
    if spec.get("seed") is not None:
        found["seed"] = spec["seed"]
    varied = dict(words.setting(text) for text in asked["space"] or ()) or found.get("space", {})
    goals = asked["goal"] or found.get("goals")
    more = {name: asked[name] for name in ("sampler", "pruner", "parallel", "start") if asked[name]}
    budget = words.budget(asked["budget"]) if asked["budget"] else {}
    document = {
        **found,
        **more,
        **budget,
        "train": train,
        "space": tuning.read_space(varied),
        **({} if goals is None else {"goals": goals if isinstance(goals[0], dict) else words.goals(goals)}),
    }
    if "data" not in document:
        raise Invalid("tune: data: must be given")
    checked = sent(check(Tune, document, "tune"))
    if dry_run:
        output.would(as_, "start a Run: tune", {**around, "spec": checked})
        return
    via = client.current()
    from leptonai.sdk import runs

    record = runs.submit(via.http, "tune", checked, **{k: v for k, v in around.items() if k != "stage"})
    if not wait:
        output.left(via.private)
        output.begun(as_, record)
        return
    show.note(f"run {record.id} is {record.state}")
    made = tuning.made(tuning.follow(via.http, record), via)
    if html is not None:
        made.html(html)
        show.note(f"{html} is written")
    output.emit(as_, {"run": made.run.id, "best_run": made.best_run.id, **made.to_dict()}, made.__rich__)


def show(run: Any, as_: str, table: Callable[[Mapping[str, Any]], Any]) -> None:
    """Print a tune Run with its trials, those at work among them; as JSON its record, which has them once it has ended."""
    from rich.console import Group

    from leptonai.sdk import tuning_live

    data = run.record.model_dump(mode="json")
    output.emit(as_, data, lambda: Group(table(data), tuning_live.once(run)))
