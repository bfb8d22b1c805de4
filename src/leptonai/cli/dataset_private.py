"""``lepton dataset pii``, ``shred``, ``gc``: what is personal, and what is to be gone for good."""

from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import DryRun, Output


@app.command("shred")
def shred(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name: all versions go.")],
    yes: Annotated[bool, typer.Option("--yes", help="Yes, for good. Without it you are asked.")] = False,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Destroy the keys of a dataset: no copy of it can be read any more. A signed receipt stays in the audit.

    Example: lepton dataset shred patients --yes
    """
    import sys

    from leptonai.core.refs import check_name
    from leptonai.sdk import client, show

    check_name(name)
    if dry_run:
        output.would(as_, f"destroy all versions of dataset {name}, and their keys")
        return
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Destroy all versions of {name} for good?", err=True)):
        raise typer.BadParameter("nothing is shredded without --yes")
    made = client.current().http.call("POST", f"/datasets/{name}/shred")
    facts = {
        "versions": len(made["versions"]), "keys destroyed": made["keys"], "blobs tried": made["tried"],
        "readable": made["readable"], "shared, kept": len(made["shared"]), "reports": made.get("reports", 0),
        "label tasks and answers": made.get("labels", 0), "receipt": made["id"],
    }  # fmt: skip
    output.emit(as_, made, lambda: show.facts_table(facts, title=f"Dataset {name} is shredded"))
    show.note("the key file is being rotated: back it up anew, and destroy copies of the old one")


@app.command("gc")
def gc(
    hours: Annotated[float, typer.Option(min=0, help="Leave what is younger: an upload may be under way.")] = 24.0,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Forget blobs that no version names: left of cut uploads and imports, and of what was deleted. The server does it daily."""
    from leptonai.sdk import client, show

    found = client.current().http.call("POST", "/blobs/sweep", json={"hours": hours, "dry_run": dry_run})
    word = "would be forgotten" if dry_run else "forgotten"
    facts = {word: f"{found['blobs']:,} blobs, {output.size(found['bytes'])}", "too young": found["kept"]}
    output.emit(as_, found, lambda: show.facts_table(facts, title="Blobs that nothing names"))


@app.command("pii")
def pii(
    dataset: Ref,
    rows: Annotated[int | None, typer.Option(min=1, help="How many rows are looked at; default 20,000.")] = None,
    country: Annotated[
        str | None, typer.Option(metavar="XX", help="Whose telephone numbers have no country code; default US.")
    ] = None,
    as_: Output = "table",
) -> None:
    """Look for personal data: which columns hold it, of which kind, in how many rows. Examples are masked.

    Example: lepton dataset pii customers --country DE
    """
    from leptonai.sdk import client, privacy, show

    found = privacy.run(client.current(), dataset, rows=rows, country=country)
    output.emit(as_, found.to_dict(), found.__rich__)
    if found.columns:
        show.note(f"to keep them apart:  lepton dataset create NAME FILE --pii {','.join(found.columns)}")
