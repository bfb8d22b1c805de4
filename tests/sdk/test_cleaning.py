"""Cleaning as user code and the command line ask for it, on a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import leptonai
from leptonai.cli import main
from leptonai.core.errors import Invalid
from leptonai.data.spec_clean import Impute
from leptonai.sdk import client
from leptonai.sdk.client import Client
from leptonai.sdk.datasets import Dataset


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    folder = tmp_path_factory.mktemp("cleaning")
    path = folder / "people.csv"
    rows = [f"{'' if i % 10 == 3 else 20 + i % 50},{i % 7 + (900 if i == 9 else 0)},{i % 2}" for i in range(200)]
    path.write_text("age,visits,label\n" + "\n".join([*rows, *rows[:5]]) + "\n")
    with Client(home=folder / "home") as kept, pytest.MonkeyPatch.context() as patch:  # one server for all commands
        patch.setenv("LEPTONAI_WARM", "data")
        kept.http.call("GET", "/me")
        patch.undo()
        client.connect(home=folder / "home")
        yield leptonai.create_dataset("people", files=path)
        client.disconnect()


def test_cleaning_makes_the_next_version_and_keeps_the_old(people: Dataset) -> None:
    steps = ("drop_duplicates", Impute(columns=("age",), by="mean"), {"step": "outliers", "columns": ["visits"]})
    told = people.clean(*steps, dry_run=True)
    assert (told.rows, told.record.rows_before, told.dry_run) == (told.record.rows_after, 205, True)
    assert leptonai.get_dataset("people").version == 1
    for shown in (repr(told), told._repr_html_()):
        assert "would leave" in shown
        assert "drop_duplicates" in shown
    train, _ = people.split()
    made = people.clean(*steps, learn_from=train)
    assert (made.name, made.version, made.rows) == ("people", 2, told.rows)
    assert made.record.source["dataset"] == "datasets:/people@v1"
    assert made.record.source["learn_from"] == train.ref
    assert leptonai.get_dataset("people@v1").digest == people.digest
    assert made.clean("drop:visits", name="fewer").columns[0].stats["missing"] == 0
    with pytest.raises(Invalid, match=r"steps\.0: there is no column 'aeg'"):
        people.clean("impute:aeg=mean")
    with pytest.raises(Invalid, match=r"clean: steps\.0"):
        people.clean({"step": "impute", "by": "guess"})


def test_a_profile_is_an_object_and_a_page(people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = people.profile(against=people)
    assert found["age"]["stats"]["missing"] == 21
    assert {alert.about for alert in found.alerts} >= {"duplicates", "missing"}
    page = tmp_path / "page.html"
    home = str(people._client.home)
    command = ["--home", home, "dataset", "profile", "people@v1", "--html", str(page), "-o", "json"]
    assert main.run_command(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["columns"][0]["name"]) == (205, "age")
    assert "<svg" in page.read_text("utf-8")


def test_the_command_takes_words_and_files(people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(people._client.home)

    def ask(*arguments: str, code: int = 0) -> str:
        assert main.run_command(["--home", home, *arguments]) == code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return out or err

    told = json.loads(ask("dataset", "clean", "people@v1", "--step", "impute:age=median", "--dry-run", "-o", "json"))
    assert told["steps"][0]["changed"] == {"age": 21}
    spec = tmp_path / "steps.toml"
    spec.write_text('[[steps]]\nstep = "drop"\ncolumns = ["visits"]\n[[steps]]\nstep = "drop_duplicates"\n')
    made = json.loads(ask("dataset", "clean", "people@v1", "-f", str(spec), "--name", "short", "-o", "json"))
    assert (made["name"], made["version"], [c["name"] for c in made["columns"]]) == ("short", 1, ["age", "label"])
    assert "drop_duplicates" in ask("dataset", "clean", "people@v1", "--step", "drop_duplicates", "--dry-run")
    assert "there is no step" in ask("dataset", "clean", "people", "--step", "mend", code=1)
    assert "say steps" in ask("dataset", "clean", "people", code=2)
