"""``lepton model gate``: rules that versions of a model must keep before an alias may point at them."""

from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, Output
from leptonai.cli.model import Ref, app


@app.command("gate")
def gate(
    model: Ref,
    rule: Annotated[
        list[str] | None, typer.Option(help="Set the rules, such as 'f1 >= 0.9'; repeatable. Replaces those there are.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="With --rule: what they guard; repeatable. Default: champion.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATASET", help="With --rule: only evaluations on this one count.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Take the rules away.")] = False,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Show, rule by rule, whether a version may become champion; or set the rules of a model.

    Example: lepton model gate churn --rule 'f1 >= 0.8' --rule 'not worse than champion (p < 0.05)'

    Example: lepton model gate models:/churn/4
    """
    from leptonai.core.refs import ModelRef
    from leptonai.sdk import gates, show
    from leptonai.sdk.registry import get_model

    name = ModelRef.parse(model).name
    if drop or rule:
        if dry_run:
            output.would(as_, f"{'drop' if drop else 'set'} the gate of model {name}", {"rules": rule or []})
        elif drop:
            gates.drop_gate(name)
            show.note(f"model {name} has no gate any more")
        else:
            found = gates.set_gate(name, rule or (), aliases=tuple(alias or ("champion",)), data=data)
            output.emit(as_, found, lambda: _rules(found))
        return
    held = gates.get_gate(name)
    version = get_model(model)
    told = gates.verdicts(version)
    document = {**held, "model": version.ref, "verdicts": told}
    output.emit(
        as_, document, lambda: show.titled(_verdicts(told), f"{version.ref}, to become {', '.join(held['aliases'])}")
    )


def _rules(held: dict[str, Any]) -> Any:
    from leptonai.sdk import show

    facts = {f"rule {number}": text for number, text in enumerate(held["rules"], 1)}
    return show.facts_table({**facts, "guards": ", ".join(held["aliases"]), "data": held["data"] or "any"})


def _verdicts(told: list[dict[str, Any]]) -> Any:
    from leptonai.sdk import show

    return show.table(("passed", "rule and figures"), [["yes" if one["passed"] else "NO", one["text"]] for one in told])
