"""``lepton service memory``, ``load`` and ``unload``: what a service keeps in the memory of its Site."""

from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, Output
from leptonai.cli.service import Pin, ServiceName, answer, app
from leptonai.core.errors import FieldError, Invalid


@app.command("memory")
def memory(
    name: ServiceName,
    pin: Pin = None,
    idle_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS", help="Leave memory after so long without a request; 0: never; '': as the Site."
        ),
    ] = None,
    answers_mb: Annotated[
        float | None, typer.Option(min=0, help="MiB of answers that each serving process remembers; 0: none.")
    ] = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Show or change what a service keeps in memory: pinned or not, how long without calls, and answers.

    Example: lepton service memory churn --pin

    Example: lepton service memory churn --idle-seconds 600 --answers-mb 32
    """
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    given: dict[str, Any] = {"pin": pin, "answers_mb": answers_mb}
    kept = {field: value for field, value in given.items() if value is not None}
    if idle_seconds is not None:
        kept["idle_seconds"] = _seconds(idle_seconds)
    if dry_run:
        output.would(as_, f"change what service {name} keeps in memory", kept)
        return
    made = get_service(name).memory(**kept).model_dump(mode="json")
    output.emit(
        as_, made, lambda: show.facts_table({k: output.flat(v) for k, v in made.items()}, title=f"Service {name}")
    )


def _seconds(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        right = "a number of seconds, 0 for never, or '' for what the Site's setting says"
        raise Invalid(
            f"--idle-seconds must be {right}, not {text!r}", errors=[FieldError("idle_seconds", right)]
        ) from None


@app.command("load")
def load(name: ServiceName, as_: Output = "table") -> None:
    """Have the model of a service in memory now, before somebody calls it.

    Example: lepton service load churn
    """
    from leptonai.sdk.services import get_service

    answer(get_service(name).load(), as_)


@app.command("unload")
def unload(name: ServiceName, dry_run: DryRun = False, as_: Output = "table") -> None:
    """Have the model of a service leave memory; callers get an error until it is loaded again.

    Example: lepton service unload churn
    """
    from leptonai.sdk.services import get_service

    found = get_service(name)
    if dry_run:
        output.would(as_, f"unload the model of service {name}")
        return
    answer(found.unload(), as_)
