"""What the server answers at once: a Service is made, moved to another version, or taken away.

Each verb returns `Changes` and writes nothing. Whoever writes them and meets `Stale` or `Conflict` was overtaken: he calls
the verb again, which looks anew.
"""

from typing import Any

from leptonai.core.errors import Conflict, Denied, FieldError, Invalid, NotFound, Unsupported
from leptonai.core.ids import new_id
from leptonai.core.nouns import (
    Audit,
    Blob,
    Decision,
    Guard,
    Memory,
    Model,
    Rollout,
    Service,
    ServiceStatus,
    Site,
    Variant,
)
from leptonai.core.stages import FLAVOURS, Changes, Desk, Plan
from leptonai.core.states import RolloutPhase, ServiceState
from leptonai.serving import pinning, replicas, rollout
from leptonai.serving.rollout import Move
from leptonai.serving.sealed import check_path
from leptonai.serving.spec import CALLER, Deploy, Package, Split, Trial
from leptonai.serving.text.kinds import RUNTIMES

ONNX = "model.onnx"


def deploy(spec: Deploy, desk: Desk) -> Changes:
    """Make the version answer under the name: a new Service is added, one that exists is moved.

    The version that answers now goes on to answer until the new one is loaded, and by default until the new one has held.
    Raises `NotFound` for a model or Site that is not there, `Unsupported` for a version without files, `Conflict` for a
    Service of another Site.
    """
    model = _model(spec.model, desk)
    if spec.replicas is not None:
        replicas.check(model)
    if not desk.find(Site, {"name": spec.site}, limit=1):
        sites = ", ".join(sorted(site.name for site in desk.find(Site))) or "none yet"
        raise NotFound(f"there is no site {spec.site!r}; sites are: {sites}", errors=[FieldError("site", sites)])
    found = desk.find(Service, {"name": spec.name}, limit=1)
    if not found:
        fields: dict[str, Any] = {"name": spec.name, "site": spec.site, "public": bool(spec.public)}
        fields |= {"sticky": spec.sticky or "", "memory": Memory(pin=bool(spec.pin)), "by": desk.by}
        new = Service.new(
            **fields, replicas=spec.replicas, variants=(Variant(model=model.id),), status=ServiceStatus(rev=1)
        )
        pinning.check(new, desk)
        return Changes(add=(new,))
    service: Service = found[0]
    if service.site != spec.site:
        raise Conflict(
            f"service {spec.name} is at site {service.site}: delete it first, or deploy it there",
            errors=[FieldError("site", service.site)],
        )
    moved = _anew(service, desk).model_copy(
        update={
            "public": service.public if spec.public is None else spec.public,
            "sticky": service.sticky if spec.sticky is None else spec.sticky,
            "memory": service.memory if spec.pin is None else service.memory.model_copy(update={"pin": spec.pin}),
            "replicas": service.replicas if spec.replicas is None else spec.replicas,
        }
    )
    pinning.check(moved.model_copy(update={"variants": (Variant(model=model.id),)}), desk)
    moved = _at_rest(moved, desk)
    answers = moved.status.live[:1] if not service.stopped else ()
    if answers:  # the last good one, where the one that was asked for last never got that far
        moved = moved.model_copy(update={"variants": (Variant(model=answers[0]),)})
    text_model = model.signature.task in RUNTIMES  # no two texts are alike, so there is nothing to compare
    if text_model and spec.strategy == "shadow":
        raise Unsupported("a model of text cannot be a shadow: its answers cannot be compared; deploy it without")
    if not answers or spec.strategy == "now" or text_model or model.id == moved.variants[0].model:
        return Changes(change=(_now(moved, model, desk),))
    text = f"{desk.by} deployed {_say(model)} while {_say_id(moved.variants[0].model, desk)} answers"
    if spec.strategy == "shadow":
        others = (Variant(name="shadow", model=model.id, percent=spec.percent),)
        text += f"; it gets copies of {spec.percent} % of the requests"
    else:
        others = (Variant(name="canary", model=model.id, percent=0),)
    return Changes(change=(rollout.begin(moved, model.id, spec.strategy, spec.guard(), desk.by, text, others),))


def split(name: str, spec: Split, desk: Desk) -> Changes:
    """Divide the requests of a Service by hand. Raises `Invalid` when the shares do not sum to 100."""
    service = _service(name, desk)
    models = [_model(share.model, desk) for share in spec.variants]
    variants = tuple(
        Variant(name=share.name, model=model.id, percent=share.percent)
        for share, model in zip(spec.variants, models, strict=True)
    )
    rollout.check(variants)
    moved = _at_rest(_anew(service, desk), desk).model_copy(
        update={"sticky": service.sticky if spec.sticky is None else spec.sticky}
    )
    said = ", ".join(f"{v.name} {_say(m)} {v.percent} %" for v, m in zip(variants, models, strict=True))
    if len(variants) == 1:
        return Changes(change=(_now(moved, models[0], desk),))
    moved = moved.model_copy(update={"variants": variants})
    text = f"{desk.by} divided the requests: {said}"
    begun = rollout.begin(moved, models[1].id, "split", Guard(), desk.by, text, variants[1:])
    return Changes(change=(begun,))


