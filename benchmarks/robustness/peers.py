"""The two configurations of each peer: as it comes, and with what its pages offer against these attacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.peers_list import Variant

from robustness.report import ROWS


@dataclass(frozen=True)
class Configuration:
    """A way to run a product, and the rows in which it differs from the default one."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[int] = tuple(ROWS)

    @property
    def variant(self) -> Variant:
        """It, as the serving benchmark knows it."""
        return Variant(self.name, {"BENCH_WORKERS": "1", **self.environment})


_DEFAULT = Configuration("default", {"BENCH_QUICKSTART": "1"})
_LOAD = (7, 19)
_TWO = {"BENCH_WORKERS": "2"}
_GUARDED = {**_TWO, "BENCH_GUARDED": "1"}

CONFIGURATIONS: Mapping[str, Sequence[Configuration]] = {
    "fastapi": (_DEFAULT, Configuration("2 workers, connection limit", _GUARDED, (6, *_LOAD))),
    "bentoml": (_DEFAULT, Configuration("2 workers, concurrency limit", _GUARDED, _LOAD)),
    "litserve": (_DEFAULT, Configuration("2 workers, restart, payload limit", _GUARDED, (4, *_LOAD))),
    "mlserver": (_DEFAULT, Configuration("2 workers", _TWO, _LOAD)),
    "kserve": (_DEFAULT, Configuration("2 workers", _TWO, _LOAD)),
    "mlflow": (_DEFAULT, Configuration("2 workers", _TWO, _LOAD)),
    "ray": (_DEFAULT, Configuration("2 replicas, queue limit", _GUARDED, _LOAD)),
}
