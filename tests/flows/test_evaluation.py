"""From two trainings to a champion: a report with a page and a card, the worst subgroup, and a gate that holds a poor version back."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from tests.support.lepton import Lepton

import leptonai
from leptonai.core.errors import Conflict, Invalid


def people(path: Path) -> None:
    random = np.random.default_rng(0)
    lines = []
    for _ in range(1500):
        age, spend, plan = random.normal(40, 10), random.normal(), ["basic", "pro"][int(random.random() < 0.3)]
        left = (spend > 0) != (random.random() < (0.35 if plan == "pro" else 0.05))
        lines.append(f"{age:.1f},{spend:.3f},{plan},{'yes' if left else 'no'}")
    path.write_text("age,spend,plan,left\n" + "\n".join(lines) + "\n")


def test_a_report_and_a_gate(home: Path, tmp_path: Path) -> None:
    people(tmp_path / "people.csv")
    train, test = leptonai.create_dataset("people", files=tmp_path / "people.csv").split(train_size=0.5)
    good = leptonai.Model(LogisticRegression())
    good.fit(train)
    report = good.evaluate(
        test,
        costs={"fp": 1, "fn": 5},
        sensitive=["plan"],
        importance=True,
        robustness=True,
        explain=True,
        outliers=True,
    )
    low, high = report.intervals["accuracy"]
    assert low < report.accuracy < high
    assert report.slices[0]["where"] == {"plan": "pro"}
    assert report.threshold["threshold"] < 0.5
    assert report.curves["roc"]["yes"]["x"][-1] == 1
    assert report.fairness["plan"]["accuracy_difference"] > 0.1
    assert {one["group"] for one in report.groups} == {"basic", "pro"}
    assert report.importance[0]["column"] == "spend"
    assert report.explanation["columns"][0]["column"] == "spend"
    assert report.outliers["share"] < 0.05
    assert len(report.farthest) == 20
    assert report.robustness["worst"] < report.robustness["clean"]
    assert "What spoilt rows cost it" in report.html()
    assert "### Spoilt rows" in report.card()
    assert "Alike for all of plan?" in report.html(tmp_path / "fair.html")
    assert "Where it is worst" in report.html(tmp_path / "report.html")
    assert "### Where it is worst" in report.card()
    first = good.publish("people", aliases=["champion"])
    leptonai.set_gate(
        "people",
        [
            "accuracy >= 0.7",
            "worst slice >= 0.5",
            "odds_difference <= 0.9",
            "latency_p99 <= 1 s",
            "not worse than champion",
        ],
    )
    poor = leptonai.Model(DummyClassifier())
    poor.fit(train)
    second = poor.publish("people")
    found = second.evaluate(test, against="champion", sensitive=["plan"])
    assert found.compared["with"] == first.ref
    assert found.compared["p"] < 0.01
    with pytest.raises(Conflict, match=r"may not become champion: accuracy >= 0.7: accuracy is"):
        second.set_alias("champion")
    assert [one["passed"] for one in second.verdicts()].count(False) >= 2
    assert first.aliases == ["champion"]
    row = {"age": 41.0, "spend": 1.2, "plan": "pro"}
    why = first.deploy("people").explain(row)
    assert why["of"] == "yes"
    assert why["shares"][0]["column"] == "spend"
    assert why["base"] + sum(one["share"] for one in why["shares"]) == pytest.approx(why["score"])
    with pytest.raises(Invalid, match="row 1: column 'age' is missing"):
        leptonai.get_service("people").explain({"spend": 1.0, "plan": "pro"})
    lepton = Lepton(tmp_path)  # the same home
    assert lepton.json("service", "explain", "people", "--rows", json.dumps(row))["shares"] == why["shares"]
    assert lepton.json("run", "show", found.run.id, "--html", "two.html")["compared"]["with"] == first.ref
    assert (tmp_path / "two.html").exists()
    refused = lepton("model", "update", second.ref, "--alias", "champion", code=1)
    assert "may not become champion: accuracy >= 0.7" in refused
    assert [one["passed"] for one in lepton.json("model", "gate", second.ref)["verdicts"]].count(False) >= 2
    lepton("model", "update", second.ref, "--alias", "champion", "--override", "a test")
    assert second.aliases == ["champion"]
