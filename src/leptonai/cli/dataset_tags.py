"""``lepton dataset tag``, ``untag``, ``tags``: words that point at versions."""

from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import DryRun, Limit, Output

_COLUMNS: output.Columns = {
    "dataset": lambda t: t["name"],
    "tag": lambda t: t["tag"],
    "version": lambda t: t["version"],
    "set": lambda t: output.ago(t["updated"]),
    "by": lambda t: t["by"],
}


@app.command("tag")
def tag(
    dataset: Ref,
    tags: Annotated[list[str], typer.Argument(metavar="TAG", help="One or several words, such as approved.")],
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Point tags at a version: NAME@TAG is that version from then on. A version with a tag is not deleted.

    Example: lepton dataset tag churn@v2 approved
    """
    from leptonai.core.refs import check_tag
    from leptonai.sdk import show
    from leptonai.sdk.datasets import get_dataset

    found = get_dataset(dataset)
    for name in tags:
        check_tag(name)
    if dry_run:
        output.would(as_, "set tags", {"dataset": found.ref, "tags": tags})
        return
    found.tag(*tags)
    show.note(f"{found.name}@v{found.version} is " + ", ".join(f"{found.name}@{name}" for name in tags))


@app.command("untag")
def untag(
    tag: Annotated[str, typer.Argument(metavar="NAME@TAG", help="The dataset, and the tag to take away.")],
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Take a tag away; the version stays.

    Example: lepton dataset untag churn@approved
    """
    from leptonai.core.refs import check_name, check_tag
    from leptonai.sdk import client, show

    name, _, word = tag.partition("@")
    check_name(name, "dataset")
    check_tag(word)
    if dry_run:
        output.would(as_, f"take the tag {word} of dataset {name} away")
        return
    client.current().http.call("DELETE", f"/datasets/{name}/tags/{word}")
    show.note(f"dataset {name} has no tag {word} any more")


@app.command("tags")
def tags(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only those of this dataset.")] = None,
    limit: Limit = 50,
    as_: Output = "table",
) -> None:
    """List the tags of dataset versions."""
    from leptonai.sdk import client

    http = client.current().http
    found: list[dict[str, Any]] = list(http.pages("/tags", params={"name": name}, limit=limit))
    versions = {one: http.call("GET", f"/datasets/{one}")["version"] for one in {tag["dataset"] for tag in found}}
    output.emit_list(as_, [{**tag, "version": f"v{versions[tag['dataset']]}"} for tag in found], _COLUMNS, "tag")
