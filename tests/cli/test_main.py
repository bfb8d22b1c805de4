"""The command itself: help that teaches, exit codes, one sentence for an error, dry runs that need no server."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from leptonai import __version__
from leptonai.cli import errors, main
from leptonai.core.errors import Busy, FieldError, Invalid


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, TyperGroup):
        return [(path, command)]
    return [found for name, child in command.commands.items() for found in commands(child, (*path, name))]


ALL = commands(typer.main.get_command(main.app))


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEPTONAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TERMINAL_WIDTH", "200")


def test_nouns_and_verbs_are_those_of_the_interface() -> None:
    found = {" ".join(path) for path, _ in ALL}
    assert found >= {
        "up", "login", "doctor", "demo",
        "dataset create", "dataset list", "dataset get", "dataset head", "dataset describe", "dataset delete",
        "run create", "run list", "run get", "run logs", "run cancel", "run retry",
        "model create", "model list", "model get", "model update", "model delete",
        "service create", "service list", "service get", "service update", "service delete", "service predict",
        "site list", "site get", "key create", "key list", "key delete", "audit list",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_explains_itself(path: tuple[str, ...], command: Any) -> None:
    assert command.help, "a command without help"
    assert command.help.splitlines()[0].endswith((".", ":"))
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, f"{parameter.name} has no help"


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_every_change_has_a_dry_run(path: tuple[str, ...]) -> None:
    command = dict(ALL)[path]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    if path[-1] in {"create", "update", "delete", "cancel", "retry", "login"}:
        assert "--dry-run" in flags
    if path[-1] in {"create", "update"}:
        assert "--file" in flags
    if path[-1] not in {"logs", "up", "new", "download", "dashboard"}:
        assert "--output" in flags


def test_a_noun_alone_shows_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["dataset"]):
        assert main.run_command(arguments) == 2
        out, err = capsys.readouterr()
        assert "Usage: lepton" in out + err
        assert "lepton: \n" not in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run_command(["--help"]) == 0
    out = capsys.readouterr().out
    assert "lepton run create train --data churn" in out
    assert main.run_command(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["datset", "list"], "datset"),
        (["dataset", "lst"], "lst"),
        (["run", "create"], "stage"),
        (["model", "create", "x"], "run"),
        (["run", "list", "--limit", "0"], "limit"),
        (["service", "predict", "x"], "--rows"),
        (["run", "list", "-o", "xml"], "xml"),
        (["dataset", "create", "x", "y.csv", "--type", "plan"], "COLUMN=TYPE"),
        (["dataset", "create", "x", "y", "--image-size", "big"], "32x32"),
        (["model", "update", "x"], "--alias"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err
    assert err.startswith("lepton: ")


def test_a_dry_run_checks_the_spec_and_needs_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", "create", "train", "--data", "churn", "--target", "left", "--epochs", "3", "--patience", "2"]
    assert main.run_command([*asked, "--dry-run", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] is True
    assert told["body"]["spec"]["epochs"] == 3
    assert told["body"]["spec"]["early_stopping"] == {"patience": 2}
    assert not (tmp_path / "home").exists()


def test_a_spec_file_says_what_flags_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('stage = "train"\nname = "second"\n[spec]\ndata = "cancer"\nseed = 3\n')
    assert main.run_command(["run", "create", "-f", str(spec), "--seed", "4", "--dry-run", "-o", "json"]) == 0
    body = json.loads(capsys.readouterr().out)["body"]
    assert body == {"name": "second", "spec": {"data": "cancer", "seed": 4}}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "create", "train", "--data", "a", "--epochs", "0"], "epochs"),
        (["run", "create", "evaluate", "--data", "a", "--epochs", "2"], "there is no such field"),
        (["run", "create", "bake"], "bake"),
        (["run", "create", "train"], "data"),
        (["dataset", "create", "x", "nowhere.csv", "--dry-run"], "nowhere.csv"),
        (["--host", "server:80", "run", "list"], "https://"),
        (["service", "predict", "x", "--rows", "@nowhere.json"], "nowhere.json"),
        (["service", "predict", "x", "--rows", "{"], "JSON"),
        (["key", "delete", "../x"], "../x"),
    ],
)
def test_what_is_wrong_is_named_before_anything_starts(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run_command(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert not (tmp_path / "home").exists()


def test_a_dataset_spec_comes_from_a_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, spec = tmp_path / "a.csv", tmp_path / "spec.toml"
    data.write_text("a,b\n1,2\n")
    spec.write_text(f'name = "x"\nfiles = ["{data}"]\ntypes = {{a = "category"}}\n')
    assert main.run_command(["dataset", "create", "-f", str(spec), "--target", "b", "--dry-run", "-o", "yaml"]) == 0
    assert "target: b" in capsys.readouterr().out
    spec.write_text('name = "x"\nfiles = "a.csv"\ncolour = 1\n')
    assert main.run_command(["dataset", "create", "-f", str(spec), "--dry-run"]) == 1
    assert "colour" in capsys.readouterr().err


def test_dry_runs_can_be_toml_read(tmp_path: Path) -> None:
    from leptonai.cli import formats, service

    record = {"name": "x", "variants": [{"model": "model_1"}], "site": "home"}
    assert tomllib.loads(formats.to_toml(service.spec_of(record))) == {
        "name": "x",
        "model": "model_1",
        "site": "home",
        "public": False,
        "pin": False,
    }


def test_errors_list_their_fields_and_say_when_to_try_again(capsys: pytest.CaptureFixture[str]) -> None:
    errors.say(
        Invalid("fit: two things", errors=[FieldError("epochs", "at least 1"), FieldError("seed", "at least 0")])
    )
    assert capsys.readouterr().err == "lepton: fit: two things\n  epochs: at least 1\n  seed: at least 0\n"
    errors.say(Busy("too much at once", retry_after=3))
    assert "try again in 3 s" in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("run run_1 is cancelled")

    monkeypatch.setattr("leptonai.sdk.client.current", stop)
    assert main.run_command(["run", "list"]) == 1
    assert capsys.readouterr().err == "lepton: run run_1 is cancelled\n"


def test_a_bug_is_a_sentence_unless_debug_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero\nsecond line")

    monkeypatch.setattr("leptonai.sdk.client.current", broken)
    assert main.run_command(["run", "list"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by zero (" in err
    assert "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        main.run_command(["--debug", "run", "list"])


def test_os_errors_name_the_file() -> None:
    assert errors.sentence(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert errors.sentence(OSError(28, "No space left on device")) == "No space left on device"


def test_ctrl_c_while_a_module_makes_code_from_text(tmp_path: Path) -> None:
    """As dataclasses do while they are loaded."""
    (tmp_path / "typer.py").write_text("exec('raise KeyboardInterrupt')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "leptonai.cli", "run", "list"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "lepton: stopped\n")
