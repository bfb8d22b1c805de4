"""What a Run holds of the platform, in its own process: the `Handle` of core/stages.py over HTTP."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from leptonai.agent import keyring
from leptonai.agent.sender import Mute, Sender, deliver, event, fenced, finite
from leptonai.core.errors import Corrupt, Fenced, NotFound
from leptonai.core.nouns import Dataset, Run
from leptonai.core.ranks import ALONE, Rank
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import PREDICTOR, READER, Predictor, Reader, load
from leptonai.core.states import RunState
from leptonai.sdk.http import Http


class RunHandle:
    """One attempt at a Run. When its lease is lost the process ends, whatever it is doing.

    Of several processes the first one speaks for all: what the others would log, say or save is left out.
    """

    def __init__(
        self,
        run: Run,
        http: Http,
        store_url: str | None,
        folder: Path | None = None,
        rank: Rank = ALONE,
        *,
        silent: bool = False,
        place: Mapping[str, Any] | None = None,
    ):
        self.run = run
        self.rank = rank
        self.place = None if place is None else {**place, "helper": _helper(run, http, store_url)}
        self._http, self._store_url, self._folder = http, store_url, folder
        self.cache = None if folder is None else folder.parent.parent / "cache"  # it runs in HOME/jobs/ID
        self.blobs, self.raw, self.pii = keyring.stores(http, store_url)
        self._checkpoint, self._earlier = dict(run.checkpoint or {}), dict(run.earlier or {})
        # Processes on one machine print to one file, which the first of them follows.
        followed = None if rank.number and rank.meet else folder
        self._sender = Mute() if silent else Sender(self._post_events, followed)

    def twin(self) -> "RunHandle":
        """Return a handle of this attempt for a process that was forked from its own: silent, with connections of its own."""
        http = Http(self._http.base_url, self._http.key)
        return RunHandle(self.run, http, self._store_url, self._folder, silent=True)

    def data(self, ref: str, *, mask: bool = False) -> Reader:
        """Open a dataset version, or a part of one, by reference; with `mask` without values of personal columns."""
        parsed = DatasetRef.parse(ref)
        name = parsed.name + (f"@v{parsed.version}" if parsed.version else "")
        dataset = Dataset.model_validate(self._http.call("GET", f"/datasets/{quote(name)}"))
        return cast(Reader, load(READER)(dataset, parsed.splits, self, mask))

    def pepper(self, dataset: str) -> bytes:
        """Return the key of keyed digests of this dataset's values."""
        found = self._http.call("POST", f"/datasets/{quote(dataset)}/pepper")
        return base64.b64decode(found["pepper"])

    def model(self, run: str) -> Predictor:
        """Open what a training Run learnt."""
        return cast(Predictor, load(PREDICTOR)(self.get(run), self))

    def get(self, run: str) -> Run:
        """Return another Run."""
        return Run.model_validate(self._http.call("GET", f"/runs/{quote(run)}"))

    def log(self, step: int, **metrics: float) -> None:
        """Add to the Run's metric series; a value that is not finite is kept as null."""
        if self.rank.number:
            return
        self._sender.put("metric", {"step": int(step), **{name: finite(value) for name, value in metrics.items()}})

    def say(self, line: str) -> None:
        """Add a line to the Run's log."""
        if self.rank.number:
            return
        self._sender.put("log", {"line": line})

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say how far the Run is."""
        if self.rank.number:
            return
        self._sender.put("progress", {"done": finite(done), "total": finite(total), "unit": unit})

    def note(self, *entries: Mapping[str, Any]) -> None:
        """Add to the Run's journal: what is written under this attempt's epoch, so that no lost attempt writes after the next."""
        body = {"epoch": self.run.epoch, "events": [event("trial", dict(entry)) for entry in entries]}
        self._held(lambda: self._http.call("POST", f"/runs/{self.run.id}/events", json=body))

    def noted(self) -> list[dict[str, Any]]:
        """Return the journal, oldest first."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            asked = {"after": after, "streams": "trial", "limit": 1000}
            page = self._http.call("GET", f"/runs/{self.run.id}/events", params=asked)["items"]
            if not page:
                return found
            found += [item["body"] for item in page]
            after = page[-1]["seq"]

    def save(self, state: Mapping[str, bytes]) -> None:
        """Keep a checkpoint: every file is on disk before the Run points at it. The one before is kept, too."""
        if self.rank.number:
            return
        files = {name: self.blobs.write([data]).id for name, data in state.items()}
        body = {"epoch": self.run.epoch, "files": files}
        self._held(lambda: self._http.call("POST", f"/runs/{self.run.id}/checkpoint", json=body))
        for blob in set(self._earlier.values()) - set(self._checkpoint.values()) - set(files.values()):
            self.raw.delete(blob)
        self._checkpoint, self._earlier = files, self._checkpoint

    def restore(self) -> dict[str, bytes] | None:
        """Return the last checkpoint, the one before where that cannot be read, or None. Raises `Corrupt`, `NotFound`."""
        if not self._checkpoint:
            return None
        try:
            return self._read(self._checkpoint)
        except (Corrupt, NotFound) as error:
            if not self._earlier:
                raise
            self.say(f"the last checkpoint cannot be read, the one before is taken: {error.message}")
            return self._read(self._earlier)

    def _read(self, files: Mapping[str, str]) -> dict[str, bytes]:
        found = {}
        for name, blob in files.items():
            with self.blobs.open(blob) as file:
                found[name] = file.read()
        return found

    def finish(
        self,
        state: RunState,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        retry: bool = False,
    ) -> None:
        """Send what is left of the events, then end the Run."""
        self._sender.close()
        body = {"epoch": self.run.epoch, "state": state.value, "result": result, "error": error, "retry": retry}
        self._held(lambda: self._http.call("POST", f"/runs/{self.run.id}/finish", json=body))

    def close(self) -> None:
        """Send what is left of the events, as far as a second allows, and leave the Run to the agent."""
        self._sender.close(1.0)

    def _post_events(self, events: list[dict[str, Any]]) -> None:
        self._http.call("POST", f"/runs/{self.run.id}/events", json={"epoch": self.run.epoch, "events": events})

    def _held(self, call: Any) -> Any:
        answer = deliver(call)
        if answer is Fenced:
            fenced()
        return answer


def _helper(run: Run, http: Http, store_url: str | None) -> dict[str, Any]:
    """Return what `agent.away` makes a handle of."""
    return {"run": run.model_dump(mode="json"), "host": http.base_url, "token": http.key, "store_url": store_url}
