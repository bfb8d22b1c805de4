"""A real server with a real agent, in a home folder, with the probe stage."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.bundles import Bundle

from leptonai.core import settings
from leptonai.core.errors import NotFound
from leptonai.core.nouns import Model
from leptonai.sdk.http import Http
from leptonai.server.context import open_context

PROBE = Path(__file__).parent / "probe"


PATIENCE = 120.0  # seconds: on a machine that others use too everything takes longer


def until(look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what `look` finds, once it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Home:
    """A home folder; `start` and `stop` its server as often as you like."""

    def __init__(self, folder: Path, **variables: str):
        self.folder = folder
        path = os.pathsep.join([str(PROBE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = settings.environment(
            PYTHONPATH=path, LEPTONAI_WARM="none", LEPTONAI_LEASE_SECONDS="6", **variables
        )
        for name in ("LEPTONAI_HOST", "LEPTONAI_API_KEY", "LEPTONAI_DATABASE_URL", "LEPTONAI_STORE_URL"):
            self._environment.pop(name, None)
        self._server: subprocess.Popen[bytes] | None = None
        self.http: Http
        self.bearer: dict[str, str] = {}  # the header with the token of this machine's programs
        self.port = 0

    def keep(self, *bundles: Bundle) -> list[Model]:
        """Put models into the catalog and the store, while no server runs."""
        context = open_context(self.folder, None, None, 30.0)
        try:
            kept = []
            for model, files in bundles:
                blobs = {name: context.sealed("test").write([data]).id for name, data in files.items()}
                kept.append(model.model_copy(update={"files": blobs}))
                context.catalog.add(kept[-1])
            return kept
        finally:
            context.close()

    def start(self, *more: str) -> "Home":
        (self.folder / "server.json").unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "server.out").open("ab") as out:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "leptonai.server", "--home", str(self.folder), "--port", str(self.port), *more],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            facts = until(self._facts)
            self.port = int(facts["url"].rpartition(":")[2])
            self.http = Http(facts["url"], facts["token"])
            self.bearer = {"authorization": f"Bearer {facts['token']}"}
            self.http.call("GET", "/health")
        except BaseException:
            self._server.kill()
            self._server.wait()
            raise
        return self

    def _facts(self) -> Any:
        import json

        assert self._server is not None
        assert self._server.poll() is None, (self.folder / "server.out").read_text()[-3000:]
        try:
            return json.loads((self.folder / "server.json").read_text())
        except (OSError, ValueError):
            return None

    def stop(self, kill: bool = False) -> None:
        if self._server is None:
            return
        self.http.close()
        (self._server.kill if kill else self._server.terminate)()
        self._server.wait(20)
        self._server = None

    def children(self, word: str) -> list[int]:
        """Return the processes of this home whose command line holds a word."""
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    environment = (path / "environ").read_bytes()
                except OSError:
                    continue
                ours = f"LEPTONAI_HOME={self.folder}\0".encode() in environment
                if ours and word in command and alive(int(path.name)):
                    found.append(int(path.name))
        return found

    def run(self, do: str, **more: Any) -> str:
        body = {"stage": "probe", "spec": {"do": do, **more.pop("spec", {})}, **more}
        return str(self.http.call("POST", "/runs", json=body)["id"])

    def record(self, id: str) -> dict[str, Any]:
        return dict(self.http.call("GET", f"/runs/{id}"))

    def ended(self, id: str, seconds: float = PATIENCE) -> dict[str, Any]:
        until(lambda: self.record(id)["state"] in ("succeeded", "failed", "cancelled"), seconds)
        return self.record(id)

    def events(self, id: str, stream: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.http.call(
                "GET", f"/runs/{id}/events", params={"streams": stream, "after": after, "limit": 5000}
            )
            found += [event["body"] for event in page["items"]]
            after = page["next"]
        return found

    def log(self, id: str) -> list[str]:
        return [body["line"] for body in self.events(id, "log")]

    def deploy(self, name: str, model: Model, **more: Any) -> dict[str, Any]:
        return dict(self.http.call("POST", "/services", json={"name": name, "model": model.id, **more}))

    def status(self, name: str) -> dict[str, Any]:
        try:
            return dict(self.http.call("GET", f"/services/{name}")["status"])
        except NotFound:
            return {}

    def settled(self, name: str, state: str, model: Model | None = None, seconds: float = PATIENCE) -> dict[str, Any]:
        until(lambda: (s := self.status(name))["state"] == state and (model is None or model.id in s["live"]), seconds)
        return self.status(name)
