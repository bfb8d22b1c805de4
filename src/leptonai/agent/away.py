"""A process that helps a Run from another machine of its Site: it has the Run's handle, but for its voice."""

from pathlib import Path
from typing import Any

from leptonai.agent.handle import RunHandle
from leptonai.core.nouns import Run
from leptonai.core.stages import load
from leptonai.sdk.http import Http


def main(payload: dict[str, Any]) -> None:
    """Do ``payload["work"]``, which gets the payload and a handle. The rest of it is what `RunHandle.place` has for it."""
    http = Http(payload["host"], payload["token"])
    handle = RunHandle(Run.model_validate(payload["run"]), http, payload["store_url"], Path.cwd(), silent=True)
    try:
        load(payload["work"])(payload, handle)
    finally:
        handle.close()
        http.close()
