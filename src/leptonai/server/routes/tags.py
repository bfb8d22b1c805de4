"""Tags: words that point at versions of datasets."""

from functools import partial

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import Conflict, FieldError, NotFound
from leptonai.core.nouns import Audit, Dataset, Frozen, Tag
from leptonai.core.refs import check_name, check_tag
from leptonai.core.stages import Changes
from leptonai.server.context import Context
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Routes, Who, Word
from leptonai.server.wire import matched, one, page
from leptonai.server.writing import write

routes = Routes()


class Version(Frozen):
    """Which version a tag is to point at."""

    version: int = Field(ge=1, lt=10**9)


def refuse_tagged(here: Context, found: Dataset) -> None:
    """Raise `Conflict` that names the tags of a version: they keep it."""
    if tags := here.catalog.find(Tag, {"dataset": found.id}):
        named = ", ".join(sorted(tag.tag for tag in tags))
        raise Conflict(
            f"dataset {found.name}@v{found.version} has the tag {named}: move it or take it away first "
            f"(lepton dataset untag {found.name}@{tags[0].tag})",
            errors=[FieldError(tag.tag, f"points at version {found.version}") for tag in tags],
        )


@routes.route("GET", "/tags", "dataset:read")
def list_tags(here: Here, name: Word = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List the tags of dataset versions."""
    return page(partial(here.catalog.find, Tag, {} if name is None else {"name": name}), limit, cursor)


@routes.route("PUT", "/datasets/{name}/tags/{tag}", "dataset:write")
def set_tag(name: str, tag: str, body: Version, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Point a tag at a version; whichever held it holds it no more."""
    id = f"{check_name(name, 'dataset')}@{check_tag(tag)}"

    def verb() -> Changes:
        found = desk.find(Dataset, {"name": name, "version": body.version}, limit=1)
        if not found:
            raise NotFound(f"there is no dataset {name}@v{body.version}: see  lepton dataset list {name}")
        try:
            held = desk.get(Tag, id)
        except NotFound:
            return Changes(add=(Tag(id=id, name=name, tag=tag, dataset=found[0].id, by=who.name),), change=(found[0],))
        matched(request, held)
        # The version is written again, too, so that nobody deletes it at the same moment.
        return Changes(change=(held.model_copy(update={"dataset": found[0].id, "by": who.name}), found[0]))

    write(here, verb, Audit.new(name="tag.set", subject=id, by=who.name, facts={"version": body.version}))
    return one(here.catalog.get(Tag, id))


@routes.route("DELETE", "/datasets/{name}/tags/{tag}", "dataset:write")
def drop_tag(name: str, tag: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Take a tag away; the version it points at stays."""
    id = f"{check_name(name, 'dataset')}@{check_tag(tag)}"

    def verb() -> Changes:
        try:
            held = desk.get(Tag, id)
        except NotFound:
            raise NotFound(f"dataset {name} has no tag {tag!r}") from None
        matched(request, held)
        return Changes(drop=(held,))

    write(here, verb, Audit.new(name="tag.drop", subject=id, by=who.name))
    return Response(status_code=204)
