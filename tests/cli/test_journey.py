"""From a file to an answer by commands alone; what `get` prints can be given to `create`."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import leptonai
from leptonai.cli import main
from leptonai.sdk import client
from leptonai.sdk.client import Client

Ask = Callable[..., Any]
HEAD = "age,plan,churned\n"


def said(spec: Any) -> Any:
    """Return a spec without what TOML has no word for."""
    if isinstance(spec, dict):
        return {name: said(value) for name, value in spec.items() if value is not None}
    return spec


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server that stays while the commands of this file come and go, with all its processes started."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "t.csv").write_text("a,label\n" + "1,x\n2,y\n" * 20)
    with Client(home=folder / "home") as kept, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "none")
        kept.http.call("GET", "/me")
        patch.undo()
        client.connect(home=folder / "home")
        leptonai.create_dataset("warm", files=folder / "t.csv")
        model = leptonai.Model()
        model.fit("warm")
        model.evaluate("warm")
        model.publish("warm").deploy("warm")
        client.disconnect()
        yield kept


@pytest.fixture
def ask(server: Client, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command against the server and return what it prints: JSON, or text for another form."""

    def run(*arguments: str, form: str = "json", code: int = 0) -> Any:
        assert main.run_command(["--home", str(server.home), *arguments, "-o", form]) == code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return json.loads(out) if form == "json" and out else out or err

    return run


def test_from_a_file_to_an_answer(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "churn.csv"
    lines = [f"{20 + i % 50},{('basic', 'pro')[i % 2]},{('no', 'yes')[i % 50 > 25]}" for i in range(300)]
    path.write_text(HEAD + "\n".join(lines) + "\n")

    dataset = ask("dataset", "create", "churn", str(path), "--target", "churned", "--type", "plan=category")
    assert (dataset["version"], dataset["rows"], dataset["target"]) == (1, 300, "churned")
    assert len(ask("dataset", "head", "churn", "-n", "2")) == 2
    assert ask("dataset", "describe", "churn")["plan"]["type"] == "category"
    for verb in ("get", "head", "describe"):
        assert "churned" in ask("dataset", verb, "churn", form="table")
    spec = tomllib.loads(ask("dataset", "get", "churn", form="toml"))
    assert (spec["name"], spec["target"], spec["types"]["plan"]) == ("churn", "churned", "category")
    assert spec["files"] == ["churn.csv"]

    trained = ask("run", "create", "train", "--data", "churn", "--name", "first", "--seed", "3")
    assert trained["state"] == "succeeded"
    assert trained["id"] in [run["id"] for run in ask("run", "list", "--name", "first")]
    assert "succeeded" in ask("run", "get", trained["id"], form="table")
    assert main.run_command(["--home", str(tmp_path / "nowhere"), "--version"]) == 0
    capsys.readouterr()

    same = tmp_path / "same.toml"
    same.write_text(ask("run", "get", trained["id"], form="toml"))
    told = ask("run", "create", "-f", str(same), "--dry-run")
    assert told["body"]["spec"] == said(trained["spec"])
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(trained))
    assert said(ask("run", "create", "-f", str(whole), "--dry-run")) == told
    again = ask("run", "create", "-f", str(same), "--name", "second")
    assert again["state"] == "succeeded"
    assert (again["name"], again["spec"]) == ("second", trained["spec"])

    measured = ask("run", "create", "evaluate", "--run", trained["id"], "--data", "churn")
    assert measured["result"]["metrics"]["accuracy"] > 0.9
    assert "accuracy" in ask("run", "get", measured["id"], form="table")

    assert ask("model", "create", "churn", "--run", trained["id"], "--dry-run")["dry_run"] is True
    model = ask(
        "model", "create", "churn", "--run", trained["id"], "--alias", "champion", "--evaluation", measured["id"]
    )
    assert (model["version"], model["aliases"]) == (1, ["champion"])
    assert model["metrics"]["accuracy"] > 0.9
    spec = tomllib.loads(ask("model", "get", "models:/churn@champion", form="toml"))
    assert (spec["name"], spec["run"], spec["aliases"]) == ("churn", trained["id"], ["champion"])
    assert ask("model", "update", "churn", "--alias", "latest", "--drop-alias", "champion")["aliases"] == ["latest"]
    assert [found["aliases"] for found in ask("model", "list", "churn")] == [["latest"]]
    assert "churn" in ask("model", "list", form="table")
    onnx = tmp_path / "churn.onnx"
    assert main.run_command(["model", "download", "churn", "--to", str(onnx)]) == 1  # another home has no such model
    capsys.readouterr()

    service = ask("service", "create", "churn", "--model", "models:/churn@latest")
    assert service["status"]["state"] == "ready"
    spec = tomllib.loads(ask("service", "get", "churn", form="toml"))
    assert spec == {"name": "churn", "model": model["id"], "site": "home", "public": False, "pin": False}
    assert ask("service", "predict", "churn", "--rows", '{"age": 60, "plan": "pro"}')["label"] == "yes"
    rows = tmp_path / "rows.json"
    rows.write_text('{"rows": [{"age": 60, "plan": "pro"}, {"age": 20, "plan": "new"}]}')
    assert [found["label"] for found in ask("service", "predict", "churn", "--rows", f"@{rows}")] == ["yes", "no"]
    assert "yes" in ask("service", "predict", "churn", "--rows", f"@{rows}", form="table")
    assert "plan" in ask("service", "predict", "churn", "--rows", '{"age": 60}', code=1)
    assert ask("service", "update", "churn", "--model", "churn")["status"]["state"] == "ready"
    assert ask("service", "update", "churn", "--public")["public"] is True
    assert ask("service", "update", "churn", "--model", "churn")["public"] is True
    assert "without a key" in ask("service", "get", "churn", form="table")
    assert ask("service", "update", "churn", "--no-public")["public"] is False
    assert ask("service", "create", "open", "--model", "churn", "--public", "--dry-run")["body"]["public"] is True
    assert "churn" in ask("service", "list", form="table")
    assert "in use" in ask("model", "delete", "churn", code=1)
    assert ask("service", "delete", "churn", "--dry-run")["dry_run"] is True
    assert "deleted" in ask("service", "delete", "churn")

    assert ask("model", "update", "churn", "--drop-alias", "latest")["aliases"] == []
    assert "deleted" in ask("model", "delete", "churn")
    assert ask("dataset", "delete", "churn", "--dry-run")["dry_run"] is True
    assert "deleted" in ask("dataset", "delete", "churn")
    assert "churn" in ask("dataset", "get", "churn", code=1)


def test_what_a_run_said_is_printed_line_by_line(ask: Ask, server: Client, capsys: pytest.CaptureFixture[str]) -> None:
    run = next(run for run in ask("run", "list", "--stage", "train"))
    for flags in ([], ["--follow"]):
        assert main.run_command(["--home", str(server.home), "run", "logs", run["id"], *flags]) == 0
        out = capsys.readouterr().out
        assert "no model was given" in out
