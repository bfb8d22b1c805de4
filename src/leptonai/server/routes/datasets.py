"""Datasets."""

import base64
import json
from functools import partial

from fastapi import Request
from starlette.responses import Response

from leptonai.core.errors import Denied
from leptonai.core.nouns import Audit, Blob, Dataset, Run
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import load, stage
from leptonai.server import holding, opens, peppers, shredding
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Routes, Who, Word
from leptonai.server.routes.tags import refuse_tagged
from leptonai.server.scopes import REPORT
from leptonai.server.wire import Json, matched, one, page

routes = Routes()


@routes.route("GET", "/datasets", "dataset:read")
def list_datasets(
    here: Here, name: Word = None, digest: Word = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List dataset versions, newest first."""
    where = {field: value for field, value in {"name": name, "digest": digest}.items() if value is not None}
    return page(partial(here.catalog.find, Dataset, where), limit, cursor)


@routes.route("GET", "/datasets/{ref}", "dataset:read")
def get_dataset(ref: str, desk: AtDesk, who: Who) -> Response:
    """Return a dataset version by name, name@v2 or id."""
    found = desk.dataset(ref)
    opens.see_dataset(who, found)
    return one(found)


@routes.route("GET", "/datasets/{ref}/preview", "dataset:read")
def preview(ref: str, desk: AtDesk, who: Who) -> Response:
    """Return the first rows of a dataset version."""
    found = desk.dataset(ref)
    opens.see_dataset(who, found)
    return Json(load("leptonai.data.verbs:preview")(found, json.loads(desk.read(found.manifest))))


def _made_by(run: Run) -> str | None:
    """Return the name of the dataset that a Run makes a version of: that of the rows that it reads, where its spec names no other."""
    read = run.spec.get("data")
    return run.spec.get("name") or (DatasetRef.parse(read).name if read is not None else None)


@routes.route("POST", "/datasets/{name}/pepper", REPORT)
def pepper(name: str, here: Here, who: Who) -> Response:
    """Return the key of keyed digests of a dataset's values, to a Run that makes versions of it."""
    run = who.run
    if run is None or stage(run.stage).permission != "dataset:write" or _made_by(run) != name:
        raise Denied(f"{who.name} makes no version of dataset {name}", permission="*")
    return Json({"pepper": base64.b64encode(peppers.of(here, name)).decode()})


@routes.route("POST", "/datasets/{name}/shred", "dataset:write")
def shred(name: str, here: Here, who: Who) -> Response:
    """Destroy the keys of all versions of a dataset, and return a signed receipt."""
    return Json(shredding.shred(here, name, who.name), 201)


@routes.route("DELETE", "/datasets/{ref}", "dataset:write")
def delete_dataset(ref: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Delete a dataset version, and its blobs that no other version shares."""
    found = desk.dataset(ref)
    matched(request, found)
    refuse_tagged(here, found)
    keys = here.catalog.find(Blob, {"id": (found.manifest, *found.pii)})
    alone, _ = holding.only_of(here.catalog, (found,))
    keys = [key for key in keys if key.id in alone]
    audit = Audit.new(name="dataset.delete", subject=f"{found.name}@v{found.version}", by=who.name)
    here.catalog.change(add=(audit,), drop=(found, *keys))
    for blob in alone:
        here.raw.delete(blob)
    return Response(status_code=204)
