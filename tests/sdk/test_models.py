"""`Model` before anything travels: what it takes, and what it refuses with a clear sentence."""

from types import SimpleNamespace

import pytest
from sklearn.linear_model import LogisticRegression

import leptonai
from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.refs import DatasetRef
from leptonai.sdk import models


def test_a_dataset_or_a_reference() -> None:
    assert models.reference("churn", "train") == "datasets:/churn"
    part = DatasetRef.parse("churn@v2?part=train&train_size=0.8")
    assert models.reference(SimpleNamespace(ref=part), "train") == str(part)
    with pytest.raises(Invalid, match="create_dataset"):
        models.reference([[1, 2]], "train")
    with pytest.raises(Invalid, match="Bad Name"):
        models.reference("Bad Name", "train")


def test_what_is_no_model() -> None:
    with pytest.raises(Unsupported, match="Keras model, a torch"):
        leptonai.Model(object())


def test_without_a_model_there_is_nothing_to_compile() -> None:
    model = leptonai.Model()
    with pytest.raises(Unsupported, match="nothing to compile"):
        model.compile(optimizer="adam")
    assert "picked by the server" in repr(model)


def test_compile_remembers_names_and_objects() -> None:
    model = leptonai.Model(LogisticRegression())
    model.compile(optimizer="adam", loss=len, metrics="mae")
    assert model._compiled == {"optimizer": "adam", "loss": len, "metrics": ["mae"]}
    assert "adam" in repr(model)
    assert "len" in model._repr_html_()
    assert isinstance(model.model, LogisticRegression)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="epoks"):
        leptonai.Model().fit("churn", epoks=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("keywords", "field"), [({"epochs": 0}, "epochs"), ({"batch_size": -1}, "batch_size"), ({"seed": "x"}, "seed")]
)
def test_bad_values_are_named_before_anything_travels(keywords: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid, match=field) as caught:
        leptonai.Model().fit("churn", **keywords)  # type: ignore[arg-type]
    assert caught.value.errors[0].field == field


@pytest.mark.parametrize("verb", ["predict", "evaluate", "publish"])
def test_what_needs_a_trained_model_says_so(verb: str) -> None:
    with pytest.raises(Invalid, match=r"call fit\(…\) before"):
        getattr(leptonai.Model(LogisticRegression()), verb)("name")


def test_a_name_that_is_no_name() -> None:
    with pytest.raises(Invalid, match="name"):
        leptonai.Model().publish("../x")


def test_early_stopping_is_ours_or_that_of_keras() -> None:
    ours = leptonai.EarlyStopping(monitor="val_mae", patience=5)
    assert models._early_stopping([], ours) == ours.model_dump()
    assert models._early_stopping([ours], None) == ours.model_dump()

    class EarlyStopping:  # shaped like keras.callbacks.EarlyStopping
        monitor, patience, min_delta, mode, restore_best_weights, baseline, start_from_epoch = "loss", 2, -0.1, "min", True, None, 0  # fmt: skip

    found = models._early_stopping([EarlyStopping()], None)
    assert found == {"monitor": "loss", "patience": 2, "min_delta": 0.1, "mode": "min", "restore_best": True}
    with pytest.raises(Invalid, match="one EarlyStopping"):
        models._early_stopping([ours], ours)
    EarlyStopping.start_from_epoch = 3
    with pytest.raises(Unsupported, match="start_from_epoch"):
        models._early_stopping([EarlyStopping()], None)
    with pytest.raises(Invalid, match="object"):
        models._parted([object()])
    assert models._parted([print, ours]) == ([ours], [print])
