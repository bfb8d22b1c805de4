"""Races in a process of their own: held once for each model, remembered, and never in anybody's way."""

import json
from pathlib import Path

import pytest
from tests.support import bundles
from tests.support.site import until

from leptonai.agent.races import Races, Winner
from leptonai.core.runtimes import Variant


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("LEPTONAI_RACE_SECONDS", "0.05")
    return tmp_path


def drained(races: Races) -> list[Winner]:
    found = []
    while not races.found.empty():
        found.append(races.found.get())
    return found


def test_a_model_is_raced_once_and_the_winner_is_remembered(home: Path) -> None:
    model, files = bundles.adder(1)
    races = Races(home, 1)
    try:
        assert races.known(model) is None
        races.enter(model, lambda: files["model.onnx"])
        races.enter(model, lambda: files["model.onnx"])
        until((home / "races.json").exists, 60)
        won = races.known(model)  # None: the plain runtime
    finally:
        races.close()
    assert [winner.variant for winner in drained(races)] == ([] if won is None else [won])
    (kept,) = json.loads((home / "races.json").read_text()).values()
    assert kept["table"][0]["refused"] is None
    assert kept["chosen"]["runtime"] in ("onnx", "openvino")
    again = Races(home, 1)
    assert again.known(model) == won
    again.enter(model, lambda: files["model.onnx"])  # nothing is left to find out
    again.close()
    assert again.found.empty()


def test_another_number_of_processes_is_another_race(home: Path) -> None:
    model, files = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, lambda: files["model.onnx"])
    until((home / "races.json").exists, 60)
    races.close()
    other = Races(home, 2)
    assert other.known(model) is None
    other.close()


@pytest.mark.parametrize("kept", ["", "[]", '{"x": {"chosen": {"colour": "red"}}}', '{"x": 1}'])
def test_a_file_that_cannot_be_read_costs_a_race_and_nothing_else(home: Path, kept: str) -> None:
    (home / "races.json").write_text(kept)
    races = Races(home, 1)
    assert races.known(bundles.adder(1)[0]) is None
    races.close()


def test_a_model_that_cannot_be_loaded_stays_where_it_is(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, _ = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, lambda: b"nonsense")
    good, files = bundles.adder(2)
    races.enter(good, lambda: files["model.onnx"])
    until((home / "races.json").exists, 60)
    races.close()
    assert "stays with the plain runtime" in caplog.text


def test_no_race_is_held_where_the_setting_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONAI_RACE_SECONDS", "0")
    model, files = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, lambda: files["model.onnx"])
    races.close()
    assert races.found.empty()
    assert not (home / "races.json").exists()


def test_a_race_that_is_under_way_ends_with_the_agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONAI_RACE_SECONDS", "60")
    model, files = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, lambda: files["model.onnx"])
    races.close()
    assert races.found.empty()


def test_a_variant_is_kept_as_it_was_found(home: Path) -> None:
    model, _ = bundles.adder(1)
    races = Races(home, 1)
    wanted = Variant("openvino", 2, "bf16", "cpu")
    races._kept[races._key(model)] = {"chosen": vars(wanted), "table": []}
    races._keep()
    races.close()
    again = Races(home, 1)
    assert again.known(model) == wanted
    again.close()