def test(name: str, spec: Trial, desk: Desk) -> Changes:
    """Try a version against the one that answers, by what callers say of the answers."""
    service, model = _service(name, desk), _model(spec.model, desk)
    moved = _at_rest(_anew(service, desk), desk).model_copy(
        update={"sticky": spec.sticky if spec.sticky is not None else CALLER}
    )
    if model.id == moved.variants[0].model:
        raise Conflict(f"service {name} answers with {_say(model)} already: test another version against it")
    guard = Guard(alpha=spec.alpha, horizon=spec.least, step_seconds=spec.seconds, steps=(spec.percent,))
    text = f"{desk.by} began a test of {_say(model)} with {spec.percent} % of the callers"
    others = (Variant(name="canary", model=model.id, percent=spec.percent),)
    return Changes(change=(rollout.begin(moved, model.id, "test", guard, desk.by, text, others),))


def promote(name: str, desk: Desk) -> Changes:
    """Have the new version of a rollout answer all requests, whatever was seen of it. Raises `Conflict` without one."""
    service = _service(name, desk)
    text = f"{desk.by} promoted {_new(service, desk)}"
    return Changes(change=(rollout.ended(_anew(service, desk), "promote", text, desk.by),))


def rollback(name: str, desk: Desk) -> Changes:
    """Have the version before answer all requests again. Raises `Conflict` when there is none."""
    service = _service(name, desk)
    last = service.rollout
    if last is not None and last.going:
        text = f"{desk.by} rolled {_new(service, desk)} back"
        return Changes(change=(rollout.ended(_anew(service, desk), "rollback", text, desk.by),))
    if not service.history:
        raise Conflict(f"service {name} has no earlier version to go back to: deploy the one you want")
    moved = _now(_anew(service, desk), _model(service.history[-1], desk), desk, "rolled back to")
    return Changes(change=(moved.model_copy(update={"history": service.history[:-1]}),))


def move(name: str, given: Move, desk: Desk) -> Changes:
    """Carry out what the agent of a Site found. Raises `Conflict` when the rollout is elsewhere by now."""
    service = _service(name, desk)
    moved = rollout.settled(service, given)
    facts = {"text": given.text, "figures": given.figures, "phase": given.phase, "step": given.step}
    audit = (Audit.new(name=f"service.{given.what}", subject=name, by=desk.by, facts=facts),) if given.text else ()
    return Changes(change=(moved,), add=audit)


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


# ------------------------------------------------------------------------------------------------------ inside


def _service(name: str, desk: Desk) -> Service:
    found = desk.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    service: Service = found[0]
    return service


def _model(ref: str, desk: Desk) -> Model:
    model: Model = desk.model(ref)
    if not model.files:
        raise Unsupported(f"model {model.name}/{model.version} has no file to serve: publish it again")
    return model


def _say(model: Model) -> str:
    return f"{model.name}/{model.version}"


def _say_id(id: str, desk: Desk) -> str:
    try:
        return _say(desk.get(Model, id))
    except NotFound:
        return id


def _new(service: Service, desk: Desk) -> str:
    return "it" if service.rollout is None else _say_id(service.rollout.model, desk)


def _anew(service: Service, desk: Desk) -> Service:
    """Return the service as it is told to change: what its Site says from now on carries its next revision."""
    old = service.status
    state = ServiceState.UPDATING if old.live and not service.stopped else ServiceState.STARTING
    # `rev` will be that of the record once this is written: what the Site says carries it, and so names this deploy.
    status = ServiceStatus(state=state, rev=service.rev + 1, live=old.live, url=old.url, grpc_url=old.grpc_url)
    return service.model_copy(update={"stopped": False, "status": status, "by": desk.by})


def _at_rest(service: Service, desk: Desk) -> Service:
    """Return the service with the rollout that goes on ended: another one takes its place."""
    if service.rollout is None or not service.rollout.going:
        return service
    text = f"{desk.by} asked for something else before {_new(service, desk)} was through"
    return rollout.ended(service, "rollback", text, desk.by)


def _now(service: Service, model: Model, desk: Desk, word: str = "deployed") -> Service:
    """Return the service moved to a version as soon as it is loaded."""
    old = service.variants[0].model
    good = service.status.live[:1] or (old,)
    fields: dict[str, Any] = {"variants": (Variant(model=model.id),)}
    if model.id != good[0]:
        text = f"{desk.by} {word} {_say(model)}, which answers as soon as it is loaded"
        fields["history"] = rollout.remembered(service, good[0] if service.status.live else None)
        fields["rollout"] = Rollout(
            id=new_id("roll"),
            strategy="now",
            phase=RolloutPhase.PROMOTED,
            model=model.id,
            before=good[0],
            by=desk.by,
            story=(Decision(what="began", text=text),),
        )
    elif service.rollout is not None:  # what became of the last one is over: what is asked for now is what answers
        text = f"{desk.by} {word} {_say(model)}, which answers already"
        told = Decision(what="deployed", text=text, figures={"by": desk.by})
        fields["rollout"] = service.rollout.model_copy(update={"story": rollout.told(service.rollout.story, told)})
    return service.model_copy(update=fields)
