"""What the registry answers at once: a new version, and which version an alias points at.

Versions never change. An alias has exactly one holder, because its id is ``model@alias`` and the database holds ids
unique: to move it is one conditional write, in the same transaction as whatever else its caller writes.

Each verb returns `Changes` and writes nothing. Whoever writes them and meets `Stale` or `Conflict` was overtaken (a
version number was taken, an alias moved): he calls the verb again, which looks anew.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from leptonai.core.errors import Conflict, FieldError, NotFound
from leptonai.core.nouns import Alias, Model, Run, Service
from leptonai.core.refs import check_name
from leptonai.core.signature import Signature, Task, TensorSpec
from leptonai.core.stages import Changes, Desk
from leptonai.registry import gating
from leptonai.registry.spec import ImportModel, SetAlias, check_files


def _text(task: Task, given: str, made: str, datatype: str, shape: tuple[int, ...]) -> Signature:
    return Signature((TensorSpec(given, "BYTES", (-1,)),), (TensorSpec(made, datatype, shape),), task)


_TEXT = {
    "chat": _text("chat", "messages", "message", "BYTES", (-1,)),
    "embedding": _text("embedding", "input", "embedding", "FP32", (-1, -1)),
}
_ALL = 10_000  # more services or versions of one name than anybody has


def settle_export(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:
    """Return the Model that an export Run made, as the next version of its name, and the moves of its aliases.

    To be written in the transaction that ends the Run, so that a version is there with its aliases or not at all.
    """
    name = check_name(result["name"], "model")
    taken = [model.version for model in desk.find(Model, {"name": name}, limit=_ALL)]
    model = Model.new(
        name=name,
        version=max(taken, default=0) + 1,
        digest=result["digest"],
        framework=result["framework"],
        files=result["files"],
        bytes=result["bytes"],
        signature=result["signature"],
        metrics=result["metrics"],
        lineage=result["lineage"],
        run=run.id,
        note=result["note"],
        by=run.by,
    )
    moves, refused = [], []
    for alias in dict.fromkeys(result["aliases"]):
        try:
            moves.append(_point(alias, model, run.by, desk))
        except Conflict as error:  # the version is there all the same, for whoever makes it better
            refused.append(error.message)
    if refused:
        model = model.model_copy(update={"note": "; ".join(filter(None, (model.note, *refused)))})
    return Changes(
        add=(model, *(record for move in moves for record in move.add)),
        change=tuple(record for move in moves for record in move.change),
    )


def import_model(spec: ImportModel, desk: Desk) -> Changes:
    """Return the Model of files that were uploaded before, as the next version of its name. Raises `Invalid`.

    What the files hold is found out where they are loaded, in a process of their own.
    """
    check_files(spec.task, spec.files)
    contents = {name: file.sha256 for name, file in sorted(spec.files.items())}
    taken = [model.version for model in desk.find(Model, {"name": spec.name}, limit=_ALL)]
    model = Model.new(
        name=spec.name,
        version=max(taken, default=0) + 1,
        digest=hashlib.sha256(json.dumps([spec.task, contents]).encode()).hexdigest(),
        framework="llamacpp" if spec.task == "chat" else "encoder",
        files={name: file.blob for name, file in spec.files.items()},
        bytes=sum(file.size for file in spec.files.values()),
        signature=_TEXT[spec.task],
        lineage={"imported": True, "files": contents},
        run="",
        note=spec.note,
        by=desk.by,
    )
    moves = [_point(alias, model, desk.by, desk) for alias in dict.fromkeys(spec.aliases)]
    return Changes(
        add=(model, *(record for move in moves for record in move.add)),
        change=tuple(record for move in moves for record in move.change),
    )


def set_alias(name: str, spec: SetAlias, desk: Desk) -> Changes:
    """Point an alias of the model `name` at one of its versions. Raises `NotFound`, or `Conflict` where its gate refuses it."""
    found = desk.find(Model, {"name": name, "version": spec.version}, limit=1)
    if not found:
        raise NotFound(
            f"model {name} has no version {spec.version}", errors=[FieldError("version", _versions(name, desk))]
        )
    return _point(spec.alias, found[0], desk.by, desk, spec.override)


def drop_alias(name: str, alias: str, desk: Desk) -> Changes:
    """Take an alias away; the version it points at stays. Raises `NotFound`."""
    try:
        return Changes(drop=(desk.get(Alias, f"{name}@{alias}"),))
    except NotFound:
        raise NotFound(f"model {name} has no alias {alias!r}") from None


def delete_model(model: Model, desk: Desk) -> Changes:
    """Take a version away. Raises `Conflict` while an alias or a Service needs it, naming all that do."""
    holders = [f"alias {alias.alias}" for alias in desk.find(Alias, {"model": model.id}, limit=_ALL)]
    holders += [
        f"service {service.name}"
        for service in desk.find(Service, limit=_ALL)
        if any(variant.model == model.id for variant in service.variants) or model.id in service.status.live
    ]
    if holders:
        raise Conflict(
            f"model {model.name}/{model.version} is in use by {', '.join(holders)}: move or delete that first",
            errors=[FieldError(holder, f"points at version {model.version}") for holder in holders],
        )
    return Changes(drop=(model,))


def _point(alias: str, model: Model, by: str, desk: Desk, override: str = "") -> Changes:
    check_name(alias, "alias")
    gating.admit(alias, model, desk, override)
    try:
        held = desk.get(Alias, f"{model.name}@{alias}")
    except NotFound:
        return Changes(add=(Alias.new(name=model.name, alias=alias, model=model.id, by=by),))
    return Changes(change=(held.model_copy(update={"model": model.id, "by": by}),))


def _versions(name: str, desk: Desk) -> str:
    numbers = sorted(model.version for model in desk.find(Model, {"name": name}, limit=20))
    return f"one of {', '.join(map(str, numbers))}" if numbers else f"there is no model {name} yet"
