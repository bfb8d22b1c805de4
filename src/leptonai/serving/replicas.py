"""How many replicas a Service may have: for versions that processes of their own compute."""

from leptonai.core.errors import FieldError, NotFound, Unsupported
from leptonai.core.nouns import Model, Service
from leptonai.core.replicas import Replicas
from leptonai.core.stages import Changes, Desk
from leptonai.serving.text.kinds import RUNTIMES

_ONNX = "model.onnx"


def ask(name: str, replicas: Replicas | None, desk: Desk) -> Changes:
    """Change the range of a Service; None: as many as its version says. Raises `NotFound`, and `Unsupported` as `check` does."""
    found = desk.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    service: Service = found[0]
    if replicas is not None:
        check(desk.get(Model, service.wanted))
    return Changes(change=(service.model_copy(update={"replicas": replicas}),))


def check(model: Model) -> None:
    """Raise `Unsupported` for a version that has no workers, of which there could be more."""
    said = f"model {model.name}/{model.version}"
    if _ONNX in model.files:
        raise Unsupported(
            f"{said} is computed in the serving processes themselves, of which there is one for each core (setting planes): "
            "deploy it without replicas",
            errors=[FieldError("replicas", "for versions without an ONNX file")],
        )
    if model.signature.task in RUNTIMES:
        raise Unsupported(
            f"{said} is a model of text: one process answers many callers at once (setting chats): deploy it without replicas",
            errors=[FieldError("replicas", "for versions that workers compute")],
        )
