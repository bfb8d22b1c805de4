"""The replicas of a Service at a Ray Site: on the cluster's nodes, as many as the queue needs, and no request fails when a node is killed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.agent.test_replicas import load, replicas
from tests.support.predictors import Doubler, packed
from tests.support.ray_cluster import TwoNodes, two_nodes
from tests.support.site import Home, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("ray")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_PROCESSORS", "2")
        with two_nodes(tmp_path / "node") as found:
            yield found


def places(cluster: TwoNodes) -> set[str]:
    """Return the folders in which replicas work on the nodes."""
    found = {_where(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return {place for place in found if place.startswith(f"{cluster.home}/ray/")}


def _where(process: Path) -> str:
    try:
        return str((process / "cwd").readlink()) if b"forkserver" in (process / "cmdline").read_bytes() else ""
    except OSError:
        return ""


def test_replicas_on_nodes_that_are_killed(cluster: TwoNodes, tmp_path: Path) -> None:
    home = Home(tmp_path / "home", LEPTONAI_PLANES="2", LEPTONAI_RACE_SECONDS="0")
    try:
        (model,) = home.keep(packed(Doubler, "double", {"notes/some.bin": os.urandom(700_000)}, max_batch=1))
        home.start()
        asked = {"min": 2, "max": 3, "wait_ms": 40, "down_seconds": 1}
        home.deploy("double", model, replicas=asked)
        url = home.settled("double", "ready", model, 240)["url"]
        answered = {
            httpx.post(url, json={"rows": [{"x": 1.5}]}, headers=home.bearer, trust_env=False).json()["predictions"][0][
                "pid"
            ]
            for _ in range(20)
        }
        assert {_where(Path(f"/proc/{pid}")) for pid in answered} <= places(cluster), answered
        with load(home, url) as callers:
            callers.callers(8)
            until(lambda: (now := home.status("double")["replicas"]) and now["ready"] == 3, 120)
            before = until(lambda: len(found := places(cluster)) == 3 and found)
            cluster.lose()
            until(lambda: before - places(cluster), 60)
            until(lambda: home.status("double")["replicas"]["ready"] == 3 and len(places(cluster)) == 3, 120)
            callers.callers(1)
            callers.pause = 0.2
            until(lambda: len(places(cluster)) == 2, 60)
            callers.pause = 0.0
            time.sleep(0.5)
        assert set(callers.codes) == {200}, (callers.codes, callers.words)
        assert callers.wrong == 0
        assert callers.codes[200] > 100
        texts = [change["text"] for change in replicas(home, "double")["changes"]]
        assert any("p90 wait" in text and "over 40 ms" in text for text in texts), texts
    finally:
        home.stop()
    until(lambda: not places(cluster), 30)
