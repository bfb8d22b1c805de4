"""``lepton site``: the places where Runs and Services live."""

from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output

app = typer.Typer(name="site", help="See where things run.", no_args_is_help=True)

COLUMNS: output.Columns = {
    "name": lambda s: s["name"],
    "agent seen": lambda s: output.ago(s["seen"]) or "never",
    "plane": lambda s: s["plane"],
    "machine": lambda s: output.flat(s["facts"]),
}


@app.command("list")
def list_(as_: Output = "table") -> None:
    """List Sites."""
    from leptonai.sdk import client

    output.emit_list(as_, list(client.current().http.pages("/sites")), COLUMNS, "site")


@app.command("get")
def get(name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")] = "home", as_: Output = "table") -> None:
    """Show a Site: when its agent was last seen, what the machine has."""
    from leptonai.sdk.sites import get_site

    output.emit_record(as_, get_site(name).record.model_dump(mode="json"))
