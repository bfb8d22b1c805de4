"""A server as the engine sees one, for the test with many agents: a process with a Queue on the database, asked by a socket.

    python -m tests.runs.engine_server SOCKET DATABASE_URL LEASE_SECONDS

One connection is one request: a line of JSON there, a line of JSON back.
"""

import json
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any

from leptonai.core import plugins
from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Event
from leptonai.core.states import RunState
from leptonai.runs.queue import Queue


def answer(queue: Queue, do: str, agent: str, run: str = "", epoch: int = 0, **more: Any) -> Any:
    """Do what an agent asks for."""
    if do == "claim":
        claim = queue.claim("home", agent)
        return None if claim is None else {"run": claim.run.id, "epoch": claim.run.epoch}
    if do == "append":
        return queue.append(run, epoch, [Event(stream="log", body=more["body"])])
    if do == "heartbeat":
        return queue.heartbeat(agent, [(run, epoch)])[run]
    ended = queue.finish(run, epoch, RunState(more["state"]), result=more.get("result"), retry=more.get("retry", False))
    return str(ended.state)


def main(socket: str, url: str, lease: float) -> None:
    queue = Queue(plugins.catalog(url), lease_seconds=lease)

    class Desk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                said = {"ok": answer(queue, **json.loads(self.rfile.readline()))}
            except LeptonError as error:
                said = {"error": error.code}
            self.wfile.write(json.dumps(said).encode() + b"\n")

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    Path(socket).unlink(missing_ok=True)  # of the one that was killed
    server = Server(socket, Desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    while True:
        time.sleep(0.3)
        try:
            queue.expire()
        except LeptonError as error:
            print(error, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
