"""``lepton audit``: who changed what."""

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
