"""What is said of Services when they are shown: whether their models are in the memory of their Site, as its agent told."""

from collections.abc import Sequence

from leptonai.core.nouns import Service, Site
from leptonai.core.ports import Catalog


def shown(services: Sequence[Service], catalog: Catalog) -> list[Service]:
    """Return the services with `status.memory` filled in; it is written nowhere, since it changes with the requests."""
    absent = {}
    for name in {service.site for service in services}:
        for site in catalog.find(Site, {"name": name}, limit=1):
            absent[name] = site.absent
    return [_shown(service, absent.get(service.site, {}).get(service.name, "resident")) for service in services]


def _shown(service: Service, word: str) -> Service:
    if service.stopped or not service.status.live:
        return service
    return service.model_copy(update={"status": service.status.model_copy(update={"memory": word})})
