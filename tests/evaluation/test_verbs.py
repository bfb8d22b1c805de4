"""What the server says at once to an evaluation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.desk import CatalogDesk, desk

from leptonai.core.errors import Invalid, NotFound
from leptonai.core.nouns import Column, Dataset, Model
from leptonai.core.signature import Signature
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.verbs import prepare_evaluate

LEARNT: dict[str, Any] = {
    "code": "c", "weights": "w", "flavour": "sklearn", "encoding": {"task": "classification", "features": [{"column": "a"}], "target": "y"}
}  # fmt: skip


@pytest.fixture
def at(tmp_path: Path) -> Iterator[CatalogDesk]:
    columns = (Column(name="a", type="number"), Column(name="y", type="number"))
    with desk(tmp_path) as found:
        for name, has in (("good", columns), ("narrow", columns[:1])):
            found.keep(
                Dataset.new(name=name, version=1, digest=name, rows=1, bytes=1, columns=has, manifest=f"m-{name}")
            )
        yield found


def test_a_training_run(at: CatalogDesk) -> None:
    run = at.ended("train", LEARNT)
    plan = prepare_evaluate(Evaluate(run=run.id, data="good"), at)
    assert (plan.spec["run"], plan.spec["model"], plan.spec["data"]) == (run.id, None, "datasets:/good@v1")
    assert (set(plan.opens), plan.flavour, plan.name) == ({"m-good", "c", "w"}, "sklearn", "evaluate-good")


def test_a_published_version(at: CatalogDesk) -> None:
    run = at.ended("train", LEARNT)
    made = at.ended("export", {})
    signature = Signature(inputs=(), outputs=(), task="regression")
    at.keep(
        Model.new(
            name="m", version=3, digest="d", framework="sklearn", files={"model.onnx": "o"}, bytes=1, signature=signature,
            lineage={"run": run.id}, run=made.id,
        )
    )  # fmt: skip
    plan = prepare_evaluate(Evaluate(model="m", data="good"), at)
    assert (plan.spec["run"], plan.spec["model"]) == (made.id, "models:/m/3")
    assert set(plan.opens) == {"m-good", "c", "w", "o"}


def test_what_cannot_be_measured_is_said_at_once(at: CatalogDesk) -> None:
    run = at.ended("train", LEARNT)
    for given in ({}, {"run": run.id, "model": "m"}):
        with pytest.raises(Invalid, match="either run"):
            prepare_evaluate(Evaluate(data="good", **given), at)
    with pytest.raises(Invalid, match="no column 'y'"):
        prepare_evaluate(Evaluate(run=run.id, data="narrow"), at)
    with pytest.raises(Invalid, match="is failed"):
        prepare_evaluate(Evaluate(run=at.ended("train", None, state="failed").id, data="good"), at)
    with pytest.raises(Invalid, match="not a train Run"):
        prepare_evaluate(Evaluate(run=at.ended("import", {}).id, data="good"), at)
    for given in ({"run": run.id, "data": "nothing"}, {"run": "run_0", "data": "good"}, {"model": "m", "data": "good"}):
        with pytest.raises(NotFound):
            prepare_evaluate(Evaluate(**given), at)
