"""What one address may do over gRPC in this process: so many connections, and so many inferences a second."""

import time

from leptonai.core.errors import Busy

REMEMBERED = 4096  # addresses


class Limits:
    """Counts by address. `rate` and `connections`: 0 for any number; `burst`: inferences at once."""

    def __init__(self, connections: int = 0, rate: float = 0.0, burst: float = 1.0):
        self.rate = rate
        self._most = connections
        self._burst = max(1.0, burst)
        self._connections: dict[str, int] = {}
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, and when that was so

    def opened(self, address: str) -> bool:
        """Count a connection; return whether the address may have it."""
        count = self._connections[address] = self._connections.get(address, 0) + 1
        return not self._most or count <= self._most

    def closed(self, address: str) -> None:
        """Count a connection no more."""
        left = self._connections.get(address, 0) - 1
        if left > 0:
            self._connections[address] = left
        else:
            self._connections.pop(address, None)

    def take(self, address: str) -> None:
        """Count an inference. Raises `Busy` with the seconds after which the address may ask again."""
        if not self.rate:
            return
        now = time.monotonic()
        left, then = self._buckets.get(address, (self._burst, now))
        left = min(self._burst, left + (now - then) * self.rate)
        if left < 1.0:
            raise Busy(
                f"more than {self.rate:g} requests a second come from {address}: send fewer",
                retry_after=(1.0 - left) / self.rate,
            )
        if len(self._buckets) >= REMEMBERED:  # a full bucket is as good as none
            full = [key for key, (had, at) in self._buckets.items() if had + (now - at) * self.rate >= self._burst]
            for key in full or list(self._buckets)[: REMEMBERED // 2]:
                del self._buckets[key]
        self._buckets[address] = (left - 1.0, now)
