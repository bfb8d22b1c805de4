"""What the server answers at once: a Service is made, moved to another version, or taken away.

Each verb returns `Changes` and writes nothing. Whoever writes them and meets `Stale` or `Conflict` was overtaken: he calls
the verb again, which looks anew.
"""

from leptonai.core.errors import Conflict, Denied, FieldError, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Blob, Model, Service, ServiceStatus, Site, Variant
from leptonai.core.stages import FLAVOURS, Changes, Desk, Plan
from leptonai.core.states import ServiceState
from leptonai.serving.sealed import check_path
from leptonai.serving.spec import Deploy, Package

ONNX = "model.onnx"


def deploy(spec: Deploy, desk: Desk) -> Changes:
    """Make the version answer under the name: a new Service is added, one that exists is moved.

    The version that answers now goes on to answer until the new one is loaded. Raises `NotFound` for a model or Site that
    is not there, `Unsupported` for a version without files, `Conflict` for a Service of another Site.
    """
    model = desk.model(spec.model)
    if not model.files:
        raise Unsupported(f"model {model.name}/{model.version} has no file to serve: publish it again")
    if not desk.find(Site, {"name": spec.site}, limit=1):
        sites = ", ".join(sorted(site.name for site in desk.find(Site))) or "none yet"
        raise NotFound(f"there is no site {spec.site!r}; sites are: {sites}", errors=[FieldError("site", sites)])
    variants = (Variant(model=model.id),)
    found = desk.find(Service, {"name": spec.name}, limit=1)
    if not found:
        fields = {"name": spec.name, "site": spec.site, "variants": variants, "public": bool(spec.public)}
        return Changes(add=(Service.new(**fields, status=ServiceStatus(rev=1), by=desk.by),))
    service: Service = found[0]
    if service.site != spec.site:
        raise Conflict(
            f"service {spec.name} is at site {service.site}: delete it first, or deploy it there",
            errors=[FieldError("site", service.site)],
        )
    old = service.status
    state = ServiceState.UPDATING if old.live and not service.stopped else ServiceState.STARTING
    # `rev` will be that of the record once this is written: what the Site says carries it, and so names this deploy.
    status = ServiceStatus(state=state, rev=service.rev + 1, live=old.live, url=old.url, grpc_url=old.grpc_url)
    public = service.public if spec.public is None else spec.public
    changed = {"variants": variants, "public": public, "stopped": False, "status": status, "by": desk.by}
    return Changes(change=(service.model_copy(update=changed),))


def delete(service: Service) -> Changes:
    """Take a Service away; its Site stops to answer under the name."""
    return Changes(drop=(service,))


def opens(service: Service) -> tuple[str, ...]:
    """Return the ids of the Models that the Site of a Service may read: what it is to serve, and what answers now."""
    return tuple(dict.fromkeys([*(variant.model for variant in service.variants), *service.status.live]))


def blobs(model: Model) -> tuple[str, ...]:
    """Return the blobs that a Site needs to serve a version."""
    return (model.files[ONNX],) if ONNX in model.files else tuple(model.files.values())


def prepare_package(spec: Package, desk: Desk) -> Plan:
    """Check that what a class comes with was uploaded by who publishes it. Raises `Invalid` or `Denied`."""
    if spec.flavour not in FLAVOURS:
        right = f"one of {', '.join(FLAVOURS)}"
        raise Invalid(f"flavour {spec.flavour!r} is not known: use {right}", errors=[FieldError("flavour", right)])
    for name in spec.files:
        check_path(name)
    opens = {"code": spec.code, **{f"files.{name}": blob for name, blob in spec.files.items()}}
    for field, blob in opens.items():
        _own(field, blob, desk)
    return Plan(
        spec.model_dump(mode="json"), tuple(dict.fromkeys(opens.values())), spec.flavour, f"package-{spec.name}"[:100]
    )


def _own(field: str, id: str, desk: Desk) -> None:
    try:
        blob: Blob = desk.get(Blob, id)
    except NotFound:
        raise Invalid(
            f"{field}: there is no blob {id!r}; upload it first", errors=[FieldError(field, "a blob")]
        ) from None
    if blob.owner != desk.by:  # naming a blob must not open what somebody else wrote
        raise Denied(f"{field}: blob {id!r} was not uploaded by {desk.by}")
