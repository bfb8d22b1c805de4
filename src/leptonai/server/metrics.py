"""The server's own numbers, as Prometheus reads them. Labels are routes, never what a caller made up."""

import threading
from collections import defaultdict

from leptonai import __version__


class Metrics:
    """Counts answers and the time they took. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is the path as the route table has it; seconds include waiting, of long polls too."""
        with self._lock:
            self._answers[method, route, status] += 1
            self._seconds[method, route] += seconds

    def text(self) -> str:
        """Return all of it in the text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        with self._lock:
            answers, seconds = sorted(self._answers.items()), sorted(self._seconds.items())
        lines = [
            "# HELP leptonai_server_info The version of the server.",
            "# TYPE leptonai_server_info gauge",
            f'leptonai_server_info{{version="{__version__}"}} 1',
            "# HELP leptonai_http_requests_total Answers of the control API by route and status.",
            "# TYPE leptonai_http_requests_total counter",
            *(
                f'leptonai_http_requests_total{{method="{method}",route="{route}",code="{code}"}} {count}'
                for (method, route, code), count in answers
            ),
            "# HELP leptonai_http_request_seconds_total Time until they were answered, the waiting of long polls included.",
            "# TYPE leptonai_http_request_seconds_total counter",
            *(
                f'leptonai_http_request_seconds_total{{method="{method}",route="{route}"}} {total:.6f}'
                for (method, route), total in seconds
            ),
        ]
        return "\n".join(lines) + "\n"
