"""Races in a process of their own: held once for each model, remembered, and never in anybody's way."""

import json
from pathlib import Path
from queue import Empty

import pytest
from tests.support import bundles

from leptonai.agent.races import Races
from leptonai.core.ports import Variant


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("LEPTONAI_RACE_SECONDS", "0.05")
    return tmp_path


def test_a_model_is_raced_once_and_the_winner_is_remembered(home: Path) -> None:
    model, files = bundles.adder(1)
    races = Races(home, 1)
    try:
        assert races.known(model) is None
        races.enter(model, files)
        races.enter(model, files)
        won = races.found.get(timeout=60)
        assert won.model == model.id
        assert won.variant.runtime in ("onnx", "openvino")
        assert races.known(model) == won.variant
        with pytest.raises(Empty):
            races.found.get(timeout=0.3)
    finally:
        races.close()
    (kept,) = json.loads((home / "races.json").read_text()).values()
    assert kept["table"][0]["refused"] is None
    again = Races(home, 1)
    assert again.known(model) == won.variant
    again.enter(model, files)  # nothing is left to find out
    again.close()
    assert again.found.empty()


def test_another_number_of_processes_is_another_race(home: Path) -> None:
    model, files = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, files)
    races.found.get(timeout=60)
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
    races.enter(model, {"model.onnx": b"nonsense"})
    good, files = bundles.adder(2)
    races.enter(good, files)
    assert races.found.get(timeout=60).model == good.id
    races.close()
    assert "stays with the plain runtime" in caplog.text


def test_no_race_is_held_where_the_setting_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONAI_RACE_SECONDS", "0")
    model, files = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, files)
    races.close()
    assert races.found.empty()
    assert not (home / "races.json").exists()


def test_a_race_that_is_under_way_ends_with_the_agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONAI_RACE_SECONDS", "60")
    model, files = bundles.adder(1)
    races = Races(home, 1)
    races.enter(model, files)
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
