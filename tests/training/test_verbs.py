"""What the server says at once to a training, a prediction, an export: resolved, or refused with the reason."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.desk import CatalogDesk, desk

from leptonai.core.errors import Denied, Invalid, LeptonError, NotFound, Unsupported
from leptonai.core.nouns import Column, Dataset
from leptonai.training.spec import EarlyStopping, Export, Fitted, Predict, Train
from leptonai.training.verbs import prepare_export, prepare_predict, prepare_train

COLUMNS = (
    Column(name="age", type="number"),
    Column(name="words", type="text", dtype="str"),
    Column(name="kind", type="category", dtype="str", categories=("a", "b")),
    Column(name="churned", type="boolean", dtype="bool"),
)
FITTED: dict[str, Any] = {
    "framework": "torch", "flavour": "torch", "code": "c0de", "weights": "w8", "activation": "softmax",
    "history": {"loss": [1.0]}, "epochs": 1, "data": "datasets:/churn@v2", "dataset": "", "parameters": 1, "seed": 0,
    "versions": {}, "events": "ev",
    "encoding": {
        "features": [{"column": "age", "op": "scale", "type": "number", "dtype": "float64"}],
        "target": "churned", "task": "classification", "classes": [0, 1],
    },
}  # fmt: skip


@pytest.fixture
def at(tmp_path: Path) -> Iterator[CatalogDesk]:
    with desk(tmp_path) as found:
        for version, columns in ((1, COLUMNS[:1]), (2, COLUMNS)):
            found.keep(
                Dataset.new(
                    name="churn", version=version, digest=str(version), rows=10, bytes=1, columns=columns,
                    target="churned" if version == 2 else None, manifest=f"m{version}", shards=(f"s{version}a", f"s{version}b"),
                )
            )  # fmt: skip
        yield found


def test_a_training_is_resolved(at: CatalogDesk) -> None:
    code = at.blob("c0de")
    spec = Train(
        data="churn?part=train&train_size=0.8", validation="datasets:/churn@v2?part=test&train_size=0.8",
        features=("age", "kind"), framework="torch", flavour="torch", code=code,
    )  # fmt: skip
    plan = prepare_train(spec, at)
    assert plan.spec["data"] == "datasets:/churn@v2?part=train&train_size=0.8&seed=0&stratify=true"
    assert plan.spec["validation"].startswith("datasets:/churn@v2?part=test")
    assert (plan.spec["target"], plan.flavour, plan.name) == ("churned", "torch", "train-churn")
    assert set(plan.opens) == {"m2", "s2a", "s2b", "c0de"}
    assert prepare_train(Train.model_validate(plan.spec), at) == plan


def test_rows_are_changed_as_the_dataset_says_unless_the_training_does(at: CatalogDesk) -> None:
    image = Column(name="image", type="image", shape=(8, 8, 1), dtype="uint8")
    at.keep(
        Dataset.new(
            name="pets", version=1, digest="3", rows=9, bytes=1, columns=(image, COLUMNS[2]), target="kind", manifest="m3",
            source={"augment": ["flip", {"op": "rotate", "degrees": 9}]},
        )
    )  # fmt: skip

    def steps(data: str, **more: Any) -> list[str]:
        plan = prepare_train(Train(data=data, **more), at)
        assert prepare_train(Train.model_validate(plan.spec), at) == plan
        return [step["op"] for step in plan.spec["augment"]]

    assert steps("pets") == steps("pets?part=train&train_size=0.8") == ["flip", "rotate"]
    assert steps("pets?part=test&train_size=0.8") == steps("pets", augment=()) == []
    assert steps("pets", augment=("noise",)) == ["noise"]


def test_without_a_model_one_is_picked_by_the_columns(at: CatalogDesk) -> None:
    assert prepare_train(Train(data="churn", features=("age",)), at).flavour == "sklearn"
    image = Column(name="image", type="image", shape=(8, 8, 1), dtype="uint8")
    at.keep(
        Dataset.new(name="pets", version=1, digest="3", rows=9, bytes=1, columns=(image, COLUMNS[2]), target="kind", manifest="m3")
    )  # fmt: skip
    plan = prepare_train(Train(data="pets"), at)
    assert (plan.flavour, plan.spec["epochs"]) == ("torch", 10)
    assert prepare_train(Train(data="pets", epochs=1), at).spec["epochs"] == 1


def test_a_sensitive_column_is_left_out_of_what_the_model_sees_unless_it_is_named(at: CatalogDesk) -> None:
    at.keep(
        Dataset.new(
            name="staff", version=1, digest="4", rows=9, bytes=1, columns=(COLUMNS[0], *COLUMNS[2:]), target="churned", manifest="m4"
        )
    )  # fmt: skip
    learning: Any = {"mitigate": "kind"}
    plan = prepare_train(Train(data="staff", learning=learning), at)
    assert plan.spec["features"] == ["age"]
    assert prepare_train(Train.model_validate(plan.spec), at) == plan
    both = prepare_train(Train(data="staff", features=("age", "kind"), learning=learning), at)
    assert both.spec["features"] == ["age", "kind"]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"data": "nothing"}, NotFound, "nothing"),
        ({"data": "churn@v1"}, Invalid, "no target"),
        ({"data": "churn"}, Unsupported, r"'words' is text.*features="),
        ({"data": "churn", "target": "agee"}, Invalid, "'agee'; it has age, words"),
        ({"data": "churn", "features": ("age", "income")}, Invalid, "'income'"),
        ({"data": "churn", "features": ("age", "churned")}, Invalid, "'churned' cannot be a feature"),
        ({"data": "churn", "features": ("age", "age")}, Invalid, "age is named twice"),
        ({"data": "churn", "features": ("age",), "validation": "churn@v1"}, Invalid, "'churned'"),
        ({"data": "churn", "features": ("age",), "framework": "torch"}, Invalid, "code"),
        ({"data": "churn", "features": ("age",), "framework": "mxnet", "code": "c0de"}, Invalid, "'mxnet'.*keras, lightgbm, sklearn, torch"),
        ({"data": "churn", "features": ("age",), "framework": "torch", "code": "gone"}, Invalid, "'gone'"),
        ({"data": "churn", "features": ("age",), "framework": "torch", "code": "theirs"}, Denied, "theirs"),
        ({"data": "churn", "features": ("age",), "framework": "torch", "code": "c0de", "flavour": "x"}, Invalid, "'x'"),
        ({"data": "churn", "features": ("age",), "early_stopping": EarlyStopping()}, Invalid, "val_loss.*validation"),
        ({"data": "churn", "features": ("age",), "learning": {"ema": 0.9}}, Unsupported, "ema: a model of sklearn cannot.* keras and torch can"),
        ({"data": "churn", "features": ("age",), "callbacks": "theirs"}, Denied, "callbacks.*theirs"),
        ({"data": "churn", "features": ("kind",), "target": "age", "learning": {"class_weights": "balanced"}}, Invalid, "is for classes"),
        ({"data": "churn", "features": ("age",), "learning": {"mitigate": "sex"}}, Invalid, "mitigate: datasets:/churn@v2 has no column 'sex'"),
        ({"data": "churn", "features": ("age",), "learning": {"mitigate": "churned"}}, Invalid, "'churned' is the target"),
        ({"data": "churn", "features": ("age",), "learning": {"mitigate": "age"}}, Invalid, "'age' is of type number: make groups of it"),
        ({"data": "churn", "features": ("kind",), "target": "age", "learning": {"mitigate": "kind"}}, Invalid, "mitigate is for classes"),
        (
            {"data": "churn", "features": ("age",), "framework": "torch", "code": "c0de", "learning": {"mitigate": "kind"}},
            Unsupported, "mitigate: a model of torch cannot do it; models of sklearn can",
        ),
        (
            {"data": "churn", "features": ("age",), "learning": {"mitigate": "kind", "class_weights": "balanced"}},
            Unsupported, "cannot do it together with class_weights",
        ),
        ({"data": "churn", "features": ("age",), "shuffle": False, "learning": {"balanced_sampling": True}}, Invalid, "leave shuffle on"),
        (
            {"data": "churn", "features": ("age",), "framework": "torch", "code": "c0de", "learning": {"schedule": "plateau:monitor=val_f1"}},
            Invalid, "watch 'f1'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_said_at_once(
    at: CatalogDesk, given: dict[str, Any], error: type[LeptonError], says: str
) -> None:
    at.blob("c0de")
    at.blob("theirs", owner="somebody")
    with pytest.raises(error, match=says):
        prepare_train(Train(**given), at)


def trained(at: CatalogDesk, **more: Any) -> str:
    return at.ended("train", {**FITTED, "dataset": at.dataset("churn").id}, **more).id


def test_predict_and_export_open_what_was_learnt(at: CatalogDesk) -> None:
    run = trained(at)
    plan = prepare_predict(Predict(run=run, data="churn"), at)
    assert (plan.spec["data"], plan.flavour) == ("datasets:/churn@v2", "torch")
    assert set(plan.opens) == {"m2", "s2a", "s2b", "c0de", "w8"}
    measured = at.ended("evaluate", {}, spec={"run": run})
    plan = prepare_export(Export(run=run, name="churn", evaluation=measured.id), at)
    assert set(plan.opens) == {"m2", "s2a", "s2b", "c0de", "w8", "ev"}
    assert (plan.flavour, plan.name) == ("torch", "export-churn")


def test_what_was_not_learnt_cannot_be_used(at: CatalogDesk) -> None:
    run, other = trained(at), trained(at)
    failed = at.ended("train", None, state="failed").id
    made = at.ended("import", {}).id
    for bad, says in ((failed, "is failed"), (made, "of stage import")):
        with pytest.raises(Invalid, match=says):
            prepare_predict(Predict(run=bad, data="churn"), at)
        with pytest.raises(Invalid, match=says):
            prepare_export(Export(run=bad, name="a"), at)
    with pytest.raises(NotFound):
        prepare_export(Export(run="run_nothing", name="a"), at)
    of_other = at.ended("evaluate", {}, spec={"run": other}).id
    with pytest.raises(Invalid, match=f"measured run {other}"):
        prepare_export(Export(run=run, name="a", evaluation=of_other), at)
    with pytest.raises(Invalid, match="evaluate Run that succeeded"):
        prepare_export(Export(run=run, name="a", evaluation=failed), at)
    at.keep(Dataset.new(name="other", version=1, digest="9", rows=1, bytes=1, columns=COLUMNS[1:2], manifest="m9"))
    with pytest.raises(Invalid, match="'age'"):
        prepare_predict(Predict(run=run, data="other"), at)


def test_a_loss_that_is_no_number_survives_json() -> None:
    fitted = Fitted.model_validate({**FITTED, "history": {"loss": [1.0, float("nan"), float("inf")]}})
    found = fitted.model_dump(mode="json")
    assert found["history"]["loss"] == [1.0, None, None]
    again = Fitted.model_validate(found).history["loss"]
    assert again[0] == 1.0
    assert all(value != value for value in again[1:])
