"""What a Service keeps in the memory of its Site, as user code holds it: the part of `sdk.services.Service` that says."""

import time
from typing import TYPE_CHECKING, Any, Self

from leptonai.core.errors import Conflict
from leptonai.core.nouns import Memory
from leptonai.core.nouns import Service as ServiceRecord
from leptonai.sdk import wire

if TYPE_CHECKING:
    from leptonai.sdk.client import Client
    from leptonai.sdk.http import Http

LOAD_SECONDS = 60.0  # for a model to be loaded, or for its last requests to be answered
HEARD_SECONDS = 3.0  # until the server has heard of it: the agent tells once a second


class Keeping:
    """Load, unload, pin."""

    record: ServiceRecord
    _client: "Client"

    @property
    def http(self) -> "Http":
        """The connection to its server."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it answers."""
        raise NotImplementedError

    def refresh(self) -> Self:
        """Ask the server how it stands."""
        raise NotImplementedError

    def load(self) -> Self:
        """Have its model in memory now, before somebody calls it. Raises `Unavailable` with the reason when it cannot be."""
        return self._manage("load")

    def unload(self) -> Self:
        """Have its model leave memory when what it was given is answered; callers get an error until `load`.

        Raises `Conflict` when it is pinned.
        """
        return self._manage("unload")

    def pin(self) -> Self:
        """Keep its model in memory whatever else is called. Raises `Conflict` when more would be pinned than there is room for."""
        self.memory(pin=True)
        return self

    def unpin(self) -> Self:
        """Let its model leave memory for others again."""
        self.memory(pin=False)
        return self

    def memory(self, **kept: Any) -> Memory:
        """Change what it keeps in memory, and return it. What is not given stays. Raises `Invalid`, and `Conflict` as `pin`.

        `pin`: its model leaves memory for no other one. `idle_seconds`: without a request, after which it leaves until the
        next one comes, which waits for it; 0 for never, None as the Site's setting says. `answers_mb`: how many MiB of answers
        each serving process remembers, so that the same request is not computed again; 0 for none.
        """
        from leptonai.sdk.specs import check

        now = self.refresh().record.memory
        if not kept:
            return now
        made = check(Memory, {**now.model_dump(), **kept}, "memory")
        path = f"/services/{self.record.name}/memory"
        self.record = ServiceRecord.model_validate(self.http.call("PUT", path, json=made.model_dump(mode="json")))
        return made

    def _manage(self, op: str) -> Self:
        base, name = self.url.partition("/services/")[0], self.record.name
        until = time.monotonic() + HEARD_SECONDS
        while True:
            answer = self._client.plane(base).raw("POST", f"/v2/repository/models/{name}/{op}", timeout=LOAD_SECONDS)
            if answer.status < 400:
                break
            error = wire.error_of(answer.status, answer.headers, answer.body, f"service {name}")
            if not isinstance(error, Conflict) or time.monotonic() > until or self.refresh().record.memory.pin:
                raise error
            time.sleep(0.1)  # it was pinned until just now, and its Site has not heard of that yet
        until = time.monotonic() + HEARD_SECONDS
        while (self.refresh().record.status.memory == "unloaded") != (op == "unload") and time.monotonic() < until:
            time.sleep(0.1)
        return self


def kept(record: ServiceRecord) -> str:
    """Return what is in memory of a service, for people to read; "" when nothing answers."""
    words = {
        "cold": "absent, loaded by the next call",
        "idle": "absent since nobody calls, loaded by the next call",
        "unloaded": "unloaded",
    }
    word = words.get(record.status.memory, record.status.memory)
    return ", ".join(filter(None, (word, "pinned" if record.memory.pin else "")))
