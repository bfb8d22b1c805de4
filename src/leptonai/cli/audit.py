"""``lepton audit``: who changed what."""

from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.flags import Limit, Output

app = typer.Typer(name="audit", help="See who changed what.", no_args_is_help=True)

COLUMNS: output.Columns = {
    "when": lambda a: a["created"][:19].replace("T", " "),
    "who": lambda a: a["by"],
    "what": lambda a: a["name"],
    "subject": lambda a: a["subject"],
    "facts": lambda a: output.flat(a["facts"]),
}


@app.command("list")
def list_(limit: Limit = 50, as_: Output = "table") -> None:
    """List changes, newest first: one row for each, written in the transaction of the change."""
    from leptonai.sdk import client

    output.emit_list(as_, list(client.current().http.pages("/audit", limit=limit)), COLUMNS, "audit row")


RECEIPTS: output.Columns = {
    "when": lambda a: a["created"][:19].replace("T", " "),
    "who": lambda a: a["by"],
    "shredded": lambda a: a["subject"],
    "versions": lambda a: len(a["facts"]["versions"]),
    "keys": lambda a: a["facts"]["keys"],
    "tried": lambda a: a["facts"]["tried"],
    "readable": lambda a: a["facts"]["readable"],
    "signature": lambda a: "valid" if a["valid"] else "NOT VALID",
}


@app.command("receipts")
def receipts(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="Only of this one.")] = None,
    limit: Limit = 50,
    as_: Output = "table",
) -> None:
    """List what was shredded, newest first, and check the signature of each receipt."""
    from leptonai.sdk import client

    found = client.current().http.call("GET", "/audit/receipts", params={"subject": dataset, "limit": min(limit, 1000)})
    output.emit_list(as_, found["items"], RECEIPTS, "receipt")
