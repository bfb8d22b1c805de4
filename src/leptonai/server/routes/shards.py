"""The rows of a dataset, for who may read it: keys of its shards from here, the encrypted shards from here or from the store."""

import orjson
from anyio.to_thread import run_sync
from starlette.responses import Response

from leptonai.core.errors import NotFound
from leptonai.core.nouns import Audit
from leptonai.server import opens, uploads
from leptonai.server.routes.table import AtDesk, Here, Routes, Who
from leptonai.server.wire import Json

routes = Routes()


@routes.route("GET", "/datasets/{ref}/shards", "dataset:read")
def list_shards(ref: str, here: Here, desk: AtDesk, who: Who) -> Response:
    """Return the shards of a dataset version with their keys, and where they lie for who may do anything on this machine."""
    found = desk.dataset(ref)
    opens.see_dataset(who, found)
    manifest = orjson.loads(desk.read(found.manifest))
    if who.run is None:  # what a Run reads, its spec says
        here.catalog.add(Audit.new(name="dataset.read", subject=f"{found.name}@v{found.version}", by=who.name))
    store = here.reach("home") if who.everything and "://" not in here.store_url else None
    return Json({"shards": manifest["shards"], "store": store})


@routes.route("GET", "/datasets/{ref}/shards/{number}", "dataset:read")
async def get_shard(ref: str, number: int, here: Here, desk: AtDesk, who: Who) -> Response:
    """Return a shard as it is stored: encrypted."""
    found = await run_sync(desk.dataset, ref)
    opens.see_dataset(who, found)
    if not 0 <= number < len(found.shards):
        raise NotFound(f"dataset {found.name}@v{found.version} has shards 0 to {len(found.shards) - 1}, not {number}")
    return await uploads.answer(lambda: here.raw.open(found.shards[number]), None)
