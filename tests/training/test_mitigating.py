"""Groups that are to be treated alike: planted rows that favour one, what is left of it, and what cannot be done."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.test_work import asked, handle_for

from leptonai.adapters.frameworks import sklearn_fair
from leptonai.core.errors import Invalid, Unsupported
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


def paid(rows: int = 1600) -> dict[str, Any]:
    """Who is paid well hangs on skill, and on the group; height tells the group."""
    rng = np.random.default_rng(3)
    group = rng.random(rows) < 0.5
    skill = rng.normal(size=rows)
    well = skill + 1.5 * group + rng.normal(size=rows) > 0.8
    return {
        "skill": skill,
        "height": rng.normal(size=rows) + 3 * group,
        "group": np.where(group, "a", "b").astype(object),
        "well": np.where(well, "yes", "no").astype(object),
    }


ODDS = "group:constraint=equalized_odds,within=0.05"


@pytest.mark.parametrize(
    ("kind", "rule", "name"),
    [
        ("linear", ODDS, "odds_difference"),
        ("pipeline", "group", "parity_difference"),
        ("tree", "group", "parity_difference"),
    ],
)
def test_the_difference_between_groups_is_small_afterwards(tmp_path: Path, kind: str, rule: str, name: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    model = {
        "linear": LogisticRegression(),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
        "tree": DecisionTreeClassifier(max_depth=4, random_state=0),
    }[kind]
    handle = handle_for(tmp_path, paid(4000), "well", 2400)
    features = ("skill", "height")
    spec = asked(handle, model, validation="test", learning={"mitigate": rule}, features=features)
    result = train(spec, handle)
    told = {key: values[-1] for key, values in result["history"].items()}
    assert told[f"plain_{name}"] > 0.12, told
    assert told[name] <= (0.05 if "odds" in rule else 0.02), told
    assert told[f"val_{name}"] < told[f"val_plain_{name}"] / 2 + 0.05, told
    assert told["val_accuracy"] > 0.6, told
    assert "group" not in {feature["column"] for feature in result["encoding"]["features"]}
    assert handle.read(train(spec, handle)["weights"]) == handle.read(result["weights"])  # nothing is drawn


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([f"g{n % 200}" for n in range(400)], "'group' has 200 values, and at most 20"),
        (["a"] * 400, "all 400 rows have the same 'group'"),
        (["a"] * 396 + ["b"] * 4, "of 'group' b there are less than 10 rows"),
    ],
)
def test_groups_that_cannot_be_told_apart_are_refused(tmp_path: Path, values: list[str], says: str) -> None:
    from sklearn.linear_model import LogisticRegression

    table = {**{name: column[:400] for name, column in paid().items()}, "group": np.array(values, dtype=object)}
    handle = handle_for(tmp_path, table, "well", 400)
    spec = asked(handle, LogisticRegression(), learning={"mitigate": "group"}, features=("skill", "height"))
    with pytest.raises(Invalid, match=says):
        train(spec, handle)


def test_what_weighs_no_rows_or_has_no_probabilities_is_refused(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    handle = handle_for(tmp_path, paid(400), "well", 400)
    for model, says in (
        (KNeighborsClassifier(), "mitigate: KNeighborsClassifier weighs no rows"),
        (LinearSVC(), "mitigate: LinearSVC gives no probabilities: take a classifier"),
    ):
        spec = asked(handle, model, learning={"mitigate": "group"}, features=("skill", "height"))
        with pytest.raises(Unsupported, match=says):
            train(spec, handle)


def test_differences_are_those_of_fairlearn() -> None:
    from fairlearn import metrics

    rng = np.random.default_rng(0)
    y, scores, groups = rng.integers(0, 2, 500), rng.random(500), rng.integers(0, 3, 500)
    said = (scores > 0.5).astype(int)
    told = sklearn_fair.figures(y, scores, groups)
    parity = metrics.demographic_parity_difference(y, said, sensitive_features=groups)
    odds = metrics.equalized_odds_difference(y, said, sensitive_features=groups)
    assert told["parity_difference"] == pytest.approx(parity, abs=1e-12)
    assert told["odds_difference"] == pytest.approx(odds, abs=1e-12)
