"""Gates: the rules that versions of a model must keep before an alias such as ``champion`` may point at them."""

from functools import partial

from starlette.responses import Response

from leptonai.core.errors import NotFound
from leptonai.core.nouns import Audit, Gate
from leptonai.core.stages import Changes, load
from leptonai.registry.spec import SetGate
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Routes, Who, Word
from leptonai.server.wire import Json, one, page
from leptonai.server.writing import write

routes = Routes()
_VERBS = "leptonai.registry.gating"


@routes.route("GET", "/gates", "model:read")
def list_gates(here: Here, name: Word = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List gates, newest first."""
    return page(partial(here.catalog.find, Gate, {} if name is None else {"name": name}), limit, cursor)


@routes.route("GET", "/gates/{name}", "model:read")
def get_gate(name: str, here: Here) -> Response:
    """Return the rules of a model."""
    try:
        return one(here.catalog.get(Gate, name))
    except NotFound:
        raise NotFound(f"model {name[:100]} has no gate") from None


@routes.route("PUT", "/gates/{name}", "model:gate")
def put_gate(name: str, body: SetGate, here: Here, desk: AtDesk, who: Who) -> Response:
    """Set the rules of a model; they are judged whenever one of their aliases is to move."""
    facts = body.model_dump(mode="json")
    audit = Audit.new(name="gate.set", subject=name, by=who.name, facts=facts)
    write(here, lambda: Changes.of(load(f"{_VERBS}:set_gate")(name, body, desk)), audit)
    return one(here.catalog.get(Gate, name))


@routes.route("DELETE", "/gates/{name}", "model:gate")
def delete_gate(name: str, here: Here, desk: AtDesk, who: Who) -> Response:
    """Take the rules of a model away."""
    audit = Audit.new(name="gate.drop", subject=name, by=who.name)
    write(here, lambda: Changes.of(load(f"{_VERBS}:drop_gate")(name, desk)), audit)
    return Response(status_code=204)


@routes.route("GET", "/gates/{name}/versions/{version}", "model:read")
def judge_version(name: str, version: str, desk: AtDesk) -> Response:
    """Say, rule by rule, whether a version would pass."""
    model = desk.model(f"{name}/{version}")
    return Json({"model": f"models:/{model.name}/{model.version}", "verdicts": load(f"{_VERBS}:verdicts")(model, desk)})
