"""From a report that shows a gap to a model that treats groups alike: one keyword, and a version like any other."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.support.lepton import Lepton

import leptonai
from leptonai.core.errors import Invalid
from leptonai.sdk import client


def people(path: Path, rows: int = 800) -> None:
    random = np.random.default_rng(3)
    lines = []
    for _ in range(rows):
        group, skill = random.random() < 0.5, random.normal()
        well = skill + 1.5 * group + random.normal() > 0.8
        height, kind = random.normal() + 3 * group, ["b", "a"][group]
        lines.append(f"{skill:.4f},{height:.4f},{kind},{'yes' if well else 'no'}")
    path.write_text("skill,height,kind,well\n" + "\n".join(lines) + "\n")


@pytest.mark.slow
def test_a_gap_that_a_report_shows_is_mitigated(home: Path, tmp_path: Path) -> None:
    people(tmp_path / "people.csv")
    data = leptonai.create_dataset("people", files=tmp_path / "people.csv", target="well")
    train, test = data.split(train_size=0.6)
    model = leptonai.Model(LogisticRegression())
    model.fit(train)
    before = model.evaluate(test, sensitive=["kind"])
    assert before.fairness["kind"]["parity_difference"] > 0.3
    history = model.fit(train, validation_data=test, mitigate="kind")
    told = {name: values[-1] for name, values in history.history.items()}
    assert told["parity_difference"] <= 0.02 < 0.3 < told["plain_parity_difference"]
    assert "mitigate: " in "\n".join(history.run.logs())
    after = model.evaluate(test, sensitive=["kind"])
    assert after.fairness["kind"]["parity_difference"] == pytest.approx(told["val_parity_difference"])
    assert after.fairness["kind"]["parity_difference"] < 0.12
    assert any("mitigate='kind'" in note for note in after.notes)
    version = model.publish("people")
    rows = [{"skill": 0.4, "height": height} for height in (0.0, 3.0)]  # the column itself is not asked for
    answers = version.deploy("people").predict(rows)
    assert len(answers) == 2
    assert "model.onnx" in version.files
    lepton = Lepton(tmp_path)  # the same home
    line = (
        "run",
        "create",
        "train",
        "--data",
        "people",
        "--learn",
        "mitigate=kind:constraint=equalized_odds,within=0.05",
    )
    sent = lepton.json(*line, "--dry-run")
    assert "equalized_odds" in json.dumps(sent)
    spec = {**history.run.record.spec, "learning": {"mitigate": {"column": "kind", "within": 0.05}}}
    made = client.current().http.call("POST", "/runs", json={"stage": "train", "spec": spec})
    assert leptonai.get_run(made["id"]).wait().record.result["history"]["parity_difference"][-1] <= 0.05
    runs = len(leptonai.list_runs())
    for given, says in (
        ({"mitigate": "sex"}, "mitigate: datasets:/people@v1 has no column 'sex'"),
        ({"mitigate": "well"}, "'well' is the target"),
        ({"mitigate": "height"}, "'height' is of type number: make groups of it"),
        ({"mitigate": "kind", "class_weights": "balanced"}, "cannot do it together with class_weights"),
        ({"mitigate": "kind", "target": "skill"}, "mitigate is for classes, and the target is a number"),
        ({"mitigate": "kind:constraint=parity"}, r"mitigate\.constraint"),
    ):
        with pytest.raises(Invalid, match=says):
            model.fit("people", **given)  # type: ignore[arg-type]
    assert len(leptonai.list_runs()) == runs
