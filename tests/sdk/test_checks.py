"""Rules as user code and the command line ask for them, on a real server."""

import json
from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

import leptonai
from leptonai.cli import main
from leptonai.core.errors import Invalid, NotFound
from leptonai.sdk import client
from leptonai.sdk.client import Client


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    with Client(home=folder) as kept, pytest.MonkeyPatch.context() as patch:  # one server for all commands
        patch.setenv("LEPTONAI_WARM", "data")
        kept.http.call("GET", "/me")
        patch.undo()
        client.connect(home=folder)
        yield folder
        client.disconnect()


def test_rules_hold_for_imports_versions_and_trainings(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("age,label\n" + "".join(f"{20 + i % 50},{i % 2}\n" for i in range(205)))
    people = leptonai.create_dataset("people", files=path)
    report = people.check(["range:age=0..120", "unique:age"])
    assert not report
    assert [rule.passed for rule in report.record.rules] == [True, False]
    assert "BROKEN" in repr(report)
    with pytest.raises(Invalid, match="age unique: 155 rows break it, the first is row"):
        report.hold()
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("age,label\n" + "".join(f"{20 + i},{i % 2}\n" for i in range(40)))
    bad.write_text("age,label\n21,0\n999,1\n")
    made = leptonai.create_dataset("ruled", files=good, checks=["range:age=0..120"])
    assert [rule["rule"] for rule in made.rules] == ["range"]
    assert made.check()
    for again in (lambda: leptonai.create_dataset("ruled", files=bad), lambda: made.append(bad)):
        with pytest.raises(Invalid, match=r"ruled does not keep its rules: age .* is bad\.csv, row 2 \(age is 999\)"):
            again()
    assert leptonai.get_dataset("ruled").version == 1
    loose = leptonai.create_dataset("ruled", files=bad, checks=[])
    assert (loose.version, loose.rules) == (2, [])
    with pytest.raises(Invalid, match=r"ruled@v2 does not keep its rules: age"):
        leptonai.Model().fit(loose, checks=["range:age=0..120"])
    today = loose.record.created.astimezone(UTC).date()
    assert leptonai.get_dataset(f"ruled@{today}").version in (1, 2)
    assert leptonai.get_dataset(f"ruled@{today + timedelta(days=1)}?part=train&train_size=0.5").ref.startswith(
        "datasets:/ruled@v2?"
    )
    with pytest.raises(NotFound, match=f"no dataset ruled on {today - timedelta(days=2)} yet"):
        leptonai.get_dataset(f"ruled@{today - timedelta(days=2)}")
    difference = made.diff(loose, key="age")
    assert difference
    assert difference.rows["removed"] == 39
    assert difference.changed == {"label": 1}
    private = leptonai.create_dataset("private", files=path, pii=["age"], types={"age": "integer"})
    hashed = private.clean(
        {"step": "hash", "columns": ["label"]}, {"step": "impute", "columns": ["age"]}, "drop_duplicates"
    )
    assert (hashed.version, hashed.rows, [column.pii for column in hashed.columns]) == (2, 50, [True, False])
    client.disconnect()
    command = ["--home", str(home), "dataset", "diff", "ruled@v1", "ruled@v2", "--key", "age", "-o", "json"]
    assert main.run_command(command) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["added"] == 1
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nrule = "range"\ncolumn = "age"\nmin = 0\nmax = 120\n')
    for version, code in (("v1", 0), ("v2", 1)):
        command = ["--home", str(home), "dataset", "check", f"ruled@{version}", "-f", str(rules), "-o", "json"]
        assert main.run_command(command) == code
        assert json.loads(capsys.readouterr().out)["passed"] is (code == 0)
