"""The routes of the control API, by noun; `table` returns them all."""

from leptonai.server.routes import (
    blobs,
    datasets,
    gates,
    keys,
    labels,
    meta,
    models,
    predictions,
    runs,
    services,
    shards,
    sites,
    tags,
)
from leptonai.server.routes.table import Route


def table() -> list[Route]:
    """Return every route, each with the permission it needs."""
    # Order matters where a fixed path could also be read as a parameter: /blobs/known before /blobs/{id}.
    files = (meta, runs, datasets, tags, shards, labels, models, gates, services, predictions, sites, keys, blobs)
    return [route for file in files for route in file.routes.found]
