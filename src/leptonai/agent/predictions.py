"""Keeps the prediction logs of a Site: what the planes looked at is fetched, redacted, sealed, stored and handed in.

Nothing of a request waits for this: a plane holds a bounded number of entries, and so does the agent. What cannot be kept, as
the disk is full, the server away for long, or the day's bytes are used up, is dropped and counted. A batch is stored whole
before the server hears of it, so a death loses the last seconds and never leaves half a batch.
"""

import contextlib
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from leptonai.agent.plane_process import PlaneProcess
from leptonai.core.errors import Busy, Invalid, LeptonError, NotFound, Unavailable
from leptonai.core.nouns import PredictionLog
from leptonai.core.ports import Store
from leptonai.sdk.http import Http
from leptonai.serving.seen import Seen

WAIT_SECONDS = 20.0
FETCH_SECONDS = 1.0
BATCH_SECONDS = 5.0  # after which what there is becomes a batch
BATCH_BYTES = 8 * 2**20
HELD_BYTES = 64 * 2**20  # while the server or the store is away
_DAY = 86400.0

_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """What is to be kept of a Service."""

    id: str
    log: PredictionLog
    salt: bytes


class Waiting(NamedTuple):
    """Entries of one Service and one Model that are no batch yet."""

    entries: list[Seen]
    since: float  # of `time.monotonic`


class PredictionLogs:
    """The prediction logs of one Site. `watch` is the loop of one thread, `run` that of another."""

    def __init__(
        self,
        site: str,
        http: Http,
        blobs: Callable[[], Store],
        planes: Callable[[], list[PlaneProcess]],
        stopping: threading.Event,
    ):
        self._site = site
        self._http = http
        self._blobs = blobs
        self._planes = planes
        self._stopping = stopping
        self._wanted: Mapping[str, Wanted] = {}
        self._told: dict[int, Any] = {}  # process id of a plane -> what it was told last
        self._waiting: dict[tuple[str, str], Waiting] = {}
        self._held = 0
        self._dropped: Counter[str] = Counter()  # by Service, since its last batch
        self._lost: dict[int, int] = {}  # process id of a plane -> entries that it dropped
        self._used: defaultdict[tuple[str, int], int] = defaultdict(int)  # bytes by Service and day

    def watch(self) -> None:
        """Ask the server what is to be kept, until the agent stops."""
        fingerprint, pause = "", 0.1
        while not self._stopping.is_set():
            asked = {"after": fingerprint or None, "wait": WAIT_SECONDS}
            try:
                answer = self._http.call("GET", f"/sites/{self._site}/logs", params=asked, timeout=WAIT_SECONDS + 15)
            except LeptonError as error:
                _log.warning("prediction logs: %s", error.message)
                self._stopping.wait(pause)
                pause = min(pause * 2, 5.0)
                continue
            pause, fingerprint = 0.1, answer["fingerprint"]
            self._wanted = {
                item["name"]: Wanted(item["id"], PredictionLog.model_validate(item["log"]), item["salt"].encode())
                for item in answer["logs"]
            }

    def run(self) -> None:
        """Fetch, and write batches, until the agent stops; then write what is left."""
        while not self._stopping.wait(FETCH_SECONDS):
            self._turn()
        self._turn(last=True)

    def _turn(self, *, last: bool = False) -> None:
        for plane in self._planes():
            with contextlib.suppress(Unavailable, Invalid):  # it died, and is started again
                self._fetch(plane)
        now = time.monotonic()
        for key, waiting in tuple(self._waiting.items()):
            size = sum(entry.bytes for entry in waiting.entries)
            if last or size >= BATCH_BYTES or now - waiting.since >= BATCH_SECONDS:
                self._batch(key, waiting, size)

    def _fetch(self, plane: PlaneProcess) -> None:
        shares = {name: wanted.log.share for name, wanted in self._wanted.items()}
        if self._told.get(plane.pid) != shares:
            plane.watch(shares)
            self._told = {one.pid: self._told.get(one.pid) for one in self._planes()} | {plane.pid: shares}
        entries, dropped = plane.logged()
        lost, self._lost[plane.pid] = dropped - self._lost.get(plane.pid, 0), dropped
        for entry in entries:
            wanted = self._wanted.get(entry.service)
            if wanted is None or wanted.log.share == 0:
                continue
            self._dropped[entry.service] += lost
            lost = 0
            size = entry.bytes
            day = int(entry.time // _DAY)
            over = self._used[entry.service, day] >= wanted.log.megabytes * 1e6
            if over or self._held + size > HELD_BYTES:
                self._dropped[entry.service] += 1
                continue
            self._held += size
            key = entry.service, entry.model
            self._waiting.setdefault(key, Waiting([], time.monotonic())).entries.append(entry)

    def _batch(self, key: tuple[str, str], waiting: Waiting, size: int) -> None:
        """Make what waits a batch; keep it waiting while the server is away."""
        service, model = key
        wanted = self._wanted.get(service)
        try:
            if wanted is not None:
                self._write(service, model, wanted, waiting.entries)
        except (Busy, Unavailable) as error:
            _log.warning("prediction log of %s: %s", service, error.message)
            return
        except NotFound:
            pass  # the Service was deleted just now
        except LeptonError as error:  # such as a full disk: these are gone, the next ones may fit
            self._dropped[service] += len(waiting.entries)
            _log.warning(
                "prediction log of %s: %d requests are not kept: %s", service, len(waiting.entries), error.message
            )
        del self._waiting[key]
        self._held -= size

    def _write(self, service: str, model: str, wanted: Wanted, entries: list[Seen]) -> None:
        from leptonai.serving import logged  # pyarrow, only where something is logged

        data, rows = logged.parquet([logged.redacted(entry, wanted.log, wanted.salt) for entry in entries])
        blob = self._blobs().write([data]).id
        dropped = self._dropped.pop(service, 0)
        times = [entry.time for entry in entries]
        body = {
            "service": wanted.id,
            "model": model,
            "blob": blob,
            "rows": rows,
            "bytes": len(data),
            "since": datetime.fromtimestamp(min(times), UTC).isoformat(),
            "until": datetime.fromtimestamp(max(times), UTC).isoformat(),
            "dropped": dropped,
        }
        try:
            self._http.call("POST", f"/sites/{self._site}/predictions", json=body)
        except LeptonError:
            self._dropped[service] += dropped
            raise
        self._used[service, int(max(times) // _DAY)] += len(data)
