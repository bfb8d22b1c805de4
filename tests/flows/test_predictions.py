"""The prediction log with a real server, agent and planes: kept, redacted, sealed, read, exported, deleted; it outlives kills."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import polars
import pytest
import tests.support.libraries  # noqa: F401 - what it sets in the environment is set before a test begins
from tests.support import bundles
from tests.support.site import Home, until

from leptonai.core.errors import Denied, Invalid
from leptonai.core.nouns import Service as Record
from leptonai.sdk.client import Client
from leptonai.sdk.http import Http
from leptonai.sdk.services import Service

ROW = {"age": 41.0, "city": "oslo", "kids": 2, "floor": 1, "member": True, "seen": "2026-01-31T00:00:00Z"}


@pytest.fixture
def home(tmp_path: Path) -> Any:
    made = Home(tmp_path / "home")
    yield made
    made.stop()


def ask(home: Home, name: str, *rows: dict[str, Any]) -> httpx.Response:
    url = home.status(name)["url"]
    return httpx.post(url, json={"rows": list(rows)}, headers=home.bearer, timeout=30, trust_env=False)


def service_of(home: Home, name: str) -> Service:
    via = Client(home.http.base_url, home.bearer["authorization"].removeprefix("Bearer "))
    return Service(Record.model_validate(home.http.call("GET", f"/services/{name}")), via)


def told(home: Home, name: str, log: dict[str, Any]) -> None:
    """Change what is kept, and return when every plane goes by it."""
    home.http.call("PUT", f"/services/{name}/log", json=log)

    def heard() -> bool:
        ask(home, name, ROW)
        return bool(home.http.call("GET", f"/services/{name}/predictions")["items"])

    until(heard)


def test_kept_redacted_read_exported_and_deleted(home: Home, tmp_path: Path) -> None:
    (people,) = home.keep(bundles.people())
    home.start()
    home.deploy("people", people)
    home.settled("people", "ready", people)
    told(home, "people", {"share": 1.0, "hash": ["city"], "drop": ["age"]})

    ids = {ask(home, "people", ROW, {**ROW, "kids": number}).headers["x-request-id"] for number in range(5)}
    service = service_of(home, "people")
    try:
        (frame,) = until(lambda: [f] if ids <= set((f := service.predictions())["request_id"]) else None)
        mine = frame.filter(polars.col("request_id").is_in(ids))
        assert mine["row"].to_list() == [0, 1] * 5
        assert set(mine["input.kids"]) == {0, 1, 2, 3, 4}
        assert "input.age" not in frame.columns
        digest = set(mine["input.city"])
        assert len(digest) == 1 and len(digest.pop()) == 16 and "oslo" not in str(frame.to_dicts())
        assert set(mine["output.label"]) <= {"yes", "no"}
        assert mine["output.probabilities"][0].shape == (2,)
        assert set(mine["variant"]) == {"stable"} and set(mine["status"]) == {200}

        stored = b"".join(path.read_bytes() for path in (home.folder / "blobs").rglob("*") if path.is_file())
        assert not any(word in stored for word in (b"request_id", b"PAR1", *(id.encode() for id in ids)))

        for ending in (".parquet", ".csv", ".jsonl"):
            out = tmp_path / f"out{ending}"
            command = ["service", "predictions", "people", "--out", str(out), "-o", "json"]
            done = subprocess.run(
                [sys.executable, "-m", "leptonai.cli", *command],
                env={**os.environ, "LEPTONAI_HOST": home.http.base_url, "LEPTONAI_API_KEY": service._client.api_key or ""},
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert f'"rows": {frame.height}' in done.stdout
            assert ids <= {id for id in ids if id in out.read_bytes().decode("latin-1")} or ending == ".parquet"

        narrow = home.http.call("POST", "/keys", json={"name": "narrow", "scopes": ["service:read", "service:predict"]})
        other = Http(home.http.base_url, narrow["secret"])
        with pytest.raises(Denied, match="prediction:read"):
            other.call("GET", "/services/people/predictions")
        other.close()
        with pytest.raises(Invalid, match="both dropped and hashed"):
            service.log(drop=["city"])
        assert service.log(share=0.0).hash == ("city",)

        batches = home.http.call("GET", "/services/people/predictions")["items"]
        assert service.delete_predictions() == len(batches) > 0
        until(lambda: service.predictions().height == 0)
        assert not any((home.folder / "blobs").rglob(batches[0]["blob"] + "*"))
    finally:
        service._client.close()


@pytest.mark.slow
def test_nothing_is_half_written_when_planes_and_agent_are_killed(home: Home) -> None:
    (people,) = home.keep(bundles.people())
    home.start()
    home.deploy("people", people)
    home.settled("people", "ready", people)
    told(home, "people", {"share": 1.0})
    service = service_of(home, "people")
    try:
        for pid in (home.children("leptonai.serving.plane")[0], home.children("leptonai.agent")[0]):
            ask(home, "people", ROW)
            os.kill(pid, signal.SIGKILL)
            until(lambda: ask_at_last(home))
        before = service.predictions().height
        assert before > 0  # every batch that is there can be read
        until(lambda: ask_at_last(home) and service.predictions().height > before)
    finally:
        service._client.close()


def ask_at_last(home: Home) -> bool:
    try:
        return ask(home, "people", ROW).status_code == 200
    except (httpx.TransportError, TypeError, ValueError):
        return False
