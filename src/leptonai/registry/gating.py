"""Whether a version may have an alias: the rules that are kept with its name, judged by the evaluations of it."""

from typing import Any

from leptonai.core.errors import Conflict, Denied, FieldError, NotFound
from leptonai.core.nouns import Alias, Gate, Model, Run
from leptonai.core.refs import DatasetRef, check_name
from leptonai.core.stages import GATE, RULE, Changes, Desk, load
from leptonai.core.states import RunState
from leptonai.registry.spec import SetGate

PERMISSION = "model:gate"  # to set rules, and to pass a version that does not keep them
_LOOKED = 2000  # evaluations, the newest first, among which those of a version are


def set_gate(name: str, spec: SetGate, desk: Desk) -> Changes:
    """Keep rules with the name of a model. Raises `Invalid` for a rule that is not understood."""
    check_name(name, "model")
    for text in spec.rules:
        load(RULE)(text)
    data = None if spec.data is None else str(DatasetRef.parse(spec.data))
    fields = {"rules": spec.rules, "aliases": spec.aliases, "data": data, "by": desk.by}
    held = gate_of(name, desk)
    if held is None:
        return Changes(add=(Gate(id=name, name=name, **fields),))
    return Changes(change=(held.model_copy(update=fields),))


def drop_gate(name: str, desk: Desk) -> Changes:
    """Take the rules of a model away. Raises `NotFound`."""
    held = gate_of(name, desk)
    if held is None:
        raise NotFound(f"model {name} has no gate")
    return Changes(drop=(held,))


def gate_of(name: str, desk: Desk) -> Gate | None:
    """Return the gate of a model, if it has one."""
    try:
        found: Gate = desk.get(Gate, name)
    except NotFound:
        return None
    return found


def verdicts(model: Model, desk: Desk) -> list[dict[str, Any]]:
    """Return, for each rule of its gate, whether the version keeps it and a sentence that says so; empty without a gate."""
    gate = gate_of(model.name, desk)
    if gate is None:
        return []
    found: list[dict[str, Any]] = load(GATE)(gate.rules, _evidence(model, gate, desk))
    return found


def admit(alias: str, model: Model, desk: Desk, override: str = "") -> None:
    """Raise `Conflict` that names the rules which the version does not keep, `Denied` where an override is not permitted."""
    if override and not desk.may(PERMISSION):
        raise Denied(
            f"{desk.by} lacks the permission {PERMISSION}, which passing a version by a gate needs",
            permission=PERMISSION,
        )
    gate = gate_of(model.name, desk)
    if override or gate is None or alias not in gate.aliases:
        return
    if failed := [one for one in verdicts(model, desk) if not one["passed"]]:
        said = "; ".join(one["text"] for one in failed)
        raise Conflict(
            f"models:/{model.name}/{model.version} may not become {alias}: {said}",
            errors=[FieldError(one["rule"], one["text"]) for one in failed],
        )


def _evidence(model: Model, gate: Gate, desk: Desk) -> dict[str, Any]:
    own = f"models:/{model.name}/{model.version}"
    trained = model.lineage.get("run")
    holders = {held.alias: desk.get(Model, held.model) for held in desk.find(Alias, {"name": model.name}, limit=1000)}
    names = {alias: f"models:/{one.name}/{one.version}" for alias, one in holders.items()}
    runs = [run for run in desk.find(Run, {"stage": "evaluate"}, limit=_LOOKED) if _of(run, own, trained, gate)]
    found: dict[str, Any] = {"source": "", "figures": {}, "compared": {}, "holders": names, "own": own}
    if not runs:
        return found
    # A paired test is that of the newest evaluation which compares it with whoever has an alias now.
    empty: dict[str, Any] = {}
    paired = next(
        (r for run in runs if (r := _result(run).get("compared", empty)).get("with") in names.values()), empty
    )
    newest = _result(runs[0])
    figures = dict(newest["metrics"])
    if "worst" in newest.get("slices", {}):
        figures["worst slice"] = newest["slices"]["worst"]
    if "worst" in newest.get("robustness", {}):
        figures["worst spoilt"] = newest["robustness"]["worst"]
    for differences in newest.get("fairness", {}).values():  # the largest of all sensitive columns
        figures |= {name: max(value, figures.get(name, 0.0)) for name, value in differences.items()}
    figures |= {f"latency_{name}": value for name, value in newest.get("latency", {}).items() if name != "rows"}
    return found | {
        "source": f"{runs[0].id} on {newest.get('data') or runs[0].spec['data']}",
        "figures": figures,
        "compared": paired,
        "left_out": newest.get("left_out", 0),
    }


def _of(run: Run, own: str, trained: Any, gate: Gate) -> bool:
    """Whether a Run is an evaluation of this version, on the data that the gate asks for."""
    if run.state is not RunState.SUCCEEDED or run.result is None:
        return False
    if run.spec.get("model") != own and (run.spec.get("model") is not None or run.spec.get("run") != trained):
        return False
    if gate.data is None:
        return True
    wanted, got = DatasetRef.parse(gate.data), DatasetRef.parse(run.spec["data"])
    return (
        wanted.name == got.name
        and wanted.version in (None, got.version)
        and (not wanted.splits or wanted.splits == got.splits)
    )


def _result(run: Run) -> dict[str, Any]:
    return run.result or {}
