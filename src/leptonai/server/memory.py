"""What is said of Services when they are shown: whether their models are in memory, and how many replicas there are, as the agent
of their Site told.
"""

from collections.abc import Sequence
from typing import Any

from leptonai.core.nouns import Audit, Service, Site
from leptonai.core.ports import Catalog
from leptonai.core.replicas import Scaled

SCALED = "service.scaled"  # what is written in the audit when the number of replicas became another one
_CHANGES = 20  # that are shown


def shown(services: Sequence[Service], catalog: Catalog) -> list[Service]:
    """Return the services with `status.memory` and `status.replicas` filled in; they are written nowhere, since they change
    with the requests.
    """
    sites = {
        name: site for name in {one.site for one in services} for site in catalog.find(Site, {"name": name}, limit=1)
    }
    return [_shown(service, sites.get(service.site)) for service in services]


def _shown(service: Service, site: Site | None) -> Service:
    if service.stopped or not service.status.live:
        return service
    word = "resident" if site is None else site.absent.get(service.name, "resident")
    news = {"memory": word, "replicas": _counted(service, site)}
    return service.model_copy(update={"status": service.status.model_copy(update=news)})


def _counted(service: Service, site: Site | None) -> Scaled | None:
    return None if site is None or service.replicas is None else site.scaled.get(service.name)


def replicas(service: Service, catalog: Catalog) -> dict[str, Any]:
    """Return what is asked of the number of a service's replicas, how many there are, and what changed last, newest first."""
    (now,) = shown([service], catalog)
    found = catalog.find(Audit, {"name": SCALED, "subject": service.name}, limit=_CHANGES)
    return {
        "replicas": None if service.replicas is None else service.replicas.model_dump(mode="json"),
        "now": None if now.status.replicas is None else now.status.replicas.model_dump(mode="json"),
        "changes": [{"time": one.created.isoformat(), **one.facts} for one in found],
    }
