"""A rollout from the command line and from Python."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import bundles
from tests.support.site import Home
from typer.testing import CliRunner

from leptonai.cli.main import app
from leptonai.core.errors import Conflict, Unavailable
from leptonai.core.nouns import Model
from leptonai.sdk import client, services
from leptonai.sdk.services import get_service


@pytest.fixture
def models(tmp_path: Path) -> Iterator[list[Model]]:
    folder = tmp_path / "home"
    kept = Home(folder).keep(bundles.near(1), bundles.near(2), bundles.broken(3, "cut"))
    client.connect(home=folder)
    yield kept
    client.disconnect()


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_deploy_why_rollback_split_and_promote(models: list[Model]) -> None:
    one, two, bad = models
    run("service", "deploy", "sum", "adder/1", "-o", "json")
    said = json.loads(run("service", "deploy", "sum", "adder/2", "--steps", "5,50", "-o", "json"))
    assert [v["model"] for v in said["variants"]] == [two.id]
    why = run("service", "why", "sum")
    assert "by policy it answers all" in " ".join(why.split())
    assert "adder/2 (stable, 100 %)" in " ".join(get_service("sum").why().split())
    with pytest.raises(Conflict, match="no rollout that goes on"):
        get_service("sum").promote()
    assert json.loads(run("service", "rollback", "sum", "-o", "json"))["variants"][0]["model"] == one.id
    get_service("sum").wait_ready()
    split = json.loads(run("service", "split", "sum", "--canary", "adder/2=10", "--sticky", "key", "-o", "json"))
    assert [(v["name"], v["percent"]) for v in split["variants"]] == [("stable", 90), ("canary", 10)]
    assert "split" in run("service", "get", "sum")
    assert json.loads(run("service", "promote", "sum", "-o", "json"))["variants"][0]["model"] == two.id
    get_service("sum").wait_ready()
    made = services.deploy(client.current(), "sum", bad.id)
    with pytest.raises(Unavailable, match="could not be loaded"):
        made.wait_ready()
    assert get_service("sum").record.variants[0].model == two.id
