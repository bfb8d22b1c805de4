"""A version that does not keep its model's rules cannot become champion, by any door; who may pass it is in the audit."""

from typing import Any

from tests.server.conftest import Place

from leptonai.core.nouns import Alias, Audit, Model, Run
from leptonai.core.signature import Signature
from leptonai.registry.verbs import settle_export
from leptonai.server.desk import ServerDesk

RULES = ["accuracy >= 0.8", "worst slice >= 0.6", "latency_p99 <= 5 ms", "not worse than champion (p < 0.05)"]
SIGNATURE: dict[str, Any] = {"inputs": [], "outputs": [], "task": "classification", "classes": ["a", "b"]}


def version(place: Place, number: int) -> Model:
    made = Model.new(
        name="m", version=number, digest=str(number), framework="sklearn", files={}, bytes=1, run=f"run_{number}",
        signature=Signature.of(SIGNATURE), lineage={"run": f"train_{number}"},
    )  # fmt: skip
    place.context.catalog.add(made)
    return made


def measured(place: Place, number: int, accuracy: float, data: str = "datasets:/d@v1", **more: Any) -> Run:
    result = {
        "metrics": {"accuracy": accuracy}, "slices": {"worst": 0.7}, "latency": {"p50": 1.0, "p99": 2.0, "rows": 9},
        "data": data, "left_out": 0, "compared": {}, **more,
    }  # fmt: skip
    spec = {"model": f"models:/m/{number}", "run": f"run_{number}", "data": data}
    run = Run.new(stage="evaluate", spec=spec, state="succeeded", result=result)
    place.context.catalog.add(run)
    return run


def champion(place: Place, number: int, who: str | None = None, **body: Any) -> Any:
    path = "/models/m/aliases/champion"
    asked = {"json": {"version": number, **body}}
    return place.ask("PUT", path, who, **asked) if who is not None else place.ask("PUT", path, **asked)


def test_a_version_that_fails_cannot_become_champion(place: Place) -> None:
    version(place, 1), version(place, 2)
    assert place.ask("PUT", "/gates/m", json={"rules": RULES}).json()["aliases"] == ["champion"]
    unknown = champion(place, 1)
    assert unknown.status_code == 409
    assert "no evaluation of it is known" in unknown.json()["detail"]
    first = measured(place, 1, 0.75)
    refused = champion(place, 1)
    assert refused.status_code == 409
    sentence = f"models:/m/1 may not become champion: accuracy >= 0.8: accuracy is 0.75 in {first.id} on datasets:/d@v1"
    assert refused.json()["detail"] == sentence
    assert [e["field"] for e in refused.json()["errors"]] == ["accuracy >= 0.8"]
    assert place.ask("PUT", "/models/m/aliases/latest", json={"version": 1}).status_code == 200, "it is not guarded"
    measured(place, 1, 0.9)
    assert champion(place, 1).status_code == 200
    measured(place, 2, 0.95)
    assert "no evaluation compares it with models:/m/1" in champion(place, 2).json()["detail"]
    test = {
        "with": "models:/m/1",
        "metric": "accuracy",
        "own": 0.95,
        "other": 0.9,
        "rows": 100,
        "p": 0.9,
        "test": "McNemar, exact",
    }
    measured(place, 2, 0.95, compared={**test, "p": 0.01})
    assert "p of being worse 0.01" in champion(place, 2).json()["detail"]
    measured(place, 2, 0.95, compared=test)
    told = place.ask("GET", "/gates/m/versions/2").json()
    assert [one["passed"] for one in told["verdicts"]] == [True] * 4
    assert champion(place, 2).status_code == 200


def test_only_evaluations_on_the_data_of_the_gate_count(place: Place) -> None:
    version(place, 1)
    body = {"rules": ["accuracy >= 0.8"], "data": "d@v2"}
    assert place.ask("PUT", "/gates/m", json=body).json()["data"] == "datasets:/d@v2"
    measured(place, 1, 0.99)
    measured(place, 1, 0.99, data="datasets:/other@v2")
    assert champion(place, 1).status_code == 409
    measured(place, 1, 0.9, data="datasets:/d@v2?part=test&train_size=0.8")
    assert champion(place, 1).status_code == 200


def test_an_override_needs_a_permission_and_stands_in_the_audit(place: Place) -> None:
    version(place, 1)
    writer = place.key("model:write", name="writer")
    keeper = place.key("model:write", "model:gate", name="keeper")
    assert place.ask("PUT", "/gates/m", writer, json={"rules": RULES}).status_code == 403
    assert place.ask("PUT", "/gates/m", keeper, json={"rules": RULES}).status_code == 200
    assert place.ask("DELETE", "/gates/m", writer).status_code == 403
    assert champion(place, 1, writer).status_code == 409
    denied = champion(place, 1, writer, override="it is late")
    assert denied.status_code == 403
    assert denied.json()["about"]["permission"] == "model:gate"
    assert champion(place, 1, keeper, override="the old one is broken").status_code == 200
    (row,) = place.context.catalog.find(Audit, {"name": "alias.override"})
    assert (row.subject, row.by, row.facts) == (
        "m@champion",
        "keeper",
        {"version": 1, "override": "the old one is broken"},
    )
    assert place.ask("DELETE", "/gates/m", keeper).status_code == 204
    assert place.ask("GET", "/gates/m").status_code == 404
    assert champion(place, 1, writer).status_code == 200


def test_publishing_makes_the_version_and_leaves_the_alias(place: Place) -> None:
    place.ask("PUT", "/gates/m", json={"rules": ["accuracy >= 0.8"]})
    result = {
        "name": "m", "aliases": ["champion", "latest"], "digest": "d", "framework": "sklearn", "files": {}, "bytes": 1,
        "signature": SIGNATURE, "metrics": {"accuracy": 1.0}, "lineage": {"run": "train_9"}, "note": "a note",
    }  # fmt: skip
    changes = settle_export(Run.new(stage="export", spec={}, by="ada"), result, ServerDesk(place.context, "ada"))
    assert [record.alias for record in changes.add if isinstance(record, Alias)] == ["latest"]
    (made,) = (record for record in changes.add if isinstance(record, Model))
    assert made.note.startswith("a note; models:/m/1 may not become champion: accuracy >= 0.8: no evaluation")
    fine = Run.new(
        stage="evaluate", spec={"model": None, "run": "train_9", "data": "datasets:/d@v1"}, state="succeeded",
        result={"metrics": {"accuracy": 0.9}},
    )  # fmt: skip
    place.context.catalog.add(fine)
    changes = settle_export(Run.new(stage="export", spec={}, by="ada"), result, ServerDesk(place.context, "ada"))
    assert [record.alias for record in changes.add if isinstance(record, Alias)] == ["champion", "latest"]


def test_rules_that_are_not_understood_are_refused(place: Place) -> None:
    for rules in (["f1 = 1"], [], ["latency_p99 <= 5"], ["f1 >= 0.9"] * 51):
        assert place.ask("PUT", "/gates/m", json={"rules": rules}).status_code == 422
    assert "write one such as" in place.ask("PUT", "/gates/m", json={"rules": ["f1"]}).json()["detail"]
    assert place.ask("PUT", "/gates/..", json={"rules": RULES}).status_code in (404, 422)
    assert place.ask("GET", "/gates").json()["items"] == []
