"""Spec files: what they may be, and that a flag comes first."""

import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from leptonai.cli import flags, run
from leptonai.core.errors import Invalid


def write(tmp_path: Path, text: str, name: str = "spec.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_flag_comes_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'data = "churn"\nepochs = 3\n')
    assert flags.merge(path, {"epochs": 5, "target": None}) == {"data": "churn", "epochs": 5}


def test_json_is_read_too(tmp_path: Path) -> None:
    assert flags.read_spec(write(tmp_path, ' {"a": 1}', "spec.json")) == {"a": 1}


def test_a_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a = 1"))
    assert flags.read_spec(Path("-")) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [("a = ", "x.toml", "x.toml"), ("{", "x.json", "x.json"), ("a: 1", "x.yaml", "YAML"), ("\x00", "x.toml", "x.toml")],
)
def test_what_is_no_spec_file(tmp_path: Path, text: str, name: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        flags.read_spec(write(tmp_path, text, name))


def test_a_missing_or_binary_spec_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"nowhere\.toml"):
        flags.read_spec(tmp_path / "nowhere.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Invalid, match="UTF-8"):
        flags.read_spec(path)


def test_a_step_of_augmentation_is_read() -> None:
    assert flags.step("flip") == {"op": "flip"}
    assert flags.step("rotate:degrees=10,fill=zero") == {"op": "rotate", "degrees": 10, "fill": "zero"}
    assert flags.step('{"op": "noise", "columns": ["a"]}') == {"op": "noise", "columns": ["a"]}
    for wrong in ("rotate:10", "{", "{1}"):
        with pytest.raises(typer.BadParameter):
            flags.step(wrong)


def test_what_must_be_said_is_a_mistake_of_usage() -> None:
    with pytest.raises(typer.BadParameter, match="name"):
        flags.need({"name": ""}, "name")


def test_a_record_is_brought_to_its_spec(tmp_path: Path) -> None:
    record = (
        '{"id": "run_1", "rev": 3, "created": "2026-01-01T00:00:00Z", "stage": "train", "state": "failed", "limits": '
    )
    record += '{"memory_mb": null}, "name": "", "spec": {"data": "datasets:/churn@v1"}}'
    path = write(tmp_path, record, "run.json")
    document = flags.merge(path, {}, run.spec_of)
    assert run.split(document) == ({"stage": "train"}, {"data": "datasets:/churn@v1"})


def test_the_fields_of_a_spec_may_stand_at_the_top_or_in_a_table() -> None:
    around, spec = run.split({"stage": "train", "name": "x", "seed": 1, "spec": {"data": "churn", "seed": 2}})
    assert around == {"stage": "train", "name": "x"}
    assert spec == {"data": "churn", "seed": 1}


def test_settings_of_learning_are_json_else_text() -> None:
    given = ["ema=0.99", "schedule=cosine:warmup=2", "balanced_sampling=true", 'class_weights={"a": 2}']
    assert flags.settings("--learn", given) == {
        "ema": 0.99, "schedule": "cosine:warmup=2", "balanced_sampling": True, "class_weights": {"a": 2},
    }  # fmt: skip
    assert flags.settings("--learn", None) is None
    with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
        flags.settings("--learn", ["ema"])


def test_a_cross_validation_tunes_in_each_fold() -> None:
    words = "create cross_validate --data d --curve --noise --space C=0.01..10:log --goal val_accuracy --budget 10"
    told = CliRunner().invoke(run.app, [*words.split(), "--dry-run", "-o", "json"])
    assert told.exit_code == 0, told.output
    spec = json.loads(told.stdout)["body"]["spec"]
    assert spec["curve"] == [0.1, 0.2, 0.4, 0.7]
    assert spec["noise"] == [0.05, 0.1, 0.2, 0.4]
    assert spec["tune"] == {
        "space": {"C": {"kind": "float", "low": 0.01, "high": 10.0, "log": True}},
        "goals": [{"metric": "val_accuracy"}],
        "trials": 10,
    }
