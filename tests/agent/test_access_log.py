"""The access log of a service, read over the server by somebody on another machine."""

import json
from pathlib import Path

import httpx
import pytest
from tests.support import bundles
from tests.support.site import Home, until

from leptonai.cli import main


def test_the_access_log_is_read_from_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home", LEPTONAI_ACCESS_LOG="on")
    monkeypatch.setenv("LEPTONAI_HOME", str(tmp_path / "elsewhere"))
    try:
        model, other = home.keep(bundles.adder(1), bundles.adder(1, name="other"))
        home.start()
        home.deploy("sum", model)
        home.deploy("more", other)
        url = home.settled("sum", "ready", model)["url"]
        home.settled("more", "ready", other)
        for x in range(5):
            assert httpx.post(url, json={"rows": [{"x": x}]}, headers=home.bearer, trust_env=False).status_code == 200
        path = "/services/sum/access-log"
        until(lambda: len(home.http.call("GET", path)["items"]) == 5)
        asked = ["--host", home.http.base_url, "--api-key", home.bearer["authorization"].split()[1], "service", "logs"]
        assert main.run_command([*asked, "sum", "--limit", "3", "-o", "json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(line["service"], line["status"], line["rows"]) for line in lines] == [("sum", 200, 1)] * 3
        later = home.http.call("GET", path, params={"after": lines[-1]["time"]})["items"]
        assert later[-1] == lines[-1]
        assert len(later) < 5
        assert main.run_command([*asked, "more", "-o", "json"]) == 0
        assert capsys.readouterr().out == ""
        assert main.run_command(asked) != 0
        assert "lepton service logs NAME" in capsys.readouterr().err
        assert not (tmp_path / "elsewhere").exists()
    finally:
        home.stop()
