"""``lepton service deploy, promote, rollback, why, split, test``: how a service moves from one version to another."""

from typing import Annotated, Any, Literal

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, Output, SpecFile, merge, need
from leptonai.cli.service import Pin, Public, ServiceName, answer, app, begin, spec_of
from leptonai.core.errors import FieldError, Invalid

Sticky = Annotated[
    str | None, typer.Option(metavar="key|HEADER", help="How a caller keeps his version: by his key, or by a header.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the rollout until it ends, or return at once.")]


def _steps(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        right = "must be per cents with commas between, such as 1,5,25,50"
        raise Invalid(f"--steps {right}, not {text!r}", errors=[FieldError("steps", right)]) from None


@app.command("deploy")
def deploy(
    name: ServiceName,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="models:/name@alias, name/3, or name.")] = None,
    strategy: Annotated[
        Literal["guarded", "now", "shadow"] | None,
        typer.Option(help="guarded: tried, then step by step; now: as soon as it is loaded; shadow: gets copies only."),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="1,5,25,50", help="Per cent of the requests, step by step.")
    ] = None,
    step_seconds: Annotated[float | None, typer.Option(help="What a step takes at most; default: 60.")] = None,
    agree: Annotated[float | None, typer.Option(help="Share of answers that must be as before; default: 0.8.")] = None,
    percent: Annotated[int | None, typer.Option(help="Of the requests that a shadow gets copies of.")] = None,
    sticky: Sticky = None,
    public: Public = None,
    pin: Pin = None,
    wait: Wait = True,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Make a version answer; a service that answers already moves to it step by step, and back by itself if it is worse.

    Example: lepton service deploy churn models:/churn/4

    Example: lepton service deploy churn churn/4 --steps 5,50 --step-seconds 300 --no-wait
    """
    given = {"name": name, "model": model, "strategy": strategy, "steps": _steps(steps), "step_seconds": step_seconds}
    given |= {"agree": agree, "percent": percent, "sticky": sticky, "public": public, "pin": pin}
    document = merge(file, given, spec_of)
    need(document, "name", "model")
    begin(document, wait=wait, dry_run=dry_run, as_=as_)


@app.command("promote")
def promote(name: ServiceName, as_: Output = "table") -> None:
    """Have the new version of a rollout answer all requests now."""
    from leptonai.sdk.services import get_service

    answer(get_service(name).promote(), as_)


@app.command("rollback")
def rollback(name: ServiceName, as_: Output = "table") -> None:
    """Have the version before answer all requests again; at once while a rollout goes on."""
    from leptonai.sdk.services import get_service

    answer(get_service(name).rollback(), as_)


@app.command("why")
def why(name: ServiceName, as_: Output = "table") -> None:
    """Tell what became of the last rollout and why, in sentences with figures."""
    from rich.text import Text

    from leptonai.sdk.services import get_service

    found = get_service(name)
    told = found.http.call("GET", f"/services/{name}/why")
    output.emit(as_, told, lambda: Text("\n".join(told["sentences"])))


@app.command("split")
def split(
    name: ServiceName,
    canary: Annotated[str | None, typer.Option(metavar="MODEL=PERCENT", help="A version, and its share.")] = None,
    shadow: Annotated[str | None, typer.Option(metavar="MODEL=PERCENT", help="One that gets copies only.")] = None,
    sticky: Sticky = None,
    as_: Output = "table",
) -> None:
    """Divide the requests of a service by hand; what is left stays with the version that answers.

    Example: lepton service split churn --canary churn/4=10 --sticky key
    """
    from leptonai.sdk.services import get_service

    given = {label: _share(label, text) for label, text in (("canary", canary), ("shadow", shadow)) if text is not None}
    if not given:
        raise typer.BadParameter("say --canary or --shadow")
    answer(get_service(name).split(sticky=sticky, **given), as_)


def _share(label: str, text: str) -> tuple[str, int]:
    model, _, percent = text.rpartition("=")
    if not model or not percent.isdigit():
        right = "must be a version and a per cent, such as churn/4=10"
        raise Invalid(f"--{label} {right}, not {text!r}", errors=[FieldError(label, right)])
    return model, int(percent)


@app.command("test")
def test(
    name: ServiceName,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The version to test against the one that answers.")],
    percent: Annotated[int | None, typer.Option(help="Of the callers that get it; default: 50.")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Chance to find a difference that is none; default: 0.05.")
    ] = None,
    least: Annotated[float | None, typer.Option(help="A smaller difference is none; default: 0.01.")] = None,
    seconds: Annotated[float | None, typer.Option(help="What it takes at most; default: two weeks.")] = None,
    sticky: Sticky = None,
    as_: Output = "table",
) -> None:
    """Test two versions by what callers say of the answers; it ends by itself, with a winner or without.

    Example: lepton service test churn churn/4
    """
    from leptonai.sdk.services import get_service

    given: dict[str, Any] = {"percent": percent, "alpha": alpha, "least": least, "seconds": seconds, "sticky": sticky}
    options = {field: value for field, value in given.items() if value is not None}
    answer(get_service(name).test(model, **options), as_)
