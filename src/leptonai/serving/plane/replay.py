"""A new version is asked what the service was asked lately, and its answers are held against those of the stable one."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import LeptonError
from leptonai.serving.plane.alike import Spread, alike
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.replica import Replica
from leptonai.serving.seen import Seen
from leptonai.serving.tally import Tally

if TYPE_CHECKING:
    from leptonai.serving.plane.router import Route

STABLE, NEW, DONE = "replay-stable", "replay-new", "replay-done"  # what the tallies are called
STEP = -1  # of a rollout, in which requests are replayed
SECONDS = 5.0  # what it takes at most
EACH_SECONDS = 5.0


async def replay(recent: Sequence[Seen], stable: "Route", other: "Route", tallies: Mapping[str, Tally]) -> None:
    """Ask both versions each of the requests, one at a time among the live ones, and count in the tallies named above.

    What the stable version answered then is compared where it is known, else what it answers now; what it cannot answer
    does not count.
    """
    until, spread = time.monotonic() + SECONDS, Spread()
    for seen in reversed(recent):  # the newest first: there may be no time for all
        if time.monotonic() > until:
            break
        wanted, seconds = await _ask(stable.replica, seen.inputs)
        if wanted is None:
            continue
        tallies[STABLE].count(seconds, failed=False)
        found, seconds = await _ask(other.replica, seen.inputs)
        tallies[NEW].count(seconds, failed=found is None)
        if found is not None:
            recorded = seen.outputs if seen.model == stable.replica.model.id and seen.outputs else wanted
            tallies[NEW].compare(_share(stable, recorded, found, spread))
        await asyncio.sleep(0)
    tallies[DONE].count(0.0, failed=False)


def _share(stable: "Route", wanted: Mapping[str, Any], found: Mapping[str, Any], spread: Spread) -> float:
    try:
        return alike(stable.replica.model.signature, wanted, found, spread)
    except (TypeError, ValueError):  # answers of another kind
        return 0.0


async def _ask(replica: Replica, inputs: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, float]:
    """Return the outputs, None where there are none, and the seconds that took."""
    start = time.perf_counter()
    answered: asyncio.Future[Item] = asyncio.get_running_loop().create_future()
    replica.hold()
    try:
        replica.submit(inputs, answered.set_result, EACH_SECONDS)
        outcome = (await answered).outcome
    except (LeptonError, ValueError, KeyError):
        outcome = None
    finally:
        replica.release()
    return (outcome if isinstance(outcome, Mapping) else None), time.perf_counter() - start
