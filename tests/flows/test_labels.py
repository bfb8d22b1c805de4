"""Labels on real digits: wrong ones are found and mended, and a few set by hand become many that are as good as asked."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from typer.testing import CliRunner

import leptonai
from leptonai.cli.main import app
from leptonai.core.errors import Invalid

PIXELS, TRUTH = load_digits(return_X_y=True)


def written(path: Path, labels: list[str]) -> Path:
    names = [f"p{i}" for i in range(64)]
    lines = [",".join([*names, "label"])]
    lines += [",".join([*(f"{value:g}" for value in row), label]) for row, label in zip(PIXELS, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def word() -> list[str]:
    return [f"digit-{label}" for label in TRUTH]


@pytest.mark.slow  # the page on labels tells the same in each run
def test_wrong_labels_are_found_and_mended(home: Path, tmp_path: Path, word: list[str]) -> None:
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(word), len(word) // 20, replace=False)
    given = list(word)
    for row in wrong.tolist():
        given[row] = f"digit-{(TRUTH[row] + rng.integers(1, 10)) % 10}"
    data = leptonai.create_dataset("digits", files=written(tmp_path / "digits.csv", given))
    model = leptonai.Model(ExtraTreesClassifier(50, random_state=0))
    history = model.fit(data)

    found = data.find_label_errors(run=history)
    rows = {error.row for error in found}
    hits = rows & set(wrong.tolist())
    assert len(hits) / len(wrong) > 0.8  # most are found...
    print("found", len(hits) / len(wrong), "right", len(hits) / len(rows))
    assert len(hits) / len(rows) > 0.8  # ...and most of what is found is wrong
    assert all(error.given == given[error.row] for error in found)
    assert np.mean([error.suggested == word[error.row] for error in found if error.row in hits]) > 0.85
    assert [error.score for error in found] == sorted(error.score for error in found)
    assert "labels of label are probably wrong" in repr(found)

    mended = data.relabel({row: word[row] for row in hits}, note="looked at by Anna")
    assert mended.version == 2 and mended.rows == data.rows and mended.target == "label"
    assert mended.record.source["relabel"] == {"target": "label", "labels": len(hits), "note": "looked at by Anna"}
    assert len(mended.find_label_errors(run=history)) < len(found) / 2
    with pytest.raises(Invalid, match="there is no row 99999"):
        data.relabel({99999: "digit-1"})

    said = CliRunner().invoke(app, ["dataset", "label-errors", "digits@v1", "--run", history.run.id, "-o", "json"])
    assert said.exit_code == 0, said.output
    assert {error["row"] for error in json.loads(said.stdout)["errors"]} == rows


@pytest.mark.slow  # the page on labels tells the same in each run
def test_a_few_labels_become_many_that_are_right(home: Path, tmp_path: Path, word: list[str]) -> None:
    labelled = np.random.default_rng(2).choice(len(word), len(word) // 20, replace=False)
    some = {int(row) for row in labelled}
    path = written(tmp_path / "digits.csv", [label if row in some else "" for row, label in enumerate(word)])
    with pytest.raises(Invalid, match=r"unlabelled=True"):
        leptonai.create_dataset("digits", files=path)
    data = leptonai.create_dataset("digits", files=path, unlabelled=True)
    assert data.rows == len(word)
    train, test = data.split(0.5)
    assert train.rows + test.rows == data.rows

    model = leptonai.Model(ExtraTreesClassifier(100, random_state=0))
    history = model.fit(data)
    assert any("have no label, and are left out" in line for line in history.run.logs())
    assert model.evaluate(data).rows == len(some)

    done = data.auto_label(precision=0.98, run=history)
    assert done.dataset is not None and done.dataset.version == 2
    assert done.report.labelled == len(some) and done.report.precision is not None and done.report.precision >= 0.97
    column = next(column for column in done.dataset.columns if column.name == "label")
    assert column.stats["missing"] == data.rows - len(some) - done.report.set

    truth = dict(enumerate(word))
    assigned = done.run._client.http.download((done.run.result or {})["labels"])
    found = json.loads(assigned)
    right = np.mean([truth[row] == label for row, label in zip(found["rows"], found["labels"], strict=True)])
    print("coverage", done.report.coverage, "true precision", right, done.report)
    assert right >= 0.96 and done.report.coverage > 0.2
    assert not some & set(found["rows"])

    rows = data.pick_rows(10, run=history)
    assert len(rows) == len(set(rows)) == 10 and not some & set(rows)
