"""BentoML: the sum of 784 numbers, with its adaptive batching where BENCH_BATCHING is set."""

import os

import bentoml
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, traffic={"timeout": 30}, metrics={"enabled": False})
class Total:
    if os.environ.get("BENCH_BATCHING"):

        @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
        async def predict(self, instances: np.ndarray) -> np.ndarray:
            return np.asarray(instances, np.float32).sum(axis=1)

    else:

        @bentoml.api
        async def predict(self, instances: list[list[float]]) -> list[float]:
            return np.array(instances, np.float32).sum(axis=1).tolist()
