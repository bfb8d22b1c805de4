"""``lepton key``: API keys for people and programs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, Limit, Output, SpecFile, merge, need

app = typer.Typer(name="key", help="Give each person and program a key of its own.", no_args_is_help=True)

COLUMNS: output.Columns = {
    "name": lambda k: k["name"],
    "scopes": lambda k: ", ".join(k["scopes"]),
    "state": lambda k: _state(k),
    "made": lambda k: output.ago(k["created"]),
}


def _state(key: Mapping[str, Any]) -> str:
    if key.get("revoked"):
        return f"revoked {output.ago(key['revoked'])}"
    expires = key.get("expires")
    if expires is None:
        return "valid"
    return f"valid until {expires[:10]}" if datetime.fromisoformat(expires) > datetime.now(UTC) else "expired"


def spec_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a key like this one."""
    return {"name": record["name"], "scopes": list(record["scopes"]), "expires": record.get("expires")}


@app.command("create")
def create(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Who or what it is for.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do, such as dataset:read or '*'; repeatable.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is valid; default: until it is deleted.")] = None,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Make a key. Its secret is shown once, and kept nowhere.

    Example: lepton key create alice --scope dataset:read --scope run:write --days 90
    """
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
    document = merge(file, {"name": name, "scopes": scope or None, "expires": expires}, spec_of)
    need(document, "name", "scopes")
    if dry_run:
        output.would(as_, f"make key {document['name']}", document)
        return
    from leptonai.sdk import client, show

    made = client.current().http.call("POST", "/keys", json={k: v for k, v in document.items() if v is not None})
    key = made["key"]
    facts = {"name": key["name"], "scopes": ", ".join(key["scopes"]), "state": _state(key), "secret": made["secret"]}
    output.emit(as_, made, lambda: show.facts_table(facts, title=f"Key {key['name']}"))
    show.note("the secret is shown only now; use it as LEPTONAI_API_KEY, or with `lepton login`")


@app.command("list")
def list_(limit: Limit = 100, as_: Output = "table") -> None:
    """List keys and what each may do; never their secrets."""
    from leptonai.sdk import client

    output.emit_list(as_, list(client.current().http.pages("/keys", limit=limit)), COLUMNS, "key")


@app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Revoke a key; it opens nothing from then on."""
    from leptonai.core.refs import check_name
    from leptonai.sdk import client, show

    check_name(name, "key")
    if dry_run:
        output.would(as_, f"revoke key {name}")
        return
    client.current().http.call("DELETE", f"/keys/{name}")
    show.note(f"key {name} is revoked")


@app.command("rotate")
def rotate(dry_run: DryRun = False, as_: Output = "table") -> None:
    """Make a new key-encryption key, and wrap every data key with it. No data is written again, and all of it stays readable.

    Back up the key file of the server's home folder afterwards: the one before opens nothing any more.
    """
    if dry_run:
        output.would(as_, "make a new key-encryption key and wrap every data key with it")
        return
    import time

    from leptonai.sdk import client, show

    http, begin, renewed = client.current().http, True, 0
    while True:
        found = http.call("POST", "/keys/rotation", json={"begin": begin})
        begin, renewed = False, renewed + found["renewed"]
        if found["done"]:
            break
        time.sleep(0.2)
    facts = {"key": found["key"], "renewed": renewed}
    output.emit(as_, facts, lambda: show.facts_table({"key": found["key"]}, title="Rotated"))
    show.note("the old key is forgotten: back up kek.key of the server's home folder, apart from the blobs")
